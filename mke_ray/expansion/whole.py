"""All stages of one run in order, and its end: evaluation, gate, export, report, tracking."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from mke_ray.config_schema import JobConfig
from mke_ray.data.manifest import Manifest
from mke_ray.expansion.calibrating import calibration_stage
from mke_ray.expansion.checks import open_run
from mke_ray.expansion.contribution import contribution_stage
from mke_ray.expansion.doubles import doubles_stage
from mke_ray.expansion.drawn import scores_on_test
from mke_ray.expansion.exporting import export_student, record_origin, register_student
from mke_ray.expansion.mlflow_file import folder_here
from mke_ray.expansion.outcome import (
    Outcome,
    is_reported,
    mark_reported,
    report_content,
)
from mke_ray.expansion.preflight_end import end_with_preflight, preflight_numbers
from mke_ray.expansion.preflighting import (
    Labelled,
    is_to_stop,
    known_preflight,
    preflight_ahead,
    preflight_of_all,
)
from mke_ray.expansion.refining import refine_stage
from mke_ray.expansion.rounds import Refined
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import (
    Labels,
    TaughtTeacher,
    arm_fits,
    evaluate_stage,
    gate_stage,
    known_labels,
    known_teacher,
    label_stage,
    teach_stage,
    train_stage,
)
from mke_ray.report import ReportContent, metrics_of, terminal_report, write_report
from mke_ray.train.fits import FitSpec, FitStore

__all__ = ["finish", "fits_of", "refine_stage", "run_stages"]


def run_stages(job: JobConfig, *, console: Console | None = None) -> dict[str, Any]:
    """Carry out every stage of one run.

    Args:
        job: The configuration.
        console: Where the result is printed; None prints nothing.

    Returns:
        The content of ``report/metrics.json``; where the pre-flight ended the run, that of
        ``report/preflight.json`` as ``preflight``, and no ``arms``.
    """
    with open_run(job) as run:
        manifest, teacher = taught(run)
        looked = preflight_ahead(run, manifest, teacher)
        if looked is not None and is_to_stop(run, looked):
            return end_with_preflight(run, looked, console=console)
        labelled = label_all(run, manifest, teacher)
        looked = looked or preflight_of_all(run, labelled)
        if looked is not None and is_to_stop(run, looked):
            return end_with_preflight(run, looked, console=console)
        found = refine_all(run, labelled)
        if not all(FitStore(run.root).has(one.fingerprint()) for one in found.fits):
            run.tracker()  # so that a run that fails is on record
        train_stage(run, found.fits)
        return finish(run, console=console, known=(found.teacher, found.labels, found.refined))


@dataclass(frozen=True, slots=True)
class BeforeTraining:
    """What the stages before the training of the arms leave.

    Args:
        manifest: The samples, without copies.
        teacher: The teacher.
        labels: The labels.
        refined: What our student learns from; None where it is not trained.
        fits: The fits of the arms.
    """

    manifest: Manifest
    teacher: TaughtTeacher
    labels: Labels
    refined: Refined | None
    fits: list[FitSpec]


def before_training(run: Run) -> BeforeTraining:
    """Carry out the stages before the training of the arms, without a pre-flight."""
    return refine_all(run, label_all(run, *taught(run)))


def taught(run: Run) -> tuple[Manifest, TaughtTeacher]:
    """List the samples and train the teacher, or take the user's."""
    manifest = run.manifest(refresh=True)
    return manifest, teach_stage(run, manifest)


def label_all(run: Run, manifest: Manifest, teacher: TaughtTeacher) -> Labelled:
    """Label every sample, and mark copies."""
    labels = label_stage(run, manifest, teacher)
    return Labelled(doubles_stage(run, manifest)[0], labels, teacher)


def refine_all(run: Run, labelled: Labelled) -> BeforeTraining:
    """Refine the labels, and name the fits of the arms."""
    manifest, labels, teacher = labelled.manifest, labelled.labels, labelled.teacher
    refined = refine_stage(run, manifest, labels, teacher)
    fits = fits_of(run, manifest, labels, teacher, refined)
    return BeforeTraining(manifest, teacher, labels, refined, fits)


