"""The labelling pass: every unit of the manifest to the stores, exactly once, with its progress."""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.counts import counts_in_use, num_in_use
from mke_ray.labels.index import NUM_USABLE_CODES, Index
from mke_ray.labels.lease import Lease
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.rates import PassRates, cost_text
from mke_ray.labels.store import Survey
from mke_ray.labels.todo import units_to_do
from mke_ray.labels.too_many import too_many_unreadable
from mke_ray.labels.unreadable import LIST_NAME, write_unreadable
from mke_ray.labels.worker import UnitReport, WorkPlan
from mke_ray.schema import StatusCounts

ProgressCallback = Callable[[int, int, float | None, str], None]


class Runner(Protocol):
    """Carries out units somewhere and yields their reports as they come, in any order."""

    def run(self, plan: WorkPlan, refs: Sequence[UnitRef]) -> Iterator[UnitReport]:
        """Work on the units."""
        ...


@dataclass(frozen=True, slots=True)
class LocalRunner:
    """Works on one unit after the other in this process."""

    def run(self, plan: WorkPlan, refs: Sequence[UnitRef]) -> Iterator[UnitReport]:
        """Work on the units with as many threads as any other worker, so that labels agree."""
        worker = plan.worker()
        num_threads = torch.get_num_threads()
        torch.set_num_threads(plan.num_threads)
        try:
            for ref in refs:
                yield worker.run(ref)
        finally:
            torch.set_num_threads(num_threads)


@dataclass(slots=True)
class PassReport:
    """What a pass left behind.

    Args:
        samples: Index of the samples of the units asked for.
        labels: Index of each teacher's labels of these units, in the order of the teachers.
        num_units_run: Units worked on by this pass; 0 where everything was there.
        rates: What these took.
        wall_s: Wall-clock time of this pass.
        counts: How many samples in use ended in each status, over all units asked for.
    """

    samples: Index
    labels: tuple[Index, ...]
    num_units_run: int = 0
    rates: PassRates = field(default_factory=PassRates)
    wall_s: float = 0.0
    counts: StatusCounts = field(default_factory=StatusCounts)


