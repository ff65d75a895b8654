"""The stage that brings the many small files of a finished pass into parts of useful size."""

from collections.abc import Sequence
from dataclasses import replace

from mke_ray.data.manifest import UnitRef
from mke_ray.expansion.run import Run
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.index import Index
from mke_ray.labels.labelling import PassReport
from mke_ray.labels.lazy_runner import LazyRunner
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.store import UnitStore
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
    samples, *labels = _compacted(run, plan.stores, refs, [report.samples, *report.labels])
    return replace(report, samples=samples, labels=tuple(labels))


def compact_store(run: Run, store: UnitStore, refs: Sequence[UnitRef]) -> UnitStore:
    """Bring the units of a finished store of answers or derived labels into parts.

    Args:
        run: The run.
        store: The store, with its index written.
        refs: Its units.

    Returns:
        The store.
    """
    _compacted(run, (store,), refs, [store.read_index()])
    return store


def _compacted(
    run: Run, stores: tuple[UnitStore, ...], refs: Sequence[UnitRef], indexes: Sequence[Index]
) -> tuple[Index, ...]:
    """Return the indexes of finished stores once their units lie in parts."""
    part_bytes = int(run.job.labelling.part_mb * _MB)
    if not part_bytes:
        return tuple(indexes)
    with stage_progress("compact", unit="units") as shown:

        def progress(done: int, total: int, text: str = "") -> None:
            run.clock.work_begins()
            shown(done, total, text)

        return compact(
            CompactionPlan(run.root, stores),
            refs,
            indexes,
            LazyRunner(run.working_runner, lambda text: progress(0, 0, text), is_light=True),
            part_bytes=part_bytes,
            progress=progress,
            lease=run.lease,
        )
