"""The one door to Hydra: job-level schemas, objects from specifications, and the start of a job."""

import copy
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_class, get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mke_ray.errors import ConfigError, MkeRayError

TRUSTED_PREFIXES = ("mke_ray.", "torch.nn.", "torch.optim.", "transformers.")

HIDDEN = "***"
_SECRET_ENDINGS = ("options", "env_vars", "password", "secret", "token", "api_key")
_PASSWORD = re.compile(r"//[^/@\s]*@")
_UNHELPFUL = ("object_type", "reference_type", "Config search path", "provider=", "To append")

_Built = TypeVar("_Built")


@dataclass
class StorageConfig:
    """How stores are reached and guarded.

    Args:
        options: Options of the fsspec file system of ``root``; credentials belong in the
            environment instead.
        single_driver: Accept a store that ignores conditional writes.
    """

    options: dict[str, Any] = field(default_factory=dict)
    single_driver: bool = False


@dataclass
class RayConfig:
    """Where Ray runs.

    Args:
        address: Cluster to join; null joins the one of the environment or starts a local one.
        num_cpus: Logical CPUs of a local Ray; null takes twice the cores, at least four, since
            actors that wait hold a CPU.
        include_dashboard: Start the dashboard of a local Ray.
        env_vars: Environment variables that every worker gets.
    """

    address: str | None = None
    num_cpus: int | None = None
    include_dashboard: bool = False
    env_vars: dict[str, str] = field(default_factory=dict)


@dataclass
class LabellingConfig:
    """The pass that decodes samples and writes pseudo-labels.

    Args:
        unit_size: Samples per unit.
        min_actors: Least number of decode-and-teach actors.
        max_actors: Most of them; null takes what the cluster can run.
        num_cpus: CPUs per actor.
        num_gpus: GPUs per actor, fractions allowed; above 0 a trained teacher and the students
            that are evaluated compute there.
        max_bad_fraction: Share of unreadable samples above which the job stops.
        runner: ``ray`` streams units through Ray Data; ``local`` runs in this process.
    """

    unit_size: int = 32
    min_actors: int = 1
    max_actors: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    max_bad_fraction: float = 0.1
    runner: str = "ray"


@dataclass
class FitConfig:
    """How one network is trained.

    Args:
        num_steps: Optimizer steps; null derives them from ``num_epochs``.
        num_epochs: Passes over the rows of the fit; null derives them from ``num_steps``.
        global_batch: Samples per step over all workers; 0 takes the whole set every step.
        optimizer: ``type`` (adamw or sgd), ``lr``, ``weight_decay``, ``momentum``.
        schedule: ``type`` (constant or cosine) and ``warmup_fraction``.
        clip_norm: Largest gradient norm; null does not clip.
        ema_decay: Decay of the running mean of the weights that is kept instead of the last ones,
            0.999 for example; null keeps the last.
        validate_every_steps: Steps between looks at the select part of the probe; 0 never looks.
    """

    num_steps: int | None = None
    num_epochs: int | None = None
    global_batch: int = 64
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    clip_norm: float | None = None
    ema_decay: float | None = None
    validate_every_steps: int = 0


@dataclass
class TeacherConfig:
    """Where the teacher comes from.

    Args:
        modality: The modality that the teacher reads.
        train: Train a teacher on the labelled split (true), or use ``network`` as it is (false).
        seed: Seed of a trained teacher; null takes the seed of the job.
        network: With ``train``, the encoder of the teacher; without it, ``_target_`` and the
            arguments of a class with ``modality``, ``needs``, ``predict`` and ``fingerprint``.
        head_hidden: Hidden layers of the head of a trained teacher.
        dropout: Dropout in the head of a trained teacher.
        fit: How a trained teacher is trained.
    """

    modality: str = "video"
    train: bool = True
    seed: int | None = None
    network: dict[str, Any] = field(default_factory=dict)
    head_hidden: list[int] = field(default_factory=list)
    dropout: float = 0.0
    fit: FitConfig = field(default_factory=FitConfig)


