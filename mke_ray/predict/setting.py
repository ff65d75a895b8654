"""One run of predictions: its configuration checked, its student, source, root and cluster."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from mke_ray.config import build, find_class
from mke_ray.config_predict import PredictConfig
from mke_ray.data.sources import Source
from mke_ray.errors import ConfigError
from mke_ray.labels.cluster_file import coming_nodes
from mke_ray.labels.labelling import LocalRunner, Runner
from mke_ray.labels.labelling_keys import check_labelling, num_gpus_of, ray_runner
from mke_ray.labels.lease import Lease
from mke_ray.labels.todo import retry_reasons
from mke_ray.models.whole_student import WholeStudent
from mke_ray.schema import MASK, DecodeSpec, LabelSpace, decode_spec_from_dict
from mke_ray.session import session_of
from mke_ray.shared_folders import check_shared, is_spread
from mke_ray.storage import Root, open_root

_STUDENTS = "mke_ray.models.whole_student"


@dataclass(slots=True)
class Setting:
    """What a run of predictions needs.

    Args:
        job: The configuration.
        root: Where it writes.
        source: Where samples come from.
        student: The student, on the driver.
        lease: The lease on the root, while it is held.
        stack: Closes what was opened.
    """

    job: PredictConfig
    root: Root
    source: Source
    student: WholeStudent
    lease: Lease | None = None
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _is_connected: bool = False

    @property
    def decode(self) -> DecodeSpec:
        """What is decoded of every modality, as the student was trained with it.

        A source of scenes that has true class maps is asked for them too, since it has to be.
        """
        loaded = self.student.loaded
        spec = decode_spec_from_dict(loaded.decode)
        mask = loaded.extra["decode"].get(MASK)
        if mask is None:
            return spec
        try:
            self.source.reader(spec)
        except ConfigError:
            return {**spec, **decode_spec_from_dict({MASK: mask})}
        return spec

    @property
    def temperature(self) -> float:
        """Temperature of the student."""
        return self.student.loaded.temperature

    def student_spec(self, kind: str = "WholeStudent") -> dict[str, Any]:
        """Return what the student is built from on every worker.

        Args:
            kind: ``WholeStudent``, or ``ExplainedStudent`` for its explanations.
        """
        files = self.job.student
        return {
            "_target_": f"{_STUDENTS}.{kind}",
            "path": files.path,
            "device": "cuda" if num_gpus_of(self.job.labelling) > 0 else "cpu",
            "storage_options": dict(files.options),
            "classes": {
                target: {"_target_": "hydra.utils.get_class", "path": target}
                for target in files.classes
            },
        }

    def runner(self, say: Callable[[str], None] | None = None) -> Runner:
        """Return what carries out units, connected to Ray where it needs it.

        Args:
            say: Called with what the units wait for.
        """
        labelling, ray_keys = self.job.labelling, self.job.ray
        if labelling.runner == "local":
            return LocalRunner()
        if say is not None and not self._is_connected:
            say("starting Ray")
        self._connect()
        return ray_runner(
            labelling,
            is_scaling=ray_keys.autoscaling,
            coming=coming_nodes(ray_keys.cluster_file) if ray_keys.cluster_file else (),
            verbose=self.job.verbose,
            say=say,
        )

    def _connect(self) -> None:
        """Connect to Ray, once, and see that all nodes see the folders of this machine."""
        if self._is_connected:
            return
        self.stack.enter_context(session_of(self.job).connected())
        self._is_connected = True
        if is_spread():
            written = {"root": self.root.path()} if self.root.is_local else {}
            here = {"student.path": self.job.student.path}
            if not self.job.source.get("table"):
                here["source.root"] = str(self.job.source.get("root") or "")
            paths = {key: path.removeprefix("file://") for key, path in here.items()}
            read = {key: path for key, path in paths.items() if path and "://" not in path}
            inside = f"{self.root.path().rstrip('/')}/" if written else None
            check_shared(
                written,
                {k: p for k, p in read.items() if inside is None or not p.startswith(inside)},
            )


@contextlib.contextmanager
def opened(job: PredictConfig) -> Iterator[Setting]:
    """Check a configuration, and hold its root for a block.

    Raises:
        ConfigError: Something in the configuration cannot work.
        StoreError: There is no student, or another driver works on the root.
    """
    setting = checked(job)
    with setting.stack:
        if not job.storage.single_driver:
            setting.root.check_create_only()
        setting.lease = setting.stack.enter_context(Lease(setting.root).held(job.name))
        yield setting


def checked(job: PredictConfig) -> Setting:
    """Load the student and build the source, on the driver, before anything starts.

    Raises:
        ConfigError: It names the key and the way out.
        StoreError: The folder holds no whole student.
    """
    check_labelling(job.labelling)
    retry_reasons(job.retry)
    classes = {target: find_class(target) for target in job.student.classes}
    student = WholeStudent(
        job.student.path,
        storage_options=job.student.options,
        classes=classes,
        key="student.path",
    )
    job.source = _told(job.source, student)
    source: Source = build(job.source)
    _check_classes(source.label_space, student.label_space)
    root = open_root(job.root, job.storage.options, patience_s=job.storage.patience_s)
    return Setting(job, root, source, student)


def _told(source: Mapping[str, Any], student: WholeStudent) -> dict[str, Any]:
    """Return the specification of a source with what the student says of its samples."""
    told = dict(source)
    if "classes" in told and told["classes"] is None:
        told["classes"] = list(student.label_space.classes)
        if "label_kind" in told:
            told["label_kind"] = str(student.label_space.kind)
    tokens = {
        name: {"path": one["tokenizer"], "revision": one.get("revision")}
        for name, one in student.loaded.decode.items()
        if one.get("kind") == "tokens" and one.get("tokenizer")
    }
    return {**told, **({"tokenizers": tokens} if tokens else {})}


def _check_classes(found: LabelSpace, wanted: LabelSpace) -> None:
    """Refuse a source of other classes than the student's.

    Raises:
        ConfigError: It is.
    """
    if found != wanted:
        raise ConfigError(
            f"the source has the classes {_shortly(found)}, the student {_shortly(wanted)}; leave "
            "source.classes out, or name the student's in its order"
        )


def _shortly(space: LabelSpace) -> str:
    some = ", ".join(space.classes[:5])
    more = f", ... ({space.num_classes})" if space.num_classes > 5 else ""
    return f"[{some}{more}] of kind {cast(str, space.kind)}"
