"""How far a pass is, and what follows from it: time left, hours of media, cost, storage."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mke_ray.labels.rates import PassRates
from mke_ray.labels.unit_report import UnitReport

SECONDS_PER_HOUR = 3600.0
_UNTOLD_SHARE = 0.01  # of the samples done, as a kill leaves them: a rate is the same without them


@dataclass(frozen=True, slots=True)
class PassState:
    """How far a pass is.

    Args:
        num_done: Samples done, by this start and by those before.
        num_wanted: Samples wanted.
        eta_s: Seconds left, None where that cannot be told yet.
        rates: What this start of the pass took.
        total: What all starts took, as far as they are on record.
        cost_per_hour: Cost of the whole cluster per hour, None where it is not known.
    """

    num_done: int = 0
    num_wanted: int = 0
    eta_s: float | None = None
    rates: PassRates = field(default_factory=PassRates)
    total: PassRates = field(default_factory=PassRates)
    cost_per_hour: float | None = None

    @property
    def num_left(self) -> int:
        """Samples to come."""
        return max(self.num_wanted - self.num_done, 0)

    @property
    def num_untold(self) -> int:
        """Samples that are stored and of which no report came, since their start was ended."""
        return max(self.num_done - self.total.num_samples, 0)

    @property
    def rate_in_all(self) -> float | None:
        """Samples per second of all starts, None where the time holds work that nobody told of."""
        if tells_enough(self.total, self.num_done):
            return self.total.samples_per_s
        return None

    @property
    def is_media_known(self) -> bool:
        """Whether the length of every sample wanted is on record."""
        return self.num_wanted <= self.total.num_decoded

    @property
    def media_done_s(self) -> float:
        """Seconds of media done; of samples whose length is on no record, the mean length."""
        return self._mean_s * self.num_done

    @property
    def media_wanted_s(self) -> float:
        """Seconds of media of all samples wanted, at the mean length so far."""
        return self._mean_s * self.num_wanted

    @property
    def cost(self) -> float | None:
        """Cost of all starts so far, None where it is not known."""
        return cost_of(self.total.wall_s, self.cost_per_hour)

    @property
    def cost_to_come(self) -> float | None:
        """Cost of what is left, None where it is not known."""
        return None if self.eta_s is None else cost_of(self.eta_s, self.cost_per_hour)

    @property
    def num_bytes_to_come(self) -> float:
        """Bytes that will be written, at the mean of the samples so far."""
        if not self.total.num_samples:
            return 0.0
        return self.total.num_bytes_written / self.total.num_samples * self.num_left

    @property
    def _mean_s(self) -> float:
        return self.total.duration_s / self.total.num_decoded if self.total.num_decoded else 0.0


Watcher = Callable[[UnitReport, PassState], None]


def tells_enough(rates: PassRates, num_done: int) -> bool:
    """Return whether reports came of so many of the samples done that their rate is that of all."""
    return rates.num_samples >= (1 - _UNTOLD_SHARE) * num_done


def cost_of(spent_s: float, cost_per_hour: float | None) -> float | None:
    """Return what a cluster costs in some time, None where its cost is not known."""
    return None if cost_per_hour is None else cost_per_hour * spent_s / SECONDS_PER_HOUR
