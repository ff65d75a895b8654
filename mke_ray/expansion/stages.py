"""The stages of an expansion; each does nothing where its result is there already."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.errors import StoreError
from mke_ray.evaluation import (
    Evaluation,
    EvaluationPlan,
    FitColumn,
    PredictionPlan,
    evaluate,
    refs_with_truth,
    run_predictions,
)
from mke_ray.evaluation.predictions import PREDICTIONS_FOLDER
from mke_ray.expansion.averaged_views import averaged
from mke_ray.expansion.compacting import compact_stage, compact_store
from mke_ray.expansion.doubles import doubles_stage
from mke_ray.expansion.label_rules import LabelRules
from mke_ray.expansion.run import Run, num_in_splits, num_select
from mke_ray.expansion.work import (
    PassShown,
    folder_name,
    make_label_plan,
    origin_of,
    run_label_pass,
    samples_of,
    train_fits,
)
from mke_ray.gate import (
    GateDecision,
    GateRules,
    GateScores,
    decide,
    sampling_of,
    with_rival_on_test,
    with_test_gain,
)
from mke_ray.labels.asked import answered_records, records_of
from mke_ray.labels.doubles import TAUGHT_SPLITS
from mke_ray.labels.labelling import PassReport, run_pass
from mke_ray.labels.lazy_runner import LazyRunner
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.sample_reader import SampleReader, keeps_media, sample_reader
from mke_ray.labels.store import UnitStore
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.worker import WorkItem, WorkPlan
from mke_ray.report.progress import stage_progress
from mke_ray.schema import LabelKind, Split
from mke_ray.storage import Root
from mke_ray.train.arms import (
    RELABELLED_ARM,
    TRAINED_ON_SELECT,
    ArmSettings,
    ExpansionSettings,
)
from mke_ray.train.fits import FitSpec, FitStore, revisions_of

logger = logging.getLogger(__name__)

LABELLED_ONLY_ARM = "mm_labelled_only"


@dataclass(frozen=True, slots=True)
class TaughtTeacher:
    """The teacher of a run.

    Args:
        spec: What it is built from, on the driver and on every worker.
        fit: Fingerprint of its fit, None where the user brought it.
    """

    spec: dict[str, Any]
    fit: str | None = None


@dataclass(slots=True)
class Labels:
    """The stores that training reads.

    Args:
        samples: The sample store.
        labels: The label store.
        report: What the pass did and found.
        more: Label stores of the further teachers by their names.
    """

    samples: UnitStore
    labels: UnitStore
    report: PassReport
    more: dict[str, UnitStore] = field(default_factory=dict)


def teach_stage(run: Run, manifest: Manifest) -> TaughtTeacher:
    """Train the teacher on the labelled split, or take the user's.

    Test and probe are decoded with it, so that it learns from no copy of their samples.
    """
    if not run.job.teacher.train:
        return known_teacher(run, manifest)
    with run.clock.stage("teach"):
        splits = TAUGHT_SPLITS if run.job.doubles.enabled else (Split.LABELLED,)
        refs = list(manifest.unit_refs(splits))
        plan = make_label_plan(run, manifest, ())
        run.refer(*_folders(plan))
        run_label_pass(run, plan, refs, f"decode {', '.join(splits)}")
        manifest, _ = doubles_stage(run, manifest, splits=splits)
        spec = teacher_fit(run, manifest)
        run.refer(fit_folder(spec.fingerprint()))
        if not FitStore(run.root).has(spec.fingerprint()):
            train_fits(run, [spec], "teach")
    return known_teacher(run, manifest)


def known_teacher(run: Run, manifest: Manifest) -> TaughtTeacher:
    """Return the teacher for a later stage.

    Raises:
        StoreError: It has not been trained yet.
    """
    if not run.job.teacher.train:
        return TaughtTeacher(averaged(run.job.teacher, run.job.teacher.network))
    store, fit = FitStore(run.root), teacher_fit(run, manifest).fingerprint()
    if not store.has(fit):
        raise StoreError(
            f"{run.root.uri} holds no teacher of this configuration and these labelled samples; "
            "run jobs/teach.py first, with the same settings"
        )
    loader = _teacher_loader(run, store.student_folder(fit))
    return TaughtTeacher(averaged(run.job.teacher, loader), fit)


def label_stage(run: Run, manifest: Manifest, teacher: TaughtTeacher) -> Labels:
    """Decode every sample once and write the teacher's logits.

    Raises:
        MediaError: More samples are unreadable than allowed.
    """
    with run.clock.stage("label"):
        plan = _label_plan(run, manifest, teacher)
        run.refer(*_folders(plan), fit_folder(teacher.fit))
        _say_what_is_read_again(plan)
        refs = list(manifest.unit_refs())
        report = compact_stage(run, plan, refs, run_label_pass(run, plan, refs, "label"))
    return _labels(run, plan, report)


def label_some(
    run: Run, manifest: Manifest, teacher: TaughtTeacher, refs: Sequence[UnitRef], title: str
) -> Labels:
    """Decode and label some units ahead of the others, which ``label_stage`` brings to their end.

    Args:
        run: The run.
        manifest: Its samples.
        teacher: The teacher.
        refs: The units.
        title: Title of the progress.

    Raises:
        MediaError: More of their samples are unreadable than allowed.
    """
    with run.clock.stage("label"):
        plan = _label_plan(run, manifest, teacher)
        run.refer(*_folders(plan), fit_folder(teacher.fit))
        return _labels(run, plan, run_label_pass(run, plan, list(refs), title))


def _label_plan(run: Run, manifest: Manifest, teacher: TaughtTeacher) -> LabelPlan:
    """Return the plan of the pass of all teachers.

    Samples that a trained teacher learnt from are not read again after it was trained: it would
    have to be trained anew, and everything labelled anew. That is for the stage before.
    """
    specs = (teacher.spec, *run.job.more_teachers.values())
    plan = make_label_plan(run, manifest, specs)
    return replace(plan, unretried=frozenset({Split.LABELLED} if teacher.fit else ()))


def _labels(run: Run, plan: LabelPlan, report: PassReport) -> Labels:
    """Return the stores of a finished pass."""
    first, *others = (one.labels for one in plan.teachers)
    return Labels(
        plan.samples, first, report, dict(zip(run.job.more_teachers, others, strict=True))
    )


def _say_what_is_read_again(plan: LabelPlan) -> None:
    """Say how many units are decoded once more, since their media were not kept."""
    if keeps_media(plan.samples):
        return
    if again := plan.samples.committed() - plan.teachers[0].labels.committed():
        logger.info(
            "samples=off: %d units were decoded before and are decoded again for their labels",
            len(again),
        )


def known_labels(run: Run, manifest: Manifest, teacher: TaughtTeacher) -> Labels:
    """Return the stores for a later stage.

    Raises:
        StoreError: The labelling pass is not finished.
    """
    plan = replace(_label_plan(run, manifest, teacher), retry=frozenset())
    run.refer(*_folders(plan), fit_folder(teacher.fit))
    report = run_pass(plan, manifest.unit_refs(), _NotYet(run.root), lease=run.lease)
    return _labels(run, plan, report)


@dataclass(frozen=True, slots=True)
class _NotYet:
    """The runner of a stage for which everything must be labelled already."""

    root: Root

    def run(self, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
        """Refuse.

        Raises:
            StoreError: Always.
        """
        raise StoreError(
            f"{self.root.uri}: {len(refs)} units are not labelled yet; run jobs/label.py first, "
            "with the same settings"
        )


def arm_settings(
    run: Run,
    manifest: Manifest,
    labels: Labels,
    teacher: TaughtTeacher,
    *,
    expansion: ExpansionSettings | None = None,
) -> ArmSettings:
    """Return what the arms share.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The teacher's labels.
        teacher: The teacher.
        expansion: What our student learns from; None where it is not trained.
    """
    settings = run.arm_settings(
        folder_name(labels.samples),
        folder_name(labels.labels),
        teacher=teacher.fit,
        num_select=num_select(run, manifest),
        num_labelled=num_in_splits(manifest, [Split.LABELLED]),
        expansion=expansion,
    )
    rule = label_rules(run, manifest, labels).configured(run.job.labels)
    return replace(settings, template=replace(settings.template, label_rule=rule))


def label_rules(run: Run, manifest: Manifest, labels: Labels) -> LabelRules:
    """Return what makes the rules of the teacher's labels."""
    return LabelRules(run.root, manifest, samples=labels.samples, labels=labels.labels)


