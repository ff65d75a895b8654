"""The one door to Hydra: objects from specifications, and the start of a job."""

import copy
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.utils import get_class, get_method, get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from mke_ray.config_help import JobHelp, dotted_keys, explanation, group_lines, nearest
from mke_ray.config_keys import check_keys, explained_reference, nearest_key
from mke_ray.config_predict import ExportConfig, PredictConfig
from mke_ray.config_schema import JobConfig
from mke_ray.config_shown import hide_secrets, is_secret_name
from mke_ray.config_values import (
    named,
    recomposed,
    usual_values,
    winner_words,
    with_winner,
    without_winner,
)
from mke_ray.errors import ConfigError, MkeRayError

TRUSTED_PREFIXES = ("mke_ray.", "torch.nn.", "torch.optim.", "transformers.")

FILE_KEYS = ("path", "table", "files")  # of teachers: what lies in the folder of the user
FUNCTION = "function"  # the key of a function that is called, as of CallableTeacher
_OF_A_SUBMITTED_JOB = "/runtime_resources/working_dir_files/"
_OVERRIDDEN = re.compile(r"Could not override '([^']+)'")
_OF_ADDED_GROUP = re.compile(r"To append to your default list use (\S+)")
_NOT_IN_SECTION = re.compile(r"raised while composing config:\s+Key '.*\s+full_key: (\S+)")
_QUOTES = """a value with braces, brackets, commas or colons is put in quotes: 'KEY="VALUE"'"""
_UNHELPFUL = (
    "object_type",
    "reference_type",
    "Config search path",
    "provider=",
    "To append",
)

_FEW_KEYS = 32  # of one job, which are all told where none is near

_log = logging.getLogger(__name__)
_told_to_end: list[int] = []  # numbers of the signals that told this process to end

_Built = TypeVar("_Built")


