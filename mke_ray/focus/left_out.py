"""Samples that a study cannot use, counted by the reason."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mke_ray.errors import ConfigError
from mke_ray.schema import Status

NO_CLASS = "no true class"

_UNREADABLE = (Status.BAD, Status.RETRY)


@dataclass(slots=True)
class LeftOut:
    """What was read of some splits and could not be used.

    Args:
        num_read: Samples that were read.
        num_unreadable: Those of which nothing could be.
        reasons: Samples that are left out by why they are.
    """

    num_read: int = 0
    num_unreadable: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def note(self, status: str, lacking: Mapping[str, str]) -> None:
        """Take note of a sample.

        Args:
            status: What became of it.
            lacking: Reason by modality that it lacks.
        """
        self.num_read += 1
        self.num_unreadable += status in _UNREADABLE
        if lacking:
            self.reasons[", ".join(f"{name}: {why}" for name, why in lacking.items())] += 1

    def named(self) -> str:
        """Return the most frequent reasons with how many samples each has."""
        return "; ".join(f"{number} {why}" for why, number in self.reasons.most_common(5))

    def check(self, max_bad_fraction: float) -> None:
        """Refuse a reading of which too much is unreadable.

        Raises:
            ConfigError: It names the key, and the reasons.
        """
        if self.num_unreadable > max_bad_fraction * self.num_read:
            raise ConfigError(
                f"{self.num_unreadable} of {self.num_read} samples cannot be read, more than "
                f"labelling.max_bad_fraction={max_bad_fraction:g} allows ({self.named()}); look at "
                "these files in the source, or raise labelling.max_bad_fraction"
            )
