"""The stage that brings the many small files of a finished pass into parts of useful size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mke_ray.data.manifest import UnitRef
from mke_ray.expansion.run import Run
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.labelling import PassReport
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.worker import WorkItem, WorkPlan
from mke_ray.report.progress import stage_progress

_MB = 1 << 20


def compact_stage(
    run: Run, plan: LabelPlan, refs: Sequence[UnitRef], report: PassReport
) -> PassReport:
    """Bring samples and labels into parts; a finished compaction does nothing.

    Args:
        run: The run.
        plan: The plan of the finished pass.
        refs: Its units, which are all of the manifest.
        report: What the pass left behind.

    Returns:
        The report with the places of the units after it.

    Raises:
        StoreError: Another driver took over, or the file of a unit is missing or damaged.
    """
    part_bytes = int(run.job.labelling.part_mb * _MB)
    if not part_bytes:
        return report
    with stage_progress("compact", unit="units") as shown:

        def progress(done: int, total: int, text: str = "") -> None:
            run.clock.work_begins()
            shown(done, total, text)

        samples, *labels = compact(
            CompactionPlan(run.root, plan.stores),
            refs,
            [report.samples, *report.labels],
            _PartRunner(run, lambda text: progress(0, 0, text)),
            part_bytes=part_bytes,
            progress=progress,
            lease=run.lease,
        )
    return replace(report, samples=samples, labels=tuple(labels))


@dataclass(frozen=True, slots=True)
class _PartRunner:
    """The runner of the run without its GPUs: parts are written by CPUs.

    Args:
        run_context: The run.
        say: Called with what the work waits for.
    """

    run_context: Run
    say: Callable[[str], None]

    def run(self, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
        """Write the parts; called only if there are many."""
        runner = self.run_context.runner(self.say)
        if isinstance(runner, RayDataRunner):
            runner = replace(runner, pool=replace(runner.pool, num_gpus=0.0))
        yield from runner.run(plan, refs)