def plain(node: Any) -> Any:
    """Return plain dicts, lists and scalars of a configuration node, resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def build(spec: Mapping[str, Any], expect: type[_Built] | None = None, **extra: Any) -> Any:
    """Build the object that a specification names.

    Args:
        spec: ``{"_target_": "package.Class", **arguments}``; nested specifications are built too.
        expect: Type or runtime-checkable Protocol that the result must be.
        extra: Further keyword arguments, of any type, which win over the specification's.

    Raises:
        ConfigError: There is no such class, its arguments do not fit, or it is of another type.
    """
    target = spec.get("_target_")
    if not isinstance(target, str):
        given = hide_secrets(spec)
        raise ConfigError(f"_target_ is missing in {given}; name a class as package.Class")
    for _, one in _targets(dict(spec), ""):
        _check_home(one)
    try:
        built = instantiate(dict(spec), _convert_="all", _partial_=True)(**extra)
    except HydraException as error:
        cause = error.__cause__ or error
        if isinstance(cause, MkeRayError):
            raise cause from None
        raise ConfigError(f"_target_={target}: {_one_line(cause)}") from error
    except TypeError as error:
        raise ConfigError(f"_target_={target}: {_one_line(error)}") from error
    if expect is not None and not isinstance(built, expect):
        raise ConfigError(f"_target_={target} is not a {expect.__name__}")
    return built


def _check_home(target: str) -> None:
    """Refuse what a trusted package merely imported from elsewhere."""
    if not target.startswith(TRUSTED_PREFIXES):
        return  # trusted by name, or refused when the job was composed
    try:
        home = get_object(target).__module__
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(f"_target_={target}: {_one_line(error)}") from error
    if not f"{home}.".startswith(TRUSTED_PREFIXES):
        raise ConfigError(f"_target_={target} is {home}, which is outside the trusted packages")


def find_class(target: str) -> type:
    """Return the class of a trusted ``_target_`` of the configuration.

    Raises:
        ConfigError: There is no such class.
    """
    try:
        return get_class(target)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"_target_={target}: {_one_line(error)}") from error


def check_targets(node: Any, allowed: list[str], key: str = "") -> None:
    """Refuse every ``_target_`` and ``function`` outside the trusted packages.

    Args:
        node: Plain configuration.
        allowed: Further packages that the user trusts.
        key: Dotted key of the node, for the error.

    Raises:
        ConfigError: A target is not trusted; the error names its key.
    """
    trusted = (*TRUSTED_PREFIXES, *(f"{one.rstrip('.')}." for one in allowed))
    for name, target in _targets(node, key):
        if not f"{target}".startswith(trusted):
            raise ConfigError(
                f"{name}={target} is outside the trusted packages; "
                f"add allow_targets=[{str(target).split('.', maxsplit=1)[0]}] if you trust it"
            )


def jobs_from(cfg: DictConfig) -> list[JobConfig]:
    """Return one job, or with ``data_seeds=N`` one job per draw of the data.

    Each draw has its own ``data_seed`` (0 to N - 1) and its own folder below ``root``.

    Raises:
        ConfigError: A key is in no section, or refers to one that is not there, a target is not
            trusted, a value does not fit its type, or draws would be the same.
    """
    check_keys(cfg, JobConfig)
    try:
        return _jobs_of(cfg)
    except InterpolationKeyError as error:
        raise explained_reference(error, cfg) from error


def jobs_with() -> Callable[[Mapping[str, Any]], JobConfig]:
    """Return what gives the job of the running command line with values in the place of its own.

    It takes values as ``recomposed`` does, and raises ``ConfigError`` where a key is not there or a
    value does not fit.
    """
    lines, of_winner = without_winner(overrides())
    known: dict[tuple[str, ...], DictConfig] = {}

    def job_with(values: Mapping[str, Any]) -> JobConfig:
        return jobs_from(recomposed(lines, {**of_winner, **values}, known))[0]

    return job_with


def usual_of(keys: Sequence[str]) -> dict[str, Any]:
    """Return what some keys are in the running job, as far as it has them.

    Args:
        keys: Dotted keys, of groups the group.
    """
    return usual_values(*without_winner(overrides()), keys)


def _jobs_of(cfg: DictConfig) -> list[JobConfig]:
    """Return the jobs of a configuration whose keys are known."""
    cfg = copy.deepcopy(cfg)
    cfg.root = _lasting(cfg.root)  # workers may have another working folder
    if cfg.data_seeds is None:
        return [job_from(cfg)]
    if cfg.data_seeds < 1:
        raise ConfigError(f"data_seeds={cfg.data_seeds}; give the number of draws, at least 1")
    _check_redrawn(cfg)
    drawn = []
    for data_seed in range(cfg.data_seeds):
        one = copy.deepcopy(cfg)
        one.root = f"{cfg.root}/data-seed-{data_seed}"
        one.data_seed = data_seed
        drawn.append(job_from(one))
    return drawn


def _check_redrawn(cfg: DictConfig) -> None:
    """Refuse draws that would all be the same.

    Raises:
        ConfigError: The source draws nothing from its seed.
    """
    repeat = "every draw would be the same; repeat over networks with model_seeds=[0,1,2]"
    if "data_seed" not in cfg.source:
        target = cfg.source.get("_target_")
        raise ConfigError(
            f"data_seeds={cfg.data_seeds}: source={target} has no data_seed, so {repeat}"
        )
    if "splits" in cfg.source and cfg.source.splits is None:
        raise ConfigError(
            f"data_seeds={cfg.data_seeds}: source.splits=null reads the splits from the table, so "
            f"{repeat}, or draw splits with source.splits"
        )


def job_from(cfg: DictConfig) -> JobConfig:
    """Return the typed configuration of a job, resolved and checked.

    Raises:
        ConfigError: A target is not trusted or a value does not fit its type.
    """
    job = OmegaConf.to_object(cfg)
    if not isinstance(job, JobConfig):
        raise ConfigError("the configuration lost its schema; keep job_schema in conf/config.yaml")
    check_targets(plain(cfg), job.allow_targets)
    _make_absolute(job.source)
    if job.focus.samples is not None:
        job.focus.samples = _absolute(job.focus.samples)
    if not job.teacher.train:
        job.teacher.network = _with_absolute_files(job.teacher.network)
    job.more_teachers = _with_absolute_files(job.more_teachers)
    return job


def _make_absolute(source: dict[str, Any]) -> None:
    """Make the folders of a source those of this working folder, wherever they are read."""
    # The table of a source lies below its root, or alone anywhere.
    folder = "root" if source.get("root") else "table"
    for key in (folder, "made"):
        if isinstance(source.get(key), str):
            source[key] = _absolute(source[key])
    if isinstance(source.get("places"), list):
        source["places"] = [_absolute(str(one)) for one in source["places"]]


def _with_absolute_files(node: Any, key: str = "") -> Any:
    """Return the specification of a teacher with the files here that it names, from any folder."""
    if isinstance(node, Mapping):
        return {name: _with_absolute_files(child, str(name)) for name, child in node.items()}
    if isinstance(node, list):
        return [_with_absolute_files(child, key) for child in node]
    is_file = key in FILE_KEYS and isinstance(node, str) and os.path.exists(node)
    return _absolute(node) if is_file else node


def _absolute(uri: str) -> str:
    """Return a URI as it is, and a local path so that every process finds it."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def _lasting(root: str) -> str:
    """Return a root so that every process finds it, now and later.

    Raises:
        ConfigError: It lies in the folder of a submitted job, which Ray deletes.
    """
    absolute = _absolute(root)
    if _OF_A_SUBMITTED_JOB in absolute:
        raise ConfigError(
            f"root={root} would lie in the temporary working folder of a submitted job and be gone "
            "with it; name an absolute folder that every node sees, or an object store such as "
            "s3://bucket/runs/1"
        )
    return absolute


