"""One run: its configuration, its root, its cluster, and what follows from them."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from mke_ray.config import build, find_class, shown
from mke_ray.config_schema import FitConfig, JobConfig
from mke_ray.data.codec import empty_modality
from mke_ray.data.manifest import META, Manifest, shared_groups, write_manifest
from mke_ray.data.sources import Source
from mke_ray.data.views import View
from mke_ray.errors import ConfigError
from mke_ray.expansion.clock import StageClock
from mke_ray.expansion.mlflow_file import fetched_database
from mke_ray.expansion.own_teacher import check_own_teacher
from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.doubles import WITHIN_UNLABELED
from mke_ray.labels.labelling import LocalRunner, Runner
from mke_ray.labels.lease import Lease
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.models.student import Student, build_student
from mke_ray.models.teachers import AT_LEAST
from mke_ray.report.progress import stage_progress
from mke_ray.schema import DecodeSpec, Split, decode_spec_from_dict
from mke_ray.session import Session
from mke_ray.storage import Root, open_root
from mke_ray.tracking import Tracker, start_tracking, tracking_server
from mke_ray.train.arms import (
    PLAIN_OBJECTIVE,
    TRAINED_ON_SELECT,
    ArmSettings,
    choose_arms,
)
from mke_ray.train.engine import precision_of
from mke_ray.train.fits import FitSpec, RowSelection
from mke_ray.train.launch import Scaling, check_fits

logger = logging.getLogger(__name__)

RUNNERS = ("ray", "local")
TEACHER_ENGINE: Mapping[str, Any] = {"type": "torch"}
TEACHER_ARM = "teacher"


@dataclass(slots=True)
class Run:
    """What every stage of a run needs.

    Args:
        job: The configuration.
        root: Root of the run.
        source: Where samples come from.
        decode: What is stored of every modality.
        arms: Arms to train.
        lease: The lease on the root, held while the run is open.
        stack: Closes what the stages opened, at the end of the run.
    """

    job: JobConfig
    root: Root
    source: Source
    decode: DecodeSpec
    arms: tuple[str, ...]
    lease: Lease | None = None
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    clock: StageClock = field(init=False)
    _is_connected: bool = False
    _tracker: Tracker | None = None
    _is_refreshed: bool = False

    def __post_init__(self) -> None:
        """Make the clock, which keeps its sums in the root."""
        self.clock = StageClock(self.root)

    @property
    def labelling_device(self) -> str:
        """Device of the workers that label and predict.

        It follows what the workers ask of Ray, and not what torch sees in them: Ray hides no GPU
        from an actor that asked for none.
        """
        return "cuda" if self.job.labelling.num_gpus > 0 else "cpu"

    def connect(self) -> None:
        """Connect to Ray unless the stages all run in this process; once per run."""
        if not self._is_connected:
            session = Session(**asdict(self.job.ray), verbose=self.job.verbose)
            self.stack.enter_context(session.connected())
            self._is_connected = True

    def tracker(self) -> Tracker | None:
        """Return the MLflow run, opened when first asked for; None where tracking is off."""
        if self._tracker is None and self.job.tracking.enabled:
            self._tracker = self._open_tracker()
            self.stack.push(self._close_tracker)
        return self._tracker

    def _open_tracker(self) -> Tracker:
        """Open the MLflow run at the server that is named, else in an SQLite file of the run."""
        job, server = self.job, tracking_server(self.job.tracking.uri)
        kept = self.root.child("mlflow")
        is_fetched = server is None and not self.root.is_local
        return start_tracking(
            experiment=job.name,
            run_name=f"seed {job.seed}, data {job.data_seed}",
            params=shown(job),
            files=self.root,
            home=self.root.path() if self.root.is_local else kept.uri,
            local_folder=self.stack.enter_context(fetched_database(kept)) if is_fetched else None,
            uri=server,
        )

    def _close_tracker(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the MLflow run as what became of it."""
        if self._tracker is not None and kind is not None:
            is_error = issubclass(kind, Exception)
            self._tracker.finish("FAILED" if is_error else "KILLED")

    def manifest(self, *, refresh: bool = False) -> Manifest:
        """Return the newest manifest; the source is needed only where it is listed.

        Args:
            refresh: Look for new, changed and deleted samples, unless the job says not to or this
                run has looked before.
        """
        folder = self.root.child("manifest")
        is_listed = folder.exists(META)
        looks_again = refresh and self.job.refresh and not self._is_refreshed
        with self.clock.stage("source"):
            if not is_listed:
                self.clock.work_begins()
            if looks_again or not is_listed:
                with stage_progress("make the source", unit="files") as progress:
                    self.source.prepare(progress)
            manifest = write_manifest(
                folder,
                self.source,
                unit_size=self.job.labelling.unit_size,
                refresh=looks_again,
                accept_loss=self.job.accept_loss,
            )
        if refresh and not self._is_refreshed:
            for one in shared_groups(manifest):
                logger.warning("%s", one)
        self._is_refreshed |= refresh
        self._check_splits(manifest)
        return manifest

    def check_lease(self) -> None:
        """Stop before the next stage if another driver took over the root.

        Raises:
            StoreError: It did.
        """
        if self.lease is not None:
            self.lease.check(now=True)

    def _check_splits(self, manifest: Manifest) -> None:
        """Refuse data that the last stages could do nothing with, before the first one starts.

        Where no labelled pair is there to learn from, the arm that does is left out of the
        default arms.

        Raises:
            ConfigError: A split is missing.
        """
        counts: Mapping[str, int] = manifest.meta["counts"]
        needed = [Split.UNLABELED, Split.TEST]
        needed += [Split.LABELLED] if self.job.teacher.train else []
        for split in needed:
            if not counts.get(split):
                raise ConfigError(
                    f"source: there are no rows with split={split}; the source has "
                    f"{dict(counts)}. Give some rows that split, in the table or by folder"
                )
        num_pairs = num_select(self, manifest)
        if num_pairs == 0 and self.job.arms == "default":
            self.arms = tuple(arm for arm in self.arms if arm not in TRAINED_ON_SELECT)
            logger.warning(
                "the select part of the probe is empty: arms %s are left out%s",
                sorted(TRAINED_ON_SELECT),
                "" if counts.get(Split.PROBE) else ", and the gate cannot verify the student",
            )
        self.arm_settings("", "", teacher=None, num_select=num_pairs).fits(self.arms, [0])

    def runner(self, say: Callable[[str], None] | None = None) -> Runner:
        """Return what carries out units, connected to Ray where it needs it.

        Args:
            say: Called with what the units wait for.
        """
        labelling = self.job.labelling
        if labelling.runner == "local":
            return LocalRunner()
        if say is not None and not self._is_connected:
            say("starting Ray")
        self.connect()
        pool = ActorPool(
            labelling.min_actors, labelling.max_actors, labelling.num_cpus, labelling.num_gpus
        )
        return RayDataRunner(pool, verbose=self.job.verbose, say=say)

    def classes(self) -> dict[str, type]:
        """Return the user's own encoders and fusion by their ``_target_``."""
        student = self.job.student
        parts = [*student.encoders.values(), student.fusion, self.job.teacher.network]
        targets = {part["_target_"] for part in parts if "_target_" in part}
        return {target: find_class(target) for target in sorted(targets)}

    def teacher_fit(self, samples: str) -> FitSpec:
        """Return the fit of a teacher that is trained on the labelled split.

        Args:
            samples: Name of the sample store.
        """
        job, teacher = self.job, self.job.teacher
        view = job.views.get(teacher.modality)
        return FitSpec(
            name=TEACHER_ARM,
            arm=TEACHER_ARM,
            samples=samples,
            labels=None,
            student=self._student({teacher.modality: teacher.network}, teacher.head_hidden),
            objective=self._objective(PLAIN_OBJECTIVE),
            rows=(RowSelection(Split.LABELLED, targets="true", modalities=(teacher.modality,)),),
            views={teacher.modality: view} if view else {},
            seed=job.seed if teacher.seed is None else teacher.seed,
            window_units=job.scaling.window_units,
            **_fit_keys(teacher.fit),
        )

    def arm_settings(
        self, samples: str, labels: str, *, teacher: str | None, num_select: int
    ) -> ArmSettings:
        """Return what the arms share.

        Args:
            samples: Name of the sample store.
            labels: Name of the label store.
            teacher: Fingerprint of a trained teacher's fit, None for a teacher of the user's.
            num_select: Samples in the select part of the probe.
        """
        job, student = self.job, self.job.student
        unimodal = student.unimodal_head_hidden
        template = FitSpec(
            name="",
            arm="",
            samples=samples,
            labels=labels,
            student=self._student(student.encoders, student.head_hidden),
            objective=self._objective(job.objective),
            rows=(RowSelection(Split.UNLABELED),),
            views=job.views,
            label_kind=job.labels.kind,
            temperature=job.labels.temperature,
            init_from=teacher if student.init_from_teacher else None,
            window_units=job.scaling.window_units,
            precision=precision_of(job.engine),
            select_fraction=job.gate.select_fraction,
            **_fit_keys(job.fit),
        )
        return ArmSettings(
            template=template,
            teacher_modality=job.teacher.modality,
            supervised=self._objective(job.supervised),
            plain=self._objective(PLAIN_OBJECTIVE),
            unimodal_head_hidden=tuple(student.head_hidden if unimodal is None else unimodal),
            num_select=num_select,
        )

    def _objective(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return the specification of an objective; ours is told the kind of labels."""
        is_ours = spec.get("_target_") == PLAIN_OBJECTIVE["_target_"]
        kind = {"kind": str(self.source.label_space.kind)} if is_ours else {}
        return {**kind, **spec}

    def _student(self, encoders: Mapping[str, Any], head_hidden: list[int]) -> dict[str, Any]:
        """Return the specification of a student with some encoders."""
        is_teacher = encoders is not self.job.student.encoders
        return {
            "encoders": dict(encoders),
            "fusion": {"type": "concat"} if is_teacher else self.job.student.fusion,
            "head_hidden": list(head_hidden),
            "dropout": self.job.teacher.dropout if is_teacher else self.job.student.dropout,
        }


@contextlib.contextmanager
def open_run(job: JobConfig) -> Iterator[Run]:
    """Check a configuration as far as that goes without data, and hold its root for a block.

    Raises:
        ConfigError: Something in the configuration cannot work.
        StoreError: Another driver works on the root, or it ignores conditional writes.
    """
    run = check_job(job)
    with run.stack:
        if not job.storage.single_driver:
            run.root.check_create_only()
        run.lease = run.stack.enter_context(Lease(run.root).held(job.name))
        yield run


def check_job(job: JobConfig) -> Run:
    """Build everything that a run will use, on the driver, before anything starts.

    Raises:
        ConfigError: It names the key and the way out.
    """
    if job.labelling.runner not in RUNNERS:
        raise ConfigError(
            f"labelling.runner={job.labelling.runner!r}; choose one of {list(RUNNERS)}"
        )
    if job.doubles.within_unlabeled not in WITHIN_UNLABELED:
        raise ConfigError(
            f"doubles.within_unlabeled={job.doubles.within_unlabeled!r}; choose one of "
            f"{list(WITHIN_UNLABELED)}"
        )
    run = Run(
        job=job,
        root=open_root(job.root, job.storage.options),
        source=build(job.source),
        decode=decode_spec_from_dict(job.decode),
        arms=choose_arms(job.arms),
    )
    _check_modalities(run)
    num_classes = run.source.label_space.num_classes
    settings = run.arm_settings("samples", "labels", teacher=None, num_select=1)
    fits = settings.fits(run.arms, job.model_seeds)
    _check_ranges(job)
    if not job.teacher.train:
        check_own_teacher(job.teacher, run.decode, run.source.label_space)
    teacher = [run.teacher_fit("samples")] if job.teacher.train else []
    for fit in [*teacher, *fits]:
        _check_encoders(build_student(fit.student, num_classes, build=build), run.decode)
        build(fit.objective)
    _check_views(run)
    scaling = Scaling.from_dict(asdict(job.scaling))
    check_fits(fits, launch=job.scaling.launch, scaling=scaling, engine=job.engine)
    for one in teacher:
        check_fits([one], launch="local", scaling=scaling, engine=TEACHER_ENGINE)
    return run


def num_select(run: Run, manifest: Manifest) -> int:
    """Return the number of samples in the select part of the probe."""
    fraction = run.job.gate.select_fraction
    return sum(
        not row.mark and probe_part(row.group, select_fraction=fraction) == SELECT
        for ref in manifest.unit_refs([Split.PROBE])
        for row in manifest.read_unit(ref)
    )


def _check_views(run: Run) -> None:
    """Try every view on an empty sample, before anything is decoded.

    Raises:
        ConfigError: A view is larger than what is stored.
    """
    for modality, spec in run.job.views.items():
        view: View = build(spec)
        empty = torch.from_numpy(empty_modality(run.decode[modality]))
        try:
            view(empty[None], torch.zeros(1, dtype=torch.int64))
        except ConfigError as error:
            raise ConfigError(f"views.{modality}: {error}") from None


def _check_ranges(job: JobConfig) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ConfigError: It names the key.
    """
    bounds = {
        "gate.confidence": (job.gate.confidence, 0.5, 1.0),
        "gate.select_fraction": (job.gate.select_fraction, 0.0, 1.0),
        "labels.temperature": (job.labels.temperature, 0.0, float("inf")),
        "labelling.sample_memory_gb": (job.labelling.sample_memory_gb, 0.0, float("inf")),
    }
    for key, fit in (("fit", job.fit), ("teacher.fit", job.teacher.fit)):
        if fit.ema_decay is not None:
            bounds[f"{key}.ema_decay"] = (fit.ema_decay, 0.0, 1.0)
    if job.labelling.sample_timeout_s is not None:
        bounds["labelling.sample_timeout_s"] = (job.labelling.sample_timeout_s, 0.0, float("inf"))
    for key, (value, low, high) in bounds.items():
        if not low < value < high:
            raise ConfigError(f"{key}={value}; give a number between {low} and {high}")
    at_least_one = {
        "labelling.unit_size": job.labelling.unit_size,
        "scaling.window_units": job.scaling.window_units,
        "scaling.num_workers": job.scaling.num_workers,
        "fit.num_steps": job.fit.num_steps,
        "fit.num_epochs": job.fit.num_epochs,
        "teacher.fit.num_steps": job.teacher.fit.num_steps,
        "teacher.fit.num_epochs": job.teacher.fit.num_epochs,
    }
    for key, number in at_least_one.items():
        if number is not None and number < 1:
            raise ConfigError(f"{key}={number}; give a number of at least 1")


def _check_encoders(student: Student, decode: DecodeSpec) -> None:
    """Refuse encoders that expect other arrays than are stored.

    Raises:
        ConfigError: It names the keys.
    """
    for modality in student.modalities:
        stored = asdict(decode[modality])
        for key, needed in student.encoder(modality).needs.items():
            if stored.get(key) != needed and not (key in AT_LEAST and stored.get(key, 0) >= needed):
                raise ConfigError(
                    f"student.encoders.{modality} expects {key}={needed}, "
                    f"decode.{modality}.{key} is {stored.get(key)}; set both alike"
                )


def _check_modalities(run: Run) -> None:
    """Refuse networks that read what is not stored.

    Raises:
        ConfigError: It names the modality.
    """
    wanted = {"teacher.modality": [run.job.teacher.modality]}
    wanted["student.encoders"] = list(run.job.student.encoders)
    wanted["views"] = list(run.job.views)
    for key, modalities in wanted.items():
        for modality in modalities:
            if modality not in run.decode:
                raise ConfigError(
                    f"{key}: {modality!r} is not among the stored modalities "
                    f"{sorted(run.decode)}; add decode.{modality} or leave it out"
                )
    if run.job.teacher.modality not in run.job.student.encoders:
        raise ConfigError(
            f"teacher.modality={run.job.teacher.modality} has no encoder in student.encoders, "
            f"which has {sorted(run.job.student.encoders)}"
        )


def _fit_keys(fit: FitConfig) -> dict[str, Any]:
    """Return the keys that a section ``fit`` and a fit share."""
    return asdict(fit)
