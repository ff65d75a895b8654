"""Folds of the unlabeled samples: a witness never judges what it has learnt from."""

# N groups.

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mke_ray.errors import ConfigError


@dataclass(frozen=True, slots=True)
class FoldDivision:
    """How groups are dealt out to folds: by a hash of their names, cut at some bounds.

    Args:
        bounds: Positions in (0, 1), ascending, at which a new fold begins; one less than folds.
        seed: Seed of the hash.
    """

    bounds: tuple[float, ...]
    seed: int = 0

    @property
    def num_folds(self) -> int:
        """Number of folds."""
        return len(self.bounds) + 1

    def fold_of(self, group: str) -> int:
        """Return the fold of a group, from 0; a group is never in two."""
        return int(np.searchsorted(self.bounds, _position(group, self.seed), side="right"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that ``from_dict`` reads back."""
        return {"bounds": list(self.bounds), "seed": self.seed}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "FoldDivision":
        """Build a division from plain data."""
        return cls(tuple(plain["bounds"]), plain["seed"])


def even_folds(num_folds: int, *, seed: int = 0) -> FoldDivision:
    """Return folds of equal shares of all possible groups, for data of very many groups."""
    _check_number(num_folds)
    return FoldDivision(tuple(one / num_folds for one in range(1, num_folds)), seed)


def balanced_folds(
    groups: Sequence[str], sizes: Sequence[int], num_folds: int, *, seed: int = 0
) -> FoldDivision:
    """Return folds that hold about equally many samples of some groups.

    Args:
        groups: Names of the groups [N].
        sizes: Samples of each [N].
        num_folds: Number of folds.
        seed: Seed of the hash.

    Raises:
        ConfigError: There are fewer groups than folds.
    """
    _check_number(num_folds)
    if len(groups) < num_folds:
        raise ConfigError(
            f"expansion.folds is {num_folds}, but the unlabeled samples are of {len(groups)} "
            "groups, and one group is never in two folds; lower expansion.folds, or give rows "
            "groups of their own"
        )
    position_N = np.asarray([_position(group, seed) for group in groups])
    order_N = np.argsort(position_N)
    position_N, size_N = position_N[order_N], np.asarray(sizes)[order_N]
    before_N = np.cumsum(size_N) - size_N  # samples in front of each group
    cuts: list[int] = []
    for fold in range(1, num_folds):
        wanted = int(np.abs(before_N - size_N.sum() * fold / num_folds).argmin())
        first, last = (cuts[-1] + 1 if cuts else 1), len(groups) - (num_folds - fold)
        cuts.append(min(max(wanted, first), last))
    return FoldDivision(
        tuple(float(position_N[cut - 1] + position_N[cut]) / 2 for cut in cuts), seed
    )


def _position(group: str, seed: int) -> float:
    """Return where a group lies in [0, 1); apart from the hash that divides the probe."""
    digest = hashlib.blake2b(f"fold:{seed}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _check_number(num_folds: int) -> None:
    if num_folds < 2:
        raise ConfigError(f"expansion.folds is {num_folds}; give 2 or more")
