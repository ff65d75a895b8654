"""Estimates with intervals by resampling whole groups, of anything that follows from means."""

# N samples, G groups, R resamples, K quantities.

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 1000
_LEAST_DEFINED = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95% interval, None where that cannot be told.

    Args:
        value: The estimate.
        ci95: Lower and upper end.
    """

    value: float
    ci95: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"value": self.value, "ci95": None if self.ci95 is None else list(self.ci95)}


def resampled_ratio(
    function: Callable[[NDArray], NDArray],
    value_KN: NDArray,
    group_N: NDArray,
    *,
    seed: int = 0,
) -> Estimate | None:
    """Return a function of the means of several values per sample, resampled by group.

    Args:
        function: From means [K, R] to what is estimated [R], NaN where it is not defined.
        value_KN: The values.
        group_N: Group of each sample.
        seed: Seed of the resamples.

    Returns:
        None where it is not defined, or for so many resamples that nothing can be told.
    """
    _, index_N = np.unique(group_N, return_inverse=True)
    count_G = np.bincount(index_N).astype(float)
    sum_KG = np.stack([np.bincount(index_N, weights=one_N) for one_N in value_KN])
    value = float(function(sum_KG.sum(axis=1, keepdims=True) / count_G.sum())[0])
    if not np.isfinite(value):
        return None
    if len(count_G) < 2:
        return Estimate(value)
    drawn_RG = np.random.default_rng(seed).multinomial(
        len(count_G), np.full(len(count_G), 1 / len(count_G)), size=NUM_RESAMPLES
    )
    found_R = function(sum_KG @ drawn_RG.T / (drawn_RG @ count_G))
    found_R = found_R[np.isfinite(found_R)]
    if len(found_R) < _LEAST_DEFINED * NUM_RESAMPLES:
        return Estimate(value)
    low, high = np.quantile(found_R, [0.025, 0.975])
    return Estimate(value, (float(low), float(high)))