def arm_fits(
    run: Run,
    manifest: Manifest,
    labels: Labels,
    teacher: TaughtTeacher,
    *,
    expansion: ExpansionSettings | None = None,
) -> list[FitSpec]:
    """Return the fits of the arms asked for; the arguments are those of ``arm_settings``."""
    settings = arm_settings(run, manifest, labels, teacher, expansion=expansion)
    fits = settings.fits(run.arms, run.job.model_seeds)
    return [of_today(one, manifest, labels.samples) for one in fits]


def train_stage(run: Run, fits: Sequence[FitSpec]) -> None:
    """Train the fits that are not there yet.

    Raises:
        StoreError: Another driver took over.
    """
    run.check_lease()
    run.refer(*(fit_folder(one.fingerprint()) for one in fits))
    with run.clock.stage("train"):
        train_fits(run, fits, "train")


def evaluate_stage(
    run: Run,
    manifest: Manifest,
    labels: Labels,
    fits: Sequence[FitSpec],
    *,
    relabelled: UnitStore | None = None,
) -> tuple[EvaluationPlan, Evaluation]:
    """Predict every sample with a true label and compare the arms.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The teacher's labels.
        fits: The fits of the arms.
        relabelled: Refined labels, compared as an arm of their own; None where there are none.

    Returns:
        What was compared, and what was found.

    Raises:
        StoreError: A fit is missing.
    """
    store = FitStore(run.root)
    missing = [one.name for one in fits if not store.has(one.fingerprint())]
    if missing:
        raise StoreError(f"{run.root.uri}: {missing} are not trained yet; run jobs/train.py first")
    columns = [FitColumn(one.arm, one.seed, one.fingerprint()) for one in fits]
    predictions = predict_columns(run, manifest, labels, columns)
    compared = EvaluationPlan(
        manifest=manifest,
        labels=labels.labels,
        predictions=predictions,
        columns=columns,
        shipped=run.shipped,
        trained_on_select=_trained_on_select(fits),
        relabelled=relabelled,
        select_fraction=run.job.gate.select_fraction,
        samples=truth_reader(run, manifest, labels),
        decode=run.job.decode,
        further_metrics=run.job.further_metrics,
    )
    return compared, evaluate(compared)


