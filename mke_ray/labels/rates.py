"""What the units of a pass took: time by stage, bytes, seconds of media; sums that are kept."""

import json
import math
from dataclasses import asdict, dataclass, field, fields

from mke_ray.labels.worker import UnitReport


@dataclass(slots=True)
class PassRates:
    """What some units of a pass took.

    Args:
        num_samples: Samples worked on.
        seconds: Time by stage, summed over the workers.
        num_bytes_read: Bytes fetched from the source.
        num_bytes_needed: Bytes of those that hold the samples.
        num_bytes_written: Bytes written to the stores.
        duration_s: Seconds of media worked on.
        work_s: Wall-clock time since work began, without the start of workers.
        wall_s: Wall-clock time since the pass was started, which is what costs.
        num_starts: Starts of the pass that these units belong to.
        num_decoded: Samples that were not stored already; what was read and the seconds of media
            are known of these alone.
    """

    num_samples: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes_read: int = 0
    num_bytes_needed: int = 0
    num_bytes_written: int = 0
    duration_s: float = 0.0
    work_s: float = 0.0
    wall_s: float = 0.0
    num_starts: int = 0
    num_decoded: int = 0

    def add(self, report: UnitReport) -> None:
        """Add a finished unit; the wall clock is read by whoever adds it."""
        self.num_samples += report.counts.samples
        self.num_decoded += report.counts.samples if "decode" in report.seconds else 0
        self.num_bytes_read += report.num_bytes_read
        self.num_bytes_needed += report.num_bytes_needed
        self.num_bytes_written += report.num_bytes_written
        self.duration_s += report.duration_s
        for stage, spent_s in report.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent_s

    def plus(self, other: "PassRates", *, sign: int = 1) -> "PassRates":
        """Return the sums of both, or what is more here than there with ``sign=-1``."""
        stages = list(dict.fromkeys([*self.seconds, *other.seconds]))
        seconds = {
            one: self.seconds.get(one, 0.0) + sign * other.seconds.get(one, 0.0) for one in stages
        }
        sums = {name: getattr(self, name) + sign * getattr(other, name) for name in _NUMBERS}
        return PassRates(seconds=seconds, **sums)

    @property
    def samples_per_s(self) -> float | None:
        """Samples per second since work began, None where nothing is done."""
        return self.num_samples / self.work_s if self.num_samples and self.work_s > 0 else None

    def shares(self) -> dict[str, float]:
        """Return the share of each stage in the time of the workers, the largest first."""
        total_s = sum(self.seconds.values())
        ranked = sorted(self.seconds.items(), key=lambda one: -one[1])
        return {stage: spent_s / total_s for stage, spent_s in ranked} if total_s > 0 else {}

    def to_json(self) -> str:
        """Return text that ``from_json`` reads back."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "PassRates":
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: It is something else.
        """
        plain = json.loads(text)
        if not isinstance(plain, dict) or not isinstance(plain.get("seconds"), dict):
            raise ValueError("this is no record of a pass")
        numbers = {name: plain[name] for name in _NUMBERS if name in plain}
        for one in (*numbers.values(), *plain["seconds"].values()):
            if not isinstance(one, int | float) or not math.isfinite(one) or one < 0:
                raise ValueError(f"{one!r} is no sum of a pass")
        return cls(seconds=plain["seconds"], **numbers)


_NUMBERS = tuple(one.name for one in fields(PassRates) if one.name != "seconds")
