"""Compaction: the many small files of units become parts, a few at a time, on any worker.

A pass leaves a file per unit. A part holds the units of some tens of megabytes, of one split and in
the order of the manifest, each as it was, as the next generation of its unit.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.file_names import COMPACTING
from mke_ray.labels.index import Index
from mke_ray.labels.indexing import survey, write_index
from mke_ray.labels.labelling import LocalRunner, Runner
from mke_ray.labels.layout import plan_parts
from mke_ray.labels.lease import Lease
from mke_ray.labels.moving import move_units
from mke_ray.labels.store import UnitStore
from mke_ray.labels.sweeping import delete_unnamed_attempts, delete_unnamed_parts
from mke_ray.labels.unit_report import UnitReport
from mke_ray.schema import StatusCounts
from mke_ray.storage import Root

_FEW_PARTS = 4


class Shown(Protocol):
    """Shows how far something is."""

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Show it."""
        ...


@dataclass(frozen=True, slots=True)
class PartRef:
    """One part to write.

    Args:
        unit: Its first unit.
        store: Number of the store.
        units: Its units.
        generations: Which generation of each of them moves.
    """

    unit: str
    store: int
    units: Sequence[str]
    generations: Sequence[int]


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What is compacted, as plain data that crosses from the driver to the workers.

    Args:
        root: Root of the run.
        stores: The stores.
        num_threads: Threads of torch in a worker, which needs none.
        units_at_once: Parts that a worker writes at once.
        units_per_call: Parts that a worker is given at a time.
        decodes: Parts are written by the workers that decode.
        computes: Networks look at nothing.
    """

    root: Root
    stores: tuple[UnitStore, ...]
    num_threads: int = 1
    units_at_once: int = 1
    units_per_call: int = 1
    decodes: bool = True
    computes: bool = False

    def worker(self) -> "PartWorker":
        """Return what writes the parts of this plan."""
        return PartWorker(self.stores)


@dataclass(frozen=True, slots=True)
class PartWorker:
    """Writes one part after the other; the memory is that of the units of one.

    Args:
        stores: The stores.
    """

    stores: tuple[UnitStore, ...]

    def run(self, ref: PartRef) -> UnitReport:
        """Move the units of one part."""
        began_s = time.perf_counter()
        units = dict(zip(ref.units, ref.generations, strict=True))
        num_bytes = move_units(self.stores[ref.store], units)
        report = UnitReport(ref.unit, StatusCounts(), num_units=len(units))
        report.seconds["compact"] = time.perf_counter() - began_s
        report.num_bytes_read = num_bytes
        return report


def compact(
    plan: CompactionPlan,
    refs: Sequence[UnitRef],
    indexes: Sequence[Index],
    runner: Runner,
    *,
    part_bytes: int,
    progress: Shown | None = None,
    lease: Lease | None = None,
) -> tuple[Index, ...]:
    """Bring the units of some stores into parts, and write the index of each store anew.

    A compaction that is finished does nothing: that is seen from the indexes. One that was
    interrupted goes on where it stopped.

    Args:
        plan: The stores.
        refs: All units of the manifest, in order.
        indexes: What a finished pass wrote: the index of these units in each of the stores.
        runner: Where the parts are written; a few are written in this process.
        part_bytes: Bytes of a part.
        progress: Called with units done, units wanted, and what was done, for a person.
        lease: A lease that the caller holds; without it one is taken while there is work.

    Returns:
        The indexes of the units after it, one of each store.

    Raises:
        StoreError: Another driver works on the root, or the file of a unit is missing or damaged.
    """
    todo = [
        number
        for number, (store, index) in enumerate(zip(plan.stores, indexes, strict=True))
        if _is_due(store, index, refs, part_bytes=part_bytes)
    ]
    if not todo:
        return tuple(indexes)
    with contextlib.ExitStack() as stack:
        held = lease or stack.enter_context(Lease(plan.root).held("compact"))
        parts = [part for one in todo for part in _begin(plan, one, refs, part_bytes=part_bytes)]
        _write_parts(plan, parts, runner, progress=progress, lease=held)
        held.check(now=True)
        for number in todo:
            _finish(plan.stores[number])
    units = [ref.unit for ref in refs]
    return tuple(
        store.index(units) if number in todo else index
        for number, (store, index) in enumerate(zip(plan.stores, indexes, strict=True))
    )


def _is_due(store: UnitStore, index: Index, refs: Sequence[UnitRef], *, part_bytes: int) -> bool:
    """Return whether a store is to be compacted, or was and was not brought to its end."""
    planned = plan_parts(index, refs, part_bytes=part_bytes)
    if index.units_without_size() or next(planned, None) is not None:
        return True
    return store.root.exists(COMPACTING)


def _begin(
    plan: CompactionPlan, number: int, refs: Sequence[UnitRef], *, part_bytes: int
) -> list[PartRef]:
    """Return the parts of a store that are to be written, and leave word that it was begun."""
    root = plan.stores[number].root
    found = survey(root, needs_sizes=True)
    write_index(root, found)
    parts = [
        PartRef(one.units[0], number, one.units, one.generations)
        for one in plan_parts(found.index, refs, part_bytes=part_bytes)
    ]
    if parts:
        root.write(COMPACTING, b"")
    return parts


def _write_parts(
    plan: CompactionPlan,
    parts: list[PartRef],
    runner: Runner,
    *,
    progress: Shown | None,
    lease: Lease,
) -> None:
    """Write the parts, few of them in this process, since workers take longer to start."""
    total, done, num_bytes = sum(len(part.units) for part in parts), 0, 0
    carried_out_by = runner if len(parts) > _FEW_PARTS else LocalRunner()
    for report in carried_out_by.run(plan, parts):
        lease.check()
        done, num_bytes = done + report.num_units, num_bytes + report.num_bytes_read
        if progress is not None:
            progress(done, total, f"{num_bytes / 1e6:,.0f} MB")


def _finish(store: UnitStore) -> None:
    """Write the index, delete what no record names any more, and forget that it was begun."""
    found = survey(store.root, needs_sizes=True)
    write_index(store.root, found)
    delete_unnamed_parts(store.root)
    delete_unnamed_attempts(store.root, found.index)
    store.root.delete(COMPACTING)