def fits_of(
    run: Run,
    manifest: Manifest,
    labels: Labels,
    teacher: TaughtTeacher,
    refined: Refined | None,
) -> list[FitSpec]:
    """Return the fits of the arms asked for, with what our student learns from."""
    expansion = None if refined is None else refined.settings
    return arm_fits(run, manifest, labels, teacher, expansion=expansion)


def finish(
    run: Run,
    *,
    console: Console | None = None,
    known: tuple[TaughtTeacher, Labels, Refined | None] | None = None,
) -> dict[str, Any]:
    """Evaluate the arms, open the gate, export, report and track; print the verdict.

    Args:
        run: A run whose fits are trained.
        console: Where the result is printed; None prints nothing.
        known: Teacher, labels and what was refined, if earlier stages of this process have them.
    """
    manifest = run.manifest()
    teacher = known[0] if known else known_teacher(run, manifest)
    labels = known[1] if known else known_labels(run, manifest, teacher)
    manifest, doubles = doubles_stage(run, manifest)
    refined = known[2] if known else refine_stage(run, manifest, labels, teacher, is_known=True)
    fits = fits_of(run, manifest, labels, teacher, refined)
    with run.clock.stage("evaluate"):
        relabelled = None if refined is None else refined.relabelled
        plan, evaluation = evaluate_stage(run, manifest, labels, fits, relabelled=relabelled)
        decision = gate_stage(run, evaluation)
        outcome = Outcome(
            manifest,
            teacher,
            labels,
            fits,
            evaluation,
            decision,
            doubles,
            compared=plan,
            refined=refined,
            preflight=known_preflight(run, Labelled(manifest, labels, teacher)),
        )
        calibrated = calibration_stage(run, labels, plan, refined)
        outcome.calibration, outcome.student_calibration = calibrated
        outcome.contribution = contribution_stage(run, manifest, labels, fits, plan)
        is_new = not is_reported(run.root, outcome)
        if is_new:
            run.clock.work_begins()
    content = report_content(run, outcome)
    page = run.root.child("report", "index.html").uri
    if is_new:
        run.check_lease()
        found = outcome.student_calibration
        export_student(run, outcome, temperature=1.0 if found is None else found.temperature)
        page = write_report(run.root, content, scores_on_test(evaluation, manifest))
        _track(run, content, outcome)
        mark_reported(run.root, outcome)
    if console is not None:
        console.print(terminal_report(content))
        if outcome.decision.promoted:
            console.print(f"Student: {run.root.child('student').uri}", soft_wrap=True)
        console.print(f"Report: {page}", soft_wrap=True)
    return metrics_of(content)


def _track(run: Run, content: ReportContent, outcome: Outcome) -> None:
    """Record the run to MLflow: configuration, numbers, curves, the page."""
    tracker = run.tracker()
    if tracker is None:
        return
    metrics = metrics_of(content)
    tracker.log_metrics(_headline_numbers(metrics))
    page = run.root.child("report", "index.html").uri
    tracker.set_tags({"verdict": metrics["gate"]["verdict"], "report": page})
    record_origin(run, outcome, tracker)
    store = FitStore(run.root)
    for fit in outcome.fits:
        child = tracker.child(fit.name, fit.to_dict())
        child.log_history(store.history(fit.fingerprint()))
        child.log_metrics({"test": metrics["arms"][fit.arm]["seeds"][str(fit.seed)]})
        child.finish()
    tracker.finish()  # before files, whose store is another one and may fail alone
    with folder_here(run.root.child("report")) as folder:
        tracker.log_artifacts(folder)
    register_student(run, outcome, tracker)


def _headline_numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a run that are compared between runs."""
    arms = {f"test/{name}": arm["value"] for name, arm in metrics["arms"].items()}
    further = {
        f"{name}/{arm}": value
        for arm, one in metrics["arms"].items()
        for name, value in one.get("further", {}).items()
    }
    labels = {f"pseudo_labels/{key}": value for key, value in metrics["pseudo_labels"].items()}
    gate = {f"gate/{key}": metrics["gate"][key] for key in ("gain", "lower_bound", "promoted")}
    seconds = {f"seconds/{key}": value for key, value in metrics["seconds"].items()}
    ahead = preflight_numbers(metrics["preflight"])
    return {**arms, **further, **labels, **gate, **seconds, **ahead}