def shown(job: JobConfig) -> dict[str, Any]:
    """Return the configuration of a job as it may be shown and stored: without secrets.

    Values below keys that may hold credentials (options of file systems, environment variables)
    and passwords in URIs are hidden.
    """
    return hide_secrets(asdict(job))


def to_yaml(job: JobConfig) -> str:
    """Return the resolved configuration of a job as YAML, without secrets."""
    return OmegaConf.to_yaml(OmegaConf.create(shown(job)))


def run_job(
    stages: str,
    job_file: str,
    *,
    schema: type = JobConfig,
    config_name: str = "config",
    help_of: JobHelp | None = None,
) -> None:
    """Compose the configuration from the command line and run a job on it.

    Errors that a user can mend end the process with one line and exit status 2. SIGTERM ends it
    as Ctrl-C does: the root is given back and the MLflow run closed.

    Args:
        stages: Dotted name of the function that the job calls with one configuration per draw of
            the data; it is imported when the configuration is right.
        job_file: ``__file__`` of the job; ``conf/`` lies beside its folder.
        schema: Dataclass of the configuration; one other than ``JobConfig`` has no draws.
        config_name: Its file below ``conf/``.
        help_of: What ``--help`` says of it, None for what the configuration says of all jobs.
    """
    config_dir = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(job_file))), "conf")
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    register_schema()
    ConfigStore.instance().store(name=f"{config_name}_schema", node=schema)
    _register_help(schema, help_of, config_dir)

    @hydra.main(version_base="1.3", config_path=config_dir, config_name=config_name)
    def main(cfg: DictConfig) -> None:
        try:
            drawn: list[Any] = (
                jobs_from(with_winner(cfg, overrides()))
                if schema is JobConfig
                else [_typed(cfg, schema)]
            )
            _set_up_logging(verbose=drawn[0].verbose)
            if schema is JobConfig and (values := values_of_winner()):
                _log.info("the winner sets %s", winner_words(values))
            get_method(stages)(drawn)
        except MkeRayError as error:
            _leave(f"{type(error).__name__}: {error}", job_file)
        except OmegaConfBaseException as error:
            _leave(f"ConfigError: {_one_line(error)}", job_file)

    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except SystemExit as ended:
        # Ray's own handler may be there while Ray starts, and drops the number where it waits.
        if not _told_to_end and ended.code != signal.SIGTERM:
            raise
        sys.stderr.write("Stopped by SIGTERM; the same line goes on where this one stopped\n")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(signal.SIGTERM)  # all is closed; what Ray does at exit aborts some processes
    except OverrideParseException as error:
        key = error.override.partition("=")[0]
        _leave(f"ConfigError: {key}: {_one_line(error)}; {_QUOTES}", job_file)
    except (HydraException, OmegaConfBaseException) as error:
        hint = _hint(str(error), config_dir, config_name, schema)
        _leave(f"ConfigError: {_one_line(error)}{hint}", job_file)


def _end(number: int, _: object) -> None:
    """End this process through all that has to be closed, as the handler that Ray sets does."""
    _told_to_end.append(number)
    sys.exit(number)


def _typed(cfg: DictConfig, schema: type) -> Any:
    """Return a configuration as an object of its schema."""
    check_keys(cfg, schema)
    later = getattr(schema, "filled_in_later", ())
    if left := sorted(OmegaConf.missing_keys(cfg) - set(later)):
        raise ConfigError(f"{left[0]} is missing; give {left[0]}=...")
    for key in OmegaConf.missing_keys(cfg):
        OmegaConf.update(cfg, key, None)
    job = OmegaConf.to_object(cfg)
    if isinstance(job, PredictConfig):
        check_targets(plain(cfg), job.allow_targets)
        job.root = _absolute(job.root)
        job.student.path = _absolute(job.student.path)
        _make_absolute(job.source)
    if isinstance(job, ExportConfig):
        job.root = _absolute(job.root)
    return job


