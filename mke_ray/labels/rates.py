"""How fast a pass goes, what its time is spent on, and what it costs."""

from dataclasses import dataclass, field

from mke_ray.labels.worker import UnitReport

_MB = 1e6
_SECONDS_PER_HOUR = 3600.0


@dataclass(slots=True)
class PassRates:
    """What the units of a pass took.

    Args:
        num_samples: Samples worked on.
        seconds: Time by stage, summed over the workers.
        num_bytes_read: Bytes fetched from the source.
        num_bytes_needed: Bytes of those that hold the samples.
        duration_s: Seconds of media decoded.
    """

    num_samples: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes_read: int = 0
    num_bytes_needed: int = 0
    duration_s: float = 0.0

    def add(self, report: UnitReport) -> None:
        """Add a finished unit."""
        self.num_samples += report.counts.samples
        self.num_bytes_read += report.num_bytes_read
        self.num_bytes_needed += report.num_bytes_needed
        self.duration_s += report.duration_s
        for stage, spent_s in report.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent_s

    def text(self, spent_s: float) -> str:
        """Return the rate, what was read, and the share of each stage, the largest first.

        Args:
            spent_s: Wall-clock time since work began.
        """
        if not self.num_samples or spent_s <= 0:
            return ""
        parts = [f"{self.num_samples / spent_s:,.1f} samples/s"]
        if self.duration_s:
            parts.append(f"{self.duration_s / _SECONDS_PER_HOUR:.2f} h of media")
        if self.num_bytes_read:
            needed = self.num_bytes_needed / self.num_bytes_read
            parts.append(f"{self.num_bytes_read / _MB:,.0f} MB read ({needed:.0%} needed)")
        return ", ".join([*parts, self._shares()])

    def _shares(self) -> str:
        """Return the share of each stage in the time of the workers."""
        total_s = sum(self.seconds.values()) or 1.0
        ranked = sorted(self.seconds.items(), key=lambda one: -one[1])
        return ", ".join(f"{stage} {spent_s / total_s:.0%}" for stage, spent_s in ranked)


def cost_text(spent_s: float, eta_s: float | None, cost_per_hour: float) -> str:
    """Return what a pass has cost since it was started, and what it will cost from now on.

    Args:
        spent_s: Wall-clock time since the start.
        eta_s: Seconds left, None where that cannot be told yet.
        cost_per_hour: Cost of the whole cluster per hour, in any currency.
    """
    so_far = f"cost {cost_per_hour * spent_s / _SECONDS_PER_HOUR:,.2f}"
    if eta_s is None:
        return so_far
    return f"{so_far} and {cost_per_hour * eta_s / _SECONDS_PER_HOUR:,.2f} to come"
