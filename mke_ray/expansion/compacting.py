"""The stage that brings the many small files of a finished pass into parts of useful size."""

from collections.abc import Sequence
from dataclasses import replace

from mke_ray.data.manifest import UnitRef
from mke_ray.expansion.run import Run
from mke_ray.expansion.work import WithoutGpus
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.labelling import PassReport
from mke_ray.labels.plan import LabelPlan
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
            WithoutGpus(run, lambda text: progress(0, 0, text)),
            part_bytes=part_bytes,
            progress=progress,
            lease=run.lease,
        )
    return replace(report, samples=samples, labels=tuple(labels))
