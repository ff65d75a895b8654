"""The two parts of the probe: one to choose by, one that only the gate opens."""

import hashlib
from dataclasses import dataclass

SELECT = "select"
GATE = "gate"


def probe_part(group: str, *, seed: int = 0, select_fraction: float = 0.5) -> str:
    """Return the part of the probe that a group belongs to, by a hash of its name.

    Args:
        group: Who or what the sample comes from; a group is never in both parts.
        seed: Seed of the division.
        select_fraction: Share of the groups that is the select part.

    Returns:
        ``"select"`` or ``"gate"``.
    """
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    return SELECT if position < select_fraction else GATE


@dataclass(frozen=True, slots=True)
class ProbeDivision:
    """How the probe is divided.

    Args:
        seed: Seed of the division.
        select_fraction: Share of the groups that is the select part.
    """

    seed: int = 0
    select_fraction: float = 0.5

    def part_of(self, group: str) -> str:
        """Return the part of the probe that a group belongs to."""
        return probe_part(group, seed=self.seed, select_fraction=self.select_fraction)