@dataclass
class StudentConfig:
    """The student network; a unimodal student keeps one encoder and the unimodal head.

    Args:
        encoders: Per modality ``type`` and the arguments of its encoder.
        fusion: ``type`` (concat, gated, attention, film) and its arguments.
        head_hidden: Hidden layers of the head.
        unimodal_head_hidden: Hidden layers of the head of unimodal students; null takes
            ``head_hidden``.
        dropout: Dropout in the head.
        init_from_teacher: Start the encoder of the teacher's modality from the teacher.
    """

    encoders: dict[str, Any] = field(default_factory=dict)
    fusion: dict[str, Any] = field(default_factory=dict)
    head_hidden: list[int] = field(default_factory=list)
    unimodal_head_hidden: list[int] | None = None
    dropout: float = 0.0
    init_from_teacher: bool = False


@dataclass
class LabelsConfig:
    """How logits become targets.

    Args:
        kind: ``hard`` (argmax) or ``soft`` (probabilities) pseudo-labels.
        temperature: Divides the teacher's logits before the softmax.
    """

    kind: str = "hard"
    temperature: float = 1.0


@dataclass
class ScalingConfig:
    """What training runs on.

    Args:
        launch: ``trainer`` (one Ray Train worker group for all fits), ``tasks`` (each fit a Ray
            task, side by side) or ``local`` (in this process).
        num_workers: Workers of the trainer.
        cpus_per_worker: CPUs per worker or task.
        gpus_per_worker: GPUs per worker or task.
        max_failures: Restarts of the worker group before the run fails.
        checkpoint_every_steps: Steps between checkpoints.
        window_units: Units whose rows are shuffled together.
        cache_bytes: Memory for decoded units per worker.
        log_every_steps: Steps between logged losses.
    """

    launch: str = "trainer"
    num_workers: int = 2
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    max_failures: int = 3
    checkpoint_every_steps: int = 100
    window_units: int = 16
    cache_bytes: int = 1 << 30
    log_every_steps: int = 10


@dataclass
class GateConfig:
    """The promotion gate.

    Args:
        confidence: Confidence of the one-sided lower bound.
        min_samples: Gate samples below which the verdict is ``unverified``.
        select_fraction: Share of the probe's groups that is the select part.
    """

    confidence: float = 0.95
    min_samples: int = 50
    select_fraction: float = 0.5


@dataclass
class TrackingConfig:
    """Where MLflow records.

    Args:
        enabled: Record to MLflow at all.
        uri: Tracking URI; null takes MLFLOW_TRACKING_URI, else an SQLite file kept with the run.
    """

    enabled: bool = True
    uri: str | None = None


