"""The labelling pass: every unit of the manifest to the stores, exactly once, with its progress."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from mke_ray.data.ahead import map_ahead
from mke_ray.data.manifest import UnitRef
from mke_ray.labels.counts import num_in_use
from mke_ray.labels.lease import Lease
from mke_ray.labels.pass_state import Watcher
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.sample_reader import keeps_media
from mke_ray.labels.scrub import brought_back, scrub_units
from mke_ray.labels.store import Survey
from mke_ray.labels.tally import PassReport, ProgressCallback, Tally
from mke_ray.labels.todo import ReasonsOf, no_reasons, units_to_do
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.unreadable import LIST_NAME, write_unreadable
from mke_ray.labels.worker import UNITS_PER_CALL, Worker, WorkItem, WorkPlan

__all__ = ["LocalRunner", "PassReport", "ProgressCallback", "Runner", "run_pass"]

_MANY_UNITS = 1 << 14


class Runner(Protocol):
    """Carries out units somewhere and yields their reports as they come, in any order."""

    def run(self, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
        """Work on the units."""
        ...


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """Works on the units in this process, as many at once as the plan says."""

    def run(self, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
        """Work on the units with as many threads as any other worker, so that labels agree."""
        worker = plan.worker()
        num_threads = torch.get_num_threads()
        torch.set_num_threads(plan.num_threads)
        try:
            if plan.units_at_once > 1:
                yield from _side_by_side(worker, plan, refs)
                return
            for ref in refs:
                yield worker.run(ref)
        finally:
            torch.set_num_threads(num_threads)


def _side_by_side(worker: Worker, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
    """Work on several units at once; nothing goes on when the caller stops."""

    def run(ref: WorkItem) -> UnitReport:
        torch.set_num_threads(plan.num_threads)  # every thread has a number of its own
        return worker.run(ref)

    return map_ahead(run, refs, num_threads=plan.units_at_once, outlives=False)


def run_pass(
    plan: LabelPlan,
    refs: Iterable[UnitRef],
    runner: Runner,
    *,
    progress: ProgressCallback | None = None,
    lease: Lease | None = None,
    cost_per_hour: float | None = None,
    watchers: Sequence[Watcher] = (),
) -> PassReport:
    """Bring some units to their end, and write the index of every store.

    A pass that is finished does nothing; one that was interrupted goes on where it stopped.

    Args:
        plan: What to do.
        refs: Units wanted, from ``Manifest.unit_refs``.
        runner: Where the work is done; not touched if there is none.
        progress: Called with samples done, samples wanted, the seconds left (None: unknown), and
            how fast the pass goes, what its time is spent on and what it costs, for a person.
        lease: A lease that the caller holds; without it the pass takes one while it works.
        cost_per_hour: Cost of the cluster per hour, None where it is not known.
        watchers: Called with every report and how far the pass is then.

    Raises:
        MediaError: More than ``max_bad_fraction`` of the samples are unreadable.
        StoreError: Another driver works on this root, or a store is damaged.
    """
    wanted = list(refs)
    found = [store.survey() for store in plan.stores]
    todo = _todo(wanted, found, retry_of=plan.retry_of)
    num_wanted = num_in_use(plan.manifest, wanted)
    tally = Tally(plan, num_wanted=num_wanted, progress=progress, cost_per_hour=cost_per_hour)
    if todo:
        tally.begin_with(found[0].index.select(_units_beside(wanted, todo)))
        with contextlib.ExitStack() as stack:
            held = lease or stack.enter_context(Lease(plan.root).held("label"))
            stack.enter_context(tally.kept())
            work = _Work(_by_the_handful(plan, todo, found[0]), runner, tally, held, watchers)
            work.run(todo)
            found = _surveys(plan, found)
            # A worker of an earlier driver that woke late may have labelled older samples.
            if behind := _todo(wanted, found):
                work.run(behind)
                found = _surveys(plan, found)
    found = _without_forgotten(plan, found)
    units = [ref.unit for ref in wanted]
    indexes = [store.write_index(units, one) for store, one in zip(plan.stores, found, strict=True)]
    report = tally.finish(indexes)
    if todo or not plan.root.exists(LIST_NAME):
        write_unreadable(plan, found[0].index)
    return report


@dataclass(frozen=True, slots=True)
class _Work:
    """What brings units to their end, and is told of each."""

    plan: LabelPlan
    runner: Runner
    tally: Tally
    lease: Lease
    watchers: Sequence[Watcher]

    def run(self, todo: Sequence[UnitRef]) -> None:
        """Bring units to their end.

        Raises:
            MediaError: More samples are unreadable than the plan allows.
            StoreError: Another driver took over.
        """
        for unit_report in self.runner.run(self.plan, todo):
            self.tally.add(unit_report, self.watchers)
            self.lease.check()
            if self.tally.has_too_many():
                break  # so that the runner stops before the samples are looked up
        self.tally.check_bad()
        self.lease.check(now=True)


def _todo(
    wanted: Sequence[UnitRef], found: Sequence[Survey], *, retry_of: ReasonsOf = no_reasons
) -> list[UnitRef]:
    """Return the units to work on, from what the stores hold."""
    samples, *labels = (one.index for one in found)
    return units_to_do(wanted, samples, labels, retry_of=retry_of)


def _by_the_handful(plan: LabelPlan, todo: Sequence[UnitRef], samples: Survey) -> LabelPlan:
    """Return a plan that gives workers several units at a time, where that pays.

    That is where nothing is to be decoded, and where there are so many units that handing them over
    one by one would take the driver longer than the workers need for them.
    """
    is_light = keeps_media(plan.samples) and not plan.retry
    if len(todo) >= _MANY_UNITS or (is_light and all(ref.unit in samples.index for ref in todo)):
        return replace(plan, units_per_call=UNITS_PER_CALL)
    return plan


def _units_beside(wanted: Sequence[UnitRef], todo: Sequence[UnitRef]) -> list[str]:
    """Return the units that an earlier pass finished."""
    left = {ref.unit for ref in todo}
    return [ref.unit for ref in wanted if ref.unit not in left]


def _without_forgotten(plan: LabelPlan, found: Sequence[Survey]) -> list[Survey]:
    """Scrub what a worker of an earlier driver brought back of samples that are forgotten."""
    forgotten = plan.manifest.mark_table().forgotten_rows()
    now = list(found)
    for number, store in enumerate(plan.stores):
        if rows := brought_back(now[number].index, forgotten):
            scrub_units(store, rows)
            now[number] = store.survey(now[number])
    return now


def _surveys(plan: LabelPlan, found: Sequence[Survey]) -> list[Survey]:
    """Return what the stores hold now."""
    return [store.survey(one) for store, one in zip(plan.stores, found, strict=True)]
