"""The work of the stages: units and fits, with their progress, on Ray only where there is any."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mke_ray.config_schema import LabellingConfig
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.expansion.run import TEACHER_ENGINE, Run
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.labelling import PassReport, run_pass
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.labels.store import UnitStore
from mke_ray.labels.todo import retry_reasons
from mke_ray.labels.worker import UnitReport, WorkPlan
from mke_ray.report.progress import Report, stage_progress
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.launch import run_fits


def make_label_plan(run: Run, manifest: Manifest, teachers: Sequence[dict[str, Any]]) -> LabelPlan:
    """Return the plan of a pass over the run's source."""
    labelling = run.job.labelling
    plan = make_plan(
        run.root,
        manifest=manifest,
        source=run.job.source,
        decode=run.job.decode,
        teachers=teachers,
        max_bad_fraction=labelling.max_bad_fraction,
        num_threads=max(1, int(labelling.num_cpus)),
    )
    return replace(plan, limits=_limits(labelling), retry=retry_reasons(run.job.retry))


def _limits(labelling: LabellingConfig) -> SampleLimits | None:
    """Return what reading one sample may take, None for reading without a process of its own."""
    if labelling.sample_timeout_s is None:
        return None
    return SampleLimits(labelling.sample_timeout_s, int(labelling.sample_memory_gb * 2**30))


def run_label_pass(run: Run, plan: LabelPlan, refs: list[UnitRef], title: str) -> PassReport:
    """Run a pass with its progress."""
    with stage_progress(title, unit="samples") as progress:
        shown = PassShown(progress)
        return run_pass(
            plan,
            refs,
            LazyRunner(run, shown.say),
            progress=shown.tell,
            lease=run.lease,
            cost_per_hour=run.job.labelling.cost_per_hour,
        )


@dataclass(slots=True)
class PassShown:
    """Shows how far a pass is, and what it waits for before anything is done.

    Args:
        report: What shows it.
        num_done: Samples done so far.
        num_wanted: Samples wanted.
    """

    report: Report
    num_done: int = 0
    num_wanted: int = 0

    def tell(self, done: int, total: int, eta_s: float | None, text: str) -> None:
        """Show samples done, samples wanted, the seconds left and how the pass goes."""
        self.num_done, self.num_wanted = done, total
        self.report(done, total, text, eta_s=eta_s)

    def say(self, text: str) -> None:
        """Show what is waited for."""
        self.report(self.num_done, self.num_wanted, text, eta_s=None)


def train_fits(run: Run, fits: Sequence[FitSpec], title: str) -> None:
    """Train fits with their progress; a teacher needs no worker group."""
    store = FitStore(run.root)
    if all(store.has(one.fingerprint()) for one in fits):
        return
    run.clock.work_begins()
    is_teacher = title == "teach"
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
            scaling={**asdict(run.job.scaling), "verbose": run.job.verbose},
            engine=TEACHER_ENGINE if is_teacher else run.job.engine,
            progress=progress,
        )


@dataclass(frozen=True, slots=True)
class LazyRunner:
    """Connects to Ray only when there is work.

    Args:
        run_context: The run.
        say: Called with what the work waits for.
    """

    run_context: Run
    say: Callable[[str], None] | None = None

    def run(self, plan: WorkPlan, refs: Sequence[UnitRef]) -> Iterator[UnitReport]:
        """Work on the units with the runner of the run; called only if there are any."""
        self.run_context.clock.work_begins()
        yield from self.run_context.runner(self.say).run(plan, refs)


def folder_name(store: UnitStore) -> str:
    """Return the name of a store, which is the fingerprint of what it was made from."""
    return store.root.uri.rstrip("/").rsplit("/", 1)[-1]