@dataclass
class JobConfig:
    """Everything a job can be told; see the README for the groups behind the nested keys."""

    name: str = "demo"
    root: str = "outputs/${name}/seed-${data_seed}"
    seed: int = 0
    data_seed: int = "${seed}"  # type: ignore[assignment]
    arms: Any = "default"
    model_seeds: list[int] = field(default_factory=lambda: ["${seed}"])  # type: ignore[list-item]
    data_seeds: int | None = None
    dry_run: bool = False
    verbose: bool = False
    allow_targets: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    decode: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    fusion: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)
    supervised: dict[str, Any] = field(default_factory=dict)
    fit: FitConfig = field(default_factory=FitConfig)
    engine: dict[str, Any] = field(default_factory=dict)
    labelling: LabellingConfig = field(default_factory=LabellingConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    ray: RayConfig = field(default_factory=RayConfig)


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
        raise ConfigError(f"_target_ is missing in {dict(spec)}; name a class as package.Class")
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
    """Refuse every ``_target_`` outside the trusted packages.

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
    """
    cfg = copy.deepcopy(cfg)
    if "://" not in cfg.root:  # workers have another working folder
        cfg.root = os.path.abspath(os.path.expanduser(cfg.root))
    if cfg.data_seeds is None:
        return [job_from(cfg)]
    if cfg.data_seeds < 1:
        raise ConfigError(f"data_seeds={cfg.data_seeds}; give the number of draws, at least 1")
    if "data_seed" not in cfg.source:
        raise ConfigError(
            f"data_seeds={cfg.data_seeds}: source={cfg.source.get('_target_')} has no data_seed, "
            "so every draw would be the same; repeat over networks with model_seeds=[0,1,2]"
        )
    drawn = []
    for data_seed in range(cfg.data_seeds):
        one = copy.deepcopy(cfg)
        one.root = f"{cfg.root}/data-seed-{data_seed}"
        one.data_seed = data_seed
        drawn.append(job_from(one))
    return drawn


def job_from(cfg: DictConfig) -> JobConfig:
    """Return the typed configuration of a job, resolved and checked.

    Raises:
        ConfigError: A target is not trusted or a value does not fit its type.
    """
    job = OmegaConf.to_object(cfg)
    if not isinstance(job, JobConfig):
        raise ConfigError("the configuration lost its schema; keep job_schema in conf/config.yaml")
    check_targets(plain(cfg), job.allow_targets)
    return job


def shown(job: JobConfig) -> dict[str, Any]:
    """Return the configuration of a job as it may be shown and stored: without secrets.

    Values below keys that may hold credentials (options of file systems, environment variables)
    and passwords in URIs are hidden.
    """
    return _without_secrets(asdict(job))


def to_yaml(job: JobConfig) -> str:
    """Return the resolved configuration of a job as YAML, without secrets."""
    return OmegaConf.to_yaml(OmegaConf.create(shown(job)))


def run_job(stages: Callable[[list[JobConfig]], None], job_file: str) -> None:
    """Compose the configuration from the command line and run a job on it.

    Errors that a user can mend end the process with one line and exit status 2.

    Args:
        stages: What the job does with one configuration per draw of the data.
        job_file: ``__file__`` of the job; ``conf/`` lies beside its folder.
    """
    config_dir = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(job_file))), "conf")
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    register_schema()

    @hydra.main(version_base="1.3", config_path=config_dir, config_name="config")
    def main(cfg: DictConfig) -> None:
        try:
            drawn = jobs_from(cfg)
            _set_up_logging(verbose=drawn[0].verbose)
            stages(drawn)
        except MkeRayError as error:
            _leave(f"{type(error).__name__}: {error}", job_file)
        except OmegaConfBaseException as error:
            _leave(f"ConfigError: {_one_line(error)}", job_file)

    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:
        _leave(f"ConfigError: {_one_line(error)}", job_file)


def register_schema() -> None:
    """Make the dataclass schemas known to Hydra under ``job_schema``."""
    ConfigStore.instance().store(name="job_schema", node=JobConfig)


def overrides() -> list[str]:
    """Return the command-line overrides of the running job."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _without_secrets(node: Any, *, is_secret: bool = False) -> Any:
    """Return plain data with every value hidden that may be a secret."""
    if isinstance(node, Mapping):
        return {
            name: _without_secrets(
                child, is_secret=is_secret or str(name).endswith(_SECRET_ENDINGS)
            )
            for name, child in node.items()
        }
    if isinstance(node, list | tuple):
        return [_without_secrets(child, is_secret=is_secret) for child in node]
    if isinstance(node, str):
        return HIDDEN if is_secret else _PASSWORD.sub(f"//{HIDDEN}@", node)
    return HIDDEN if is_secret and node is not None else node


def _targets(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every ``_target_`` below a node."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            dotted = f"{key}.{name}" if key else str(name)
            if name == "_target_":
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
    useful = [line for line in lines if line and not line.startswith(_UNHELPFUL)]
    return "; ".join(dict.fromkeys(useful))


def _leave(message: str, job_file: str) -> None:
    """Print one line and end the process."""
    name = os.path.basename(job_file)
    sys.stderr.write(f"{message}  (see python jobs/{name} --help)\n")
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
    if not verbose:  # the progress bar says the same
        logging.getLogger("mke_ray.train").setLevel(logging.WARNING)
