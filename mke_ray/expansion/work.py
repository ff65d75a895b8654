"""The work of the stages: units and fits, with their progress, on Ray only where there is any."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.evaluation import PredictionPlan
from mke_ray.expansion.pass_curve import PassCurve
from mke_ray.expansion.run import TEACHER_ENGINE, Run
from mke_ray.labels.labelling import LocalRunner, PassReport, Runner, run_pass
from mke_ray.labels.labelling_keys import computing_of, limits_of, plan_keys, threads_of
from mke_ray.labels.lazy_runner import LazyRunner
from mke_ray.labels.origin import Origin
from mke_ray.labels.pass_words import summary
from mke_ray.labels.plan import LabelPlan, samples_store, with_teachers
from mke_ray.labels.ray_metrics import RayMetrics
from mke_ray.labels.spilling import Spilling
from mke_ray.labels.store import UnitStore
from mke_ray.labels.todo import retry_reasons
from mke_ray.report.progress import PassShown, stage_progress
from mke_ray.train.engine_settings import engine_words
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.launch import run_fits

logger = logging.getLogger(__name__)

MOST_ROWS_HERE = 4096  # of so few, starting actors takes longer than the work


def make_label_plan(run: Run, manifest: Manifest, teachers: Sequence[dict[str, Any]]) -> LabelPlan:
    """Return the plan of a pass over the run's source."""
    labelling = run.job.labelling
    plan = LabelPlan(
        run.root,
        manifest,
        run.job.source,
        samples_of(run),
        retry=retry_reasons(run.job.retry),
        **plan_keys(labelling),
    )
    return with_teachers(plan, teachers, computing=computing_of(labelling), top_k=labelling.top_k)


def samples_of(run: Run) -> UnitStore:
    """Open or begin the sample store of a run."""
    return samples_store(run.root, run.job.decode, media=run.job.samples)


def origin_of(run: Run, num_cpus: float = 1.0) -> Origin | None:
    """Return where samples are read again after the pass, None where the store keeps their media.

    Args:
        run: The run.
        num_cpus: CPUs of the worker that reads them.
    """
    if run.job.samples:
        return None
    return Origin(run.job.source, threads_of(num_cpus), limits_of(run.job.labelling))


def run_label_pass(run: Run, plan: LabelPlan, refs: list[UnitRef], title: str) -> PassReport:
    """Run a pass with its progress; of one that labels, MLflow gets the curve."""
    curve = PassCurve(run.tracker if plan.teachers else lambda: None)
    spilling = Spilling()
    with stage_progress(title, unit="samples") as progress:
        shown = PassShown(progress)
        report = run_pass(
            plan,
            refs,
            LazyRunner(run.working_runner, shown.say, spilling),
            progress=shown.tell,
            lease=run.lease,
            cost_per_hour=run.job.labelling.cost_per_hour,
            watchers=[RayMetrics(run.job.name), curve],
        )
    if report.num_units_run:
        num_spilled = spilling.num_bytes()
        curve.finish(report.state, num_bytes_spilled=num_spilled)
        for said in summary(report.state, num_bytes_spilled=num_spilled):
            logger.info("%s: %s", title, said)
    return report


def train_fits(run: Run, fits: Sequence[FitSpec], title: str) -> None:
    """Train fits with their progress; a teacher needs no worker group."""
    store = FitStore(run.root)
    finished = {one: store.has(one) for one in dict.fromkeys(fit.fingerprint() for fit in fits)}
    is_teacher = title == "teach"
    engine = TEACHER_ENGINE if is_teacher else run.job.engine
    if all(finished.values()):
        logger.info(
            "%s: nothing to train, all %d networks are finished (engine and scaling are not part "
            "of what a network is; another root trains them anew)",
            title,
            len(finished),
        )
        return
    logger.info(
        "%s: %d of %d networks to train, engine %s",
        title,
        len(finished) - sum(finished.values()),
        len(finished),
        engine_words(engine),
    )
    run.clock.work_begins()
    launch = run.job.scaling.launch
    if is_teacher and launch == "trainer":
        launch = "tasks"
    if launch != "local":
        run.connect()
    with stage_progress(title, unit="steps") as progress:
        run_fits(
            fits,
            root=run.root,
            launch=launch,
            scaling={
                **asdict(run.job.scaling),
                "verbose": run.job.verbose,
                "is_autoscaling": run.job.ray.autoscaling,
            },
            engine=engine,
            progress=progress,
            origin=origin_of(run, run.job.scaling.cpus_per_worker),
        )


def light_runner(plan: PredictionPlan, refs: Sequence[UnitRef]) -> Runner | None:
    """Return the runner in this process where starting actors takes longer than predictions.

    Args:
        plan: Which networks look at which samples.
        refs: The units.

    Returns:
        None where there is too much to do, or it takes the source or a GPU.
    """
    is_light = plan.origin is None and plan.device == "cpu" and is_little(refs)
    return LocalRunner() if is_light else None


def is_little(refs: Sequence[UnitRef]) -> bool:
    """Return whether units hold so few rows that this process is the quickest."""
    return sum(ref.num_rows for ref in refs) <= MOST_ROWS_HERE


def folder_name(store: UnitStore) -> str:
    """Return the name of a store, which is the fingerprint of what it was made from."""
    return store.name