def _register_help(schema: type, help_of: JobHelp | None, config_dir: str) -> None:
    """Register what the template of ``--help`` asks for; a dollar sign in it is doubled."""
    texts: dict[str, str] = {}
    if help_of is not None:
        texts = {"header": help_of.begin(schema), "footer": help_of.footer}
    resolvers: dict[str, Callable[..., str]] = {
        "explained_keys": lambda: explanation(schema).replace("$", "$$"),
        "groups_of_job": lambda *names: group_lines(config_dir, names),
        "help_of_job": lambda part, usual: str(texts.get(part, usual)).replace("$", "$$"),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _hint(message: str, config_dir: str, config_name: str, schema: type) -> str:
    """Return what a wrong key of the command line or a file was probably meant to be."""
    if found := _NOT_IN_SECTION.search(message):
        section, _, key = found[1].rpartition(".")
        near = nearest_key(section, key, schema)
        return f"; did you mean {near}?" if near else ""
    if (found := _OVERRIDDEN.search(message)) is None:
        return ""
    key, added = found[1], _OF_ADDED_GROUP.search(message)
    groups = set(os.listdir(config_dir)) - {key}
    chosen = [one for one in sys.argv[1:] if one.partition("=")[0] in groups]
    try:
        with hydra.initialize_config_dir(config_dir, version_base="1.3"):
            known = OmegaConf.to_container(hydra.compose(config_name, chosen))
    except (HydraException, OmegaConfBaseException):
        return ""
    if isinstance(known, dict) and isinstance(below := known.get(key), Mapping):
        keys = [f"{key}.{one}" for one in below]
        needed = [f"{key}.{one}=..." for one, value in below.items() if value == "???"]
        return f"; {key} is a section: give {', '.join(needed or keys)}"
    if added:
        return f"; this group is added with a plus: {added[1]}"
    return _near_or_all(key, list(dotted_keys(known)))


def _near_or_all(key: str, known: list[str]) -> str:
    """Return the key that a wrong one is near to, all of them where none is and they are few."""
    if near := nearest(key, iter(known)):
        return f"; did you mean {near}?"
    return f"; its keys are {', '.join(known)}" if len(known) <= _FEW_KEYS else ""


def register_schema() -> None:
    """Make the dataclass schemas known to Hydra under ``job_schema``."""
    ConfigStore.instance().store(name="job_schema", node=JobConfig)


def overrides() -> list[str]:
    """Return the command-line overrides of the running job."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def values_of_winner() -> dict[str, Any]:
    """Return the values of the winner that ``+winner=FILE`` names for the running job, if any."""
    return without_winner(overrides())[1]


def own_config_dir() -> str | None:
    """Return the folder that ``--config-dir`` named for the running job, None where it did not."""
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else []
    own = [one.path for one in sources if one.provider == "command-line"]
    return own[0] if own else None


def shown_override(override: str) -> str:
    """Return an override of the command line as it may be shown, without what may be a secret.

    Args:
        override: The override.
    """
    key, is_there, value = override.partition("=")
    is_secret = any(is_secret_name(name) for name in named(override).split("."))
    return f"{key}={hide_secrets(value, is_secret=is_secret)}" if is_there else override


def _targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of all that names code below a node."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            dotted = f"{key}.{name}" if key else str(name)
            is_function = name == FUNCTION and "_target_" in node and isinstance(child, str)
            if name == "_args_":
                raise ConfigError(f"{dotted}: give arguments by their names, which are checked")
            if name == "_target_" or is_function:
                yield dotted, child
            else:
                yield from _targets(child, dotted)
    elif isinstance(node, list | tuple):
        for number, child in enumerate(node):
            yield from _targets(child, f"{key}[{number}]")


def _one_line(error: BaseException) -> str:
    """Return the parts of an error message that help, on one line."""
    whole = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    lines = [line.strip().rstrip(".") for text in whole for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(_UNHELPFUL)]
    useful = [line for line in said if not _repeats_key(line, said)]
    return "; ".join(dict.fromkeys(useful)).replace(":; ", ": ")


def _repeats_key(line: str, said: list[str]) -> bool:
    """Tell whether a line only names a key that another line names."""
    key = line.removeprefix("full_key: ")
    return key != line and any(f"'{key}'" in one for one in said)


def _leave(message: str, job_file: str) -> None:
    """Print one line and end the process."""
    name = os.path.basename(job_file)
    sys.stderr.write(f"{message} (see python jobs/{name} --help)\n")
    sys.exit(2)


def _set_up_logging(*, verbose: bool) -> None:
    """Send our own log lines to the terminal and keep other libraries quiet."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    logging.getLogger("mke_ray").setLevel(logging.INFO)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # our errors say the same
    if not verbose:  # the progress bar says the same
        logging.getLogger("mke_ray.train").setLevel(logging.WARNING)
