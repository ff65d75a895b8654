"""Adds up the reports of a pass: how far it is, what it took, whether too much is unreadable."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from mke_ray.errors import StoreError
from mke_ray.labels.counts import counts_in_use
from mke_ray.labels.index import NUM_USABLE_CODES, Index
from mke_ray.labels.pass_record import PassRecord
from mke_ray.labels.pass_state import PassState, Watcher, tells_enough
from mke_ray.labels.pass_words import line
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.rates import PassRates
from mke_ray.labels.too_many import too_many_unreadable
from mke_ray.labels.unit_report import UnitReport
from mke_ray.schema import StatusCounts

ProgressCallback = Callable[[int, int, float | None, str], None]


@dataclass(slots=True)
class PassReport:
    """What a pass left behind.

    Args:
        samples: Index of the samples of the units asked for.
        labels: Index of each teacher's labels of these units, in the order of the teachers.
        num_units_run: Units worked on by this pass; 0 where everything was there.
        state: What it took, this time and in all.
        wall_s: Wall-clock time of this pass.
        counts: How many samples in use ended in each status, over all units asked for.
    """

    samples: Index
    labels: tuple[Index, ...]
    num_units_run: int = 0
    state: PassState = field(default_factory=PassState)
    wall_s: float = 0.0
    counts: StatusCounts = field(default_factory=StatusCounts)

    @property
    def rates(self) -> PassRates:
        """What the units took that this pass worked on."""
        return self.state.rates


class Tally:
    """Adds up the reports of a pass.

    Args:
        plan: The plan of the pass.
        num_wanted: Samples wanted.
        progress: Called with samples done, samples wanted, the seconds left and words.
        cost_per_hour: Cost of the cluster per hour, None where it is not known.
    """

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
        self._record = PassRecord(plan.root, plan.stores)
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
        self._tell(self.state())

    def add(self, report: UnitReport, watchers: Sequence[Watcher] = ()) -> None:
        """Count a finished unit, and show how far the pass is then."""
        now_s = time.perf_counter()
        self._num_units += 1
        self._counts.add(report.counts)
        self._rates.add(report)
        self._began_s = min(self._began_s, now_s - sum(report.seconds.values()))
        self._rates.num_starts = 1
        self._rates.work_s, self._rates.wall_s = now_s - self._began_s, now_s - self._start_s
        if report.counts.bad + report.counts.retry:
            self._unreadable.append(report.unit)
        self._record.keep(self._rates)
        state = self.state()
        self._tell(state)
        for watcher in watchers:
            watcher(report, state)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what the pass took when a block ends, however it ends.

        The record is not touched where the stores fail, since another driver may be writing it.
        """
        is_ours = True
        try:
            yield
        except StoreError:
            is_ours = False
            raise
        finally:
            if is_ours and self._num_units:
                self._record.keep(self._rates, now=True)

    def state(self) -> PassState:
        """Return how far the pass is."""
        return PassState(
            num_done=self._counts.samples,
            num_wanted=self._num_wanted,
            eta_s=self._eta_s(),
            rates=self._rates.plus(PassRates()),  # what is summed goes on changing
            total=self._record.before.plus(self._rates),
            cost_per_hour=self._cost_per_hour,
        )

    def has_too_many(self) -> bool:
        """Tell whether more samples are unreadable than the plan allows."""
        return self._plan.forbids(self._counts.bad + self._counts.retry, self._num_wanted)

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
            state=self.state(),
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
        has gone by as a worker needs for two of them. Until then the rate of earlier starts counts,
        where they told of what they did.
        """
        num_left = max(self._num_wanted - self._counts.samples, 0)
        if num_left == 0:
            return 0.0
        num_since = self._counts.samples - self._num_before
        if num_since:
            spent_s = self._rates.work_s
            unit_s = sum(self._rates.seconds.values()) / self._num_units
            if spent_s >= 2 * unit_s:
                return spent_s * num_left / num_since
        before = self._record.before
        rate_before = before.samples_per_s if tells_enough(before, self._num_before) else None
        return num_left / rate_before if rate_before else None

    def _tell(self, state: PassState) -> None:
        """Report the progress."""
        if self._progress is not None:
            self._progress(state.num_done, state.num_wanted, state.eta_s, line(state))
