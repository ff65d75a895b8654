"""One run: its configuration, its root, its cluster, and what follows from them."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mke_ray.config import find_class, shown
from mke_ray.config_schema import FitConfig, JobConfig
from mke_ray.data.manifest import META, Manifest, count_groups, write_manifest
from mke_ray.data.sources import Source
from mke_ray.errors import ConfigError
from mke_ray.expansion.clock import StageClock
from mke_ray.expansion.known_groups import known_shared_groups
from mke_ray.expansion.mlflow_file import fetched_database
from mke_ray.expansion.needed_splits import check_needed_splits
from mke_ray.expansion.references import refer
from mke_ray.expansion.source_notes import note_source
from mke_ray.expansion.witnesses import expansion_to_be, with_kind
from mke_ray.labels.cluster_file import coming_nodes
from mke_ray.labels.labelling import LocalRunner, Runner
from mke_ray.labels.labelling_keys import num_gpus_of, ray_runner
from mke_ray.labels.lease import Lease
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.models.backbone_spec import pinned
from mke_ray.report.progress import stage_progress
from mke_ray.schema import MASK, DecodeSpec, Split
from mke_ray.session import session_of
from mke_ray.shared_folders import check_shared, is_spread
from mke_ray.storage import Root
from mke_ray.tracking import Tracker, start_tracking, tracking_server
from mke_ray.train.arms import (
    EXPANSION_ARM,
    PLAIN_OBJECTIVE,
    PUBLISHED_ARM,
    TRAINED_ON_SELECT,
    ArmSettings,
    ExpansionSettings,
)
from mke_ray.train.engine import precision_of
from mke_ray.train.fits import FitSpec, RowSelection

logger = logging.getLogger(__name__)

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
        stores: Folders of the stores that the stages have used so far, below the root.
    """

    job: JobConfig
    root: Root
    source: Source
    decode: DecodeSpec
    arms: tuple[str, ...]
    lease: Lease | None = None
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    stores: set[str] = field(default_factory=set)
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
        return "cuda" if num_gpus_of(self.job.labelling) > 0 else "cpu"

    @property
    def shipped(self) -> str:
        """The arm that is put in front of the gate."""
        return EXPANSION_ARM if self.job.expansion.enabled else PUBLISHED_ARM

    def connect(self) -> None:
        """Connect to Ray unless the stages all run in this process; once per run."""
        if not self._is_connected:
            self.stack.enter_context(session_of(self.job).connected())
            self._is_connected = True
            if is_spread():
                check_shared(*self._local_folders())

    def _local_folders(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the folders on this machine that a run writes, and those it reads, by key.

        A source with a table may have its files anywhere else, so only folders of files count.
        """
        written = {"root": self.root.path()} if self.root.is_local else {}
        source = str(self.job.source.get("root") or "").removeprefix("file://")
        if not source or "://" in source or self.job.source.get("table"):
            return written, {}
        is_below = bool(written) and f"{source}/".startswith(f"{self.root.path().rstrip('/')}/")
        return written, {} if is_below else {"source.root": source}

    def tracker(self) -> Tracker | None:
        """Return the MLflow run, opened when first asked for; None where tracking is off."""
        if self._tracker is None and self.job.tracking.enabled:
            self._tracker = self.open_tracker()
            self.stack.push(self._close_tracker)
        return self._tracker

    def open_tracker(self, run_name: str | None = None, files: Root | None = None) -> Tracker:
        """Open an MLflow run at the server that is named, else in an SQLite file of the run.

        Args:
            run_name: Its name; None takes that of the run.
            files: Where the ids of it and its child runs are kept; None takes the root.
        """
        job, server = self.job, tracking_server(self.job.tracking.uri)
        kept = self.root.child("mlflow")
        is_fetched = server is None and not self.root.is_local
        return start_tracking(
            experiment=job.name,
            run_name=run_name or f"seed {job.seed}, data {job.data_seed}",
            params=shown(job),
            files=files or self.root,
            home=self.root.path() if self.root.is_local else kept.uri,
            local_folder=self.stack.enter_context(fetched_database(kept)) if is_fetched else None,
            uri=server,
        )

    def _close_tracker(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the MLflow run as what became of it."""
        if self._tracker is None:
            return
        if kind is None:
            self._tracker.finish()
        else:
            self._tracker.finish("FAILED" if issubclass(kind, Exception) else "KILLED")

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
            if looks_again or not is_listed:
                for note in note_source(self.root, self.source):
                    logger.info("%s", note)
        if refresh and not self._is_refreshed:
            for one in known_shared_groups(self.root, manifest):
                logger.warning("%s", one)
        self._is_refreshed |= refresh
        self._check_splits(manifest)
        return manifest

    def refer(self, *stores: str | None) -> None:
        """Record that this run uses stores, beside those that it used before.

        Args:
            stores: Folders below the root; None stands for none.
        """
        self.stores |= {one for one in stores if one is not None}
        refer(self.root, self.job.name, self.stores)

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
        check_needed_splits(self.job, counts)
        self._check_folds(manifest)
        num_pairs = num_select(self, manifest)
        if num_pairs == 0 and self.job.arms == "default":
            self.arms = tuple(arm for arm in self.arms if arm not in TRAINED_ON_SELECT)
            logger.warning(
                "the select part of the probe is empty: arms %s are left out%s",
                sorted(TRAINED_ON_SELECT),
                "" if counts.get(Split.PROBE) else ", and the gate cannot verify the student",
            )
        self.trial_settings(num_select=num_pairs).fits(self.arms, [0])

    def _check_folds(self, manifest: Manifest) -> None:
        """Refuse unlabeled samples of fewer groups than folds of witnesses.

        Raises:
            ConfigError: There are.
        """
        folds = self.job.expansion.folds
        if not self.job.expansion.enabled:
            return
        if (found := count_groups(manifest, Split.UNLABELED, enough=folds)) < folds:
            raise ConfigError(
                f"expansion.folds={folds}, but the unlabeled samples are of {found} groups, and no "
                "group is ever in two folds; give the rows groups of their own, or choose "
                "objective=mke"
            )

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
        ray_keys = self.job.ray
        return ray_runner(
            labelling,
            is_scaling=ray_keys.autoscaling,
            coming=coming_nodes(ray_keys.cluster_file) if ray_keys.cluster_file else (),
            verbose=self.job.verbose,
            say=say,
        )

    def working_runner(self, say: Callable[[str], None] | None = None) -> Runner:
        """Return the runner, now that work begins.

        Args:
            say: Called with what the units wait for.
        """
        self.clock.work_begins()
        return self.runner(say)

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
        seen = (teacher.modality, MASK)
        views = job.views if teacher.views is None else teacher.views
        return FitSpec(
            name=TEACHER_ARM,
            arm=TEACHER_ARM,
            samples=samples,
            labels=None,
            student=self._student({teacher.modality: teacher.network}, teacher.head_hidden),
            objective=self._objective(PLAIN_OBJECTIVE),
            rows=(RowSelection(Split.LABELLED, targets="true", modalities=(teacher.modality,)),),
            views={name: view for name, view in views.items() if name in seen},
            seed=job.seed if teacher.seed is None else teacher.seed,
            window_units=job.scaling.window_units,
            **_fit_keys(teacher.fit),
        )

    def arm_settings(
        self,
        samples: str,
        labels: str,
        *,
        teacher: str | None,
        num_select: int,
        num_labelled: int = 0,
        expansion: ExpansionSettings | None = None,
    ) -> ArmSettings:
        """Return what the arms share.

        Args:
            samples: Name of the sample store.
            labels: Name of the label store.
            teacher: Fingerprint of a trained teacher's fit, None for a teacher of the user's.
            num_select: Samples in the select part of the probe.
            num_labelled: Samples in the labelled split.
            expansion: What our student learns from; None where it is not trained.
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
            num_labelled=num_labelled,
            plain_views=job.plain_views,
            expansion=expansion,
        )

    def trial_settings(self, *, num_select: int = 1) -> ArmSettings:
        """Return what the arms share before there is a store, to check and to rehearse them.

        Args:
            num_select: Samples in the select part of the probe.
        """
        ours = expansion_to_be(self.job, self.source.label_space.kind)
        return self.arm_settings(
            "samples", "labels", teacher=None, num_select=num_select, expansion=ours
        )

    def _objective(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return the specification of an objective; ours is told the kind of labels."""
        return with_kind(spec, self.source.label_space.kind)

    def _student(self, encoders: Mapping[str, Any], head_hidden: list[int]) -> dict[str, Any]:
        """Return the specification of a student with some encoders, pretrained ones pinned."""
        return pinned(self._student_as_told(encoders, head_hidden))

    def _student_as_told(
        self, encoders: Mapping[str, Any], head_hidden: list[int]
    ) -> dict[str, Any]:
        """Return the specification of a student with some encoders."""
        is_teacher = encoders is not self.job.student.encoders
        own = self.job.teacher if is_teacher else self.job.student
        if own.decoder:
            flip = {"flip_average": True} if is_teacher and self.job.teacher.flip_average else {}
            return {
                "encoders": dict(encoders),
                "fusion": {"type": "add"} if is_teacher else self.job.student.fusion,
                "decoder": dict(own.decoder),
                "dropout": own.dropout,
                **flip,
            }
        return {
            "encoders": dict(encoders),
            "fusion": {"type": "concat"} if is_teacher else self.job.student.fusion,
            "head_hidden": list(head_hidden),
            "dropout": own.dropout,
        }


def num_in_splits(manifest: Manifest, splits: Sequence[str]) -> int:
    """Return the number of samples in some splits."""
    return sum(manifest.meta["counts"].get(str(split), 0) for split in splits)


def num_select(run: Run, manifest: Manifest) -> int:
    """Return the number of samples in the select part of the probe."""
    fraction = run.job.gate.select_fraction
    return sum(
        not row.mark and probe_part(row.group, select_fraction=fraction) == SELECT
        for ref in manifest.unit_refs([Split.PROBE])
        for row in manifest.read_unit(ref)
    )


def _fit_keys(fit: FitConfig) -> dict[str, Any]:
    """Return the keys that a section ``fit`` and a fit share."""
    return asdict(fit)