def run_pass(
    plan: LabelPlan,
    refs: Iterable[UnitRef],
    runner: Runner,
    *,
    progress: ProgressCallback | None = None,
    lease: Lease | None = None,
    cost_per_hour: float | None = None,
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

    Raises:
        MediaError: More than ``max_bad_fraction`` of the samples are unreadable.
        StoreError: Another driver works on this root, or a store is damaged.
    """
    wanted = list(refs)
    found = [store.survey() for store in plan.stores]
    todo = _todo(wanted, found, retry=plan.retry)
    num_wanted = num_in_use(plan.manifest, wanted)
    tally = _Tally(plan, num_wanted=num_wanted, progress=progress, cost_per_hour=cost_per_hour)
    if todo:
        tally.begin_with(found[0].index.select(_units_beside(wanted, todo)))
        with contextlib.ExitStack() as stack:
            held = lease or stack.enter_context(Lease(plan.root).held("label"))
            _run_units(plan, todo, runner, tally, held)
            found = _surveys(plan, found)
            # A worker of an earlier driver that woke late may have labelled older samples.
            if behind := _todo(wanted, found):
                _run_units(plan, behind, runner, tally, held)
                found = _surveys(plan, found)
    units = [ref.unit for ref in wanted]
    indexes = [store.write_index(units, one) for store, one in zip(plan.stores, found, strict=True)]
    report = tally.finish(indexes)
    if todo or not plan.root.exists(LIST_NAME):
        write_unreadable(plan, found[0].index)
    return report


def _todo(
    wanted: Sequence[UnitRef], found: Sequence[Survey], *, retry: Collection[str] = ()
) -> list[UnitRef]:
    """Return the units to work on, from what the stores hold."""
    samples, *labels = (one.index for one in found)
    return units_to_do(wanted, samples, labels, retry=retry)


def _units_beside(wanted: Sequence[UnitRef], todo: Sequence[UnitRef]) -> list[str]:
    """Return the units that an earlier pass finished."""
    left = {ref.unit for ref in todo}
    return [ref.unit for ref in wanted if ref.unit not in left]


def _run_units(
    plan: LabelPlan, todo: Sequence[UnitRef], runner: Runner, tally: "_Tally", lease: Lease
) -> None:
    """Bring units to their end.

    Raises:
        MediaError: More samples are unreadable than the plan allows.
        StoreError: Another driver took over.
    """
    for unit_report in runner.run(plan, todo):
        tally.add(unit_report)
        lease.check()
        if tally.has_too_many():
            break  # so that the runner stops before the samples are looked up
    tally.check_bad()
    lease.check(now=True)


def _surveys(plan: LabelPlan, found: Sequence[Survey]) -> list[Survey]:
    """Return what the stores hold now."""
    return [store.survey(one) for store, one in zip(plan.stores, found, strict=True)]


class _Tally:
    """Adds up the reports of a pass."""

    def __init__(
        self,
        plan: LabelPlan,
        *,
        num_wanted: int,
        progress: ProgressCallback | None,
        cost_per_hour: float | None,
    ) -> None:
        self._plan = plan
        self._num_wanted = num_wanted
        self._progress = progress
        self._cost_per_hour = cost_per_hour
        self._num_units = 0
        self._counts = StatusCounts()
        self._rates = PassRates()
        self._start_s = time.perf_counter()
        self._began_s = math.inf
        self._num_before = 0
        self._unreadable: list[str] = []  # units, as many as bad samples at the most

    def begin_with(self, done: Index) -> None:
        """Count the units that an earlier pass finished."""
        if len(done):
            self._count_stored(done)
            self.check_bad()
        self._num_before = self._counts.samples
        self._tell(None)

    def add(self, report: UnitReport) -> None:
        """Count a finished unit."""
        self._num_units += 1
        self._counts.add(report.counts)
        self._rates.add(report)
        self._began_s = min(self._began_s, time.perf_counter() - sum(report.seconds.values()))
        if report.counts.bad + report.counts.retry:
            self._unreadable.append(report.unit)
        self._tell(self._eta_s())

    def has_too_many(self) -> bool:
        """Tell whether more samples are unreadable than the plan allows."""
        num_unreadable = self._counts.bad + self._counts.retry
        return num_unreadable > self._plan.max_bad_fraction * self._num_wanted

    def check_bad(self) -> None:
        """Stop when more samples are unreadable than the plan allows.

        Raises:
            MediaError: They are; the error names some of them and counts the reasons.
        """
        if self.has_too_many():
            raise too_many_unreadable(
                self._plan, self._counts, num_wanted=self._num_wanted, units=self._unreadable
            )

    def finish(self, indexes: list[Index]) -> PassReport:
        """Return what the pass left behind.

        Raises:
            MediaError: More samples are unreadable than the plan allows.
        """
        self._counts, self._unreadable = StatusCounts(), []
        self._count_stored(indexes[0])
        self.check_bad()
        return PassReport(
            samples=indexes[0],
            labels=tuple(indexes[1:]),
            num_units_run=self._num_units,
            rates=self._rates,
            wall_s=time.perf_counter() - self._start_s,
            counts=self._counts,
        )

    def _count_stored(self, index: Index) -> None:
        """Count the samples in use of some units by what became of them."""
        self._counts.add(counts_in_use(self._plan.samples, self._plan.manifest, index))
        self._unreadable += [
            unit for unit in index.units() if (index.status(unit) >= NUM_USABLE_CODES).any()
        ]

    def _eta_s(self) -> float | None:
        """Return the seconds left at the rate since work began: the start of workers is no work.

        Units of workers side by side end in bursts, so the rate means nothing before as much time
        has gone by as a worker needs for two of them.
        """
        num_left = max(self._num_wanted - self._counts.samples, 0)
        num_since = self._counts.samples - self._num_before
        spent_s = time.perf_counter() - self._began_s
        unit_s = sum(self._rates.seconds.values()) / self._num_units
        if num_left == 0:
            return 0.0
        return spent_s * num_left / num_since if num_since and spent_s >= 2 * unit_s else None

    def _tell(self, eta_s: float | None) -> None:
        """Report the progress."""
        if self._progress is not None:
            self._progress(self._counts.samples, self._num_wanted, eta_s, self._text(eta_s))

    def _text(self, eta_s: float | None) -> str:
        """Return how fast the pass goes and what it costs, nothing before work began."""
        if not self._num_units:
            return ""
        now_s = time.perf_counter()
        said = [self._rates.text(now_s - self._began_s)]
        if self._cost_per_hour is not None:
            said.append(cost_text(now_s - self._start_s, eta_s, self._cost_per_hour))
        return ", ".join(filter(None, said))