def predict_columns(
    run: Run,
    manifest: Manifest,
    labels: Labels,
    columns: Sequence[FitColumn],
    *,
    splits: Sequence[str] = (Split.TEST, Split.PROBE, Split.UNLABELED),
    refs: Sequence[UnitRef] | None = None,
) -> UnitStore:
    """Return what trained networks say of the samples with true labels.

    Args:
        run: The run.
        manifest: Its samples.
        labels: The teacher's labels.
        columns: The networks.
        splits: Splits of the samples.
        refs: Units in the place of all that have true labels.
    """
    store = FitStore(run.root)
    plan = PredictionPlan(
        root=run.root,
        samples=folder_name(labels.samples),
        decode=run.job.decode,
        students={one.fit: store.student_folder(one.fit) for one in columns},
        classes=run.classes(),
        device=run.labelling_device,
        origin=origin_of(run, run.job.labelling.num_cpus),
        is_dense=manifest.label_space.kind is LabelKind.DENSE,
    )
    run.refer(*(fit_folder(one.fit) for one in columns), f"{PREDICTIONS_FOLDER}/{plan.name}")
    refs = list(refs_with_truth(manifest, splits)) if refs is None else refs
    with stage_progress("evaluate", unit="samples") as progress:
        predictions = run_predictions(
            plan,
            refs,
            runner=LazyRunner(run.working_runner, PassShown(progress).say).run,
            progress=progress,
        )
    return compact_store(run, predictions, refs)


def truth_reader(run: Run, manifest: Manifest, labels: Labels) -> SampleReader | None:
    """Return what reads the true class maps of dense labels, None of other labels."""
    if manifest.label_space.kind is not LabelKind.DENSE:
        return None
    return sample_reader(labels.samples, run.root, origin_of(run))


def gate_stage(run: Run, evaluation: Evaluation) -> GateDecision:
    """Open the gate for the student, once.

    Raises:
        StoreError: Another driver took over.
    """
    run.check_lease()
    student = evaluation.columns[run.shipped][0]
    rival = evaluation.columns.get(LABELLED_ONLY_ARM, ())
    part = evaluation.gate
    scores = None
    if part.num_samples:
        scores = GateScores(
            sample_id_N=part.sample_id_N,
            group_N=part.group_N,
            teacher_N=part.scores["teacher"],
            student_N=part.scores[student],
            labelled_only_N=part.scores[rival[0]] if rival else None,
            metric=evaluation.metric,
            sampling=sampling_of(
                part.sample_id_N, answered_records(records_of(run.root), run.source)
            ),
            truth_N=part.truth_N,
        )
    gate = run.job.gate
    rules = GateRules(
        confidence=gate.confidence, min_samples=gate.min_samples, min_groups=gate.min_groups
    )
    decision = decide(run.root, scores, student=student, rules=rules)
    arms = evaluation.arms
    shipped = arms[run.shipped]
    decision = with_test_gain(decision, gain=shipped.gain, ci95=shipped.gain_ci95)
    if not rival:
        return decision
    labelled_only = arms[LABELLED_ONLY_ARM].value
    return with_rival_on_test(
        decision,
        student=shipped.value,
        labelled_only=labelled_only,
        teacher=evaluation.arms["teacher"].value,
    )


def _trained_on_select(fits: Sequence[FitSpec]) -> set[str]:
    """Return the arms that learned from the select part of the probe."""
    learnt = {one.arm for one in fits if any(row.split == Split.PROBE for row in one.rows)}
    return {*learnt, *TRAINED_ON_SELECT, RELABELLED_ARM}


def teacher_fit(run: Run, manifest: Manifest) -> FitSpec:
    """Return the fit of a teacher that is trained on the labelled split."""
    samples = samples_of(run)
    return of_today(run.teacher_fit(folder_name(samples)), manifest, samples)


def of_today(spec: FitSpec, manifest: Manifest, samples: UnitStore) -> FitSpec:
    """Return a fit that names the rows and the samples that it is trained on."""
    return replace(
        spec,
        data=manifest.digest(spec.splits),
        revisions=revisions_of(samples, spec.splits),
    )


def _folders(plan: LabelPlan) -> list[str]:
    """Return the folders of the stores of a pass below the root."""
    samples, *labels = map(folder_name, plan.stores)
    return [f"samples/{samples}", *(f"labels/{name}" for name in labels)]


def fit_folder(fit: str | None) -> str | None:
    """Return the folder of a fit below the root."""
    return None if fit is None else f"fits/{fit}"


def _teacher_loader(run: Run, folder: Root) -> dict[str, Any]:
    """Return what a trained teacher is built from, on the driver and on every worker."""
    return {
        "_target_": "mke_ray.models.teachers.StudentTeacher",
        "path": folder.uri,
        "device": run.labelling_device,
        "storage_options": dict(folder.options),
        "classes": {
            target: {"_target_": "hydra.utils.get_class", "path": target}
            for target in run.classes()
        },
    }
