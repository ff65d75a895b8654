"""Statistics of a teacher's decisions over a whole split, gathered in one pass and mergeable."""

# N decisions, K decisions of a row, L alternatives of a decision, B bins.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 512
BIN_WIDTH = 1.0 / 32.0  # of -log(1 - confidence), so that bins are narrow where teachers are sure


@dataclass(frozen=True, slots=True)
class LabelStatistics:
    """What adaptive weights and alignment are made from; its size depends on the classes alone.

    A confidence is the probability of the likeliest alternative. Bins of confidence are equally
    wide in ``-log(1 - confidence)``; the last one holds all that is surer than 1 - 1e-7.

    Args:
        num: Decisions counted of each k.
        mean_KL: Mean probability of every alternative.
        confidence_K: Mean confidence.
        squares_K: Sum of squared differences of the confidence from its mean.
        count_KLB: Decisions by likeliest alternative and bin of confidence, int64.
    """

    num: int
    mean_KL: NDArray
    confidence_K: NDArray
    squares_K: NDArray
    count_KLB: NDArray

    @classmethod
    def empty(cls, num_decisions: int, num_alternatives: int) -> "LabelStatistics":
        """Return the statistics of nothing."""
        shape = (num_decisions, num_alternatives)
        zeros_K = np.zeros(num_decisions)
        return cls(0, np.zeros(shape), zeros_K, zeros_K, np.zeros((*shape, NUM_BINS), np.int64))

    @classmethod
    def of(cls, probability_NKL: NDArray) -> "LabelStatistics":
        """Return the statistics of some decisions."""
        num, num_decisions, num_alternatives = probability_NKL.shape
        if num == 0:
            return cls.empty(num_decisions, num_alternatives)
        confidence_NK = probability_NKL.max(axis=2)
        mean_K = confidence_NK.mean(axis=0)
        cell_NK = probability_NKL.argmax(axis=2) * NUM_BINS + bins_of(confidence_NK)
        cell_NK += np.arange(num_decisions) * num_alternatives * NUM_BINS
        shape = (num_decisions, num_alternatives, NUM_BINS)
        count = np.bincount(cell_NK.ravel(), minlength=int(np.prod(shape)))
        squares_K = ((confidence_NK - mean_K) ** 2).sum(axis=0)
        return cls(num, probability_NKL.mean(axis=0), mean_K, squares_K, count.reshape(shape))

    def merged(self, other: "LabelStatistics") -> "LabelStatistics":
        """Return the statistics of the decisions of both.

        Source:
            Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
            Variances, COMPSTAT 1982, for the sum of squares.
        """
        num = self.num + other.num
        if num == 0:
            return self
        share = other.num / num
        apart_K = other.confidence_K - self.confidence_K
        return LabelStatistics(
            num,
            self.mean_KL + share * (other.mean_KL - self.mean_KL),
            self.confidence_K + share * apart_K,
            self.squares_K + other.squares_K + apart_K**2 * self.num * share,
            self.count_KLB + other.count_KLB,
        )

    @property
    def variance(self) -> NDArray:
        """Unbiased variance of the confidence [K]; 0 of fewer than two decisions."""
        return self.squares_K / max(self.num - 1, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that ``from_dict`` reads back; of the bins those that are not empty."""
        place_NX = np.argwhere(self.count_KLB)
        return {
            "num": self.num,
            "mean": self.mean_KL.tolist(),
            "confidence": self.confidence_K.tolist(),
            "squares": self.squares_K.tolist(),
            "counts": np.c_[place_NX, self.count_KLB[tuple(place_NX.T)]].tolist(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "LabelStatistics":
        """Build statistics from plain data."""
        mean_KL = np.asarray(plain["mean"], np.float64)
        count_KLB = np.zeros((*mean_KL.shape, NUM_BINS), np.int64)
        for k, chosen, number, count in plain["counts"]:
            count_KLB[k, chosen, number] = count
        confidence_K = np.asarray(plain["confidence"], np.float64)
        return cls(plain["num"], mean_KL, confidence_K, np.asarray(plain["squares"]), count_KLB)


def bins_of(confidence_N: NDArray) -> NDArray:
    """Return the bin of each confidence, int64, of any shape."""
    doubt_N = np.maximum(1.0 - confidence_N, np.finfo(np.float64).tiny)
    return np.minimum(-np.log(doubt_N) / BIN_WIDTH, NUM_BINS - 1).astype(np.int64)


def threshold_of(count_B: NDArray, fraction: float) -> float:
    """Return the lower end of the bin down to which decisions are a share of all.

    At least that share is as sure as the threshold, and at most one bin of decisions more.

    Args:
        count_B: Decisions by bin of confidence.
        fraction: The share, above 0 and up to 1.

    Returns:
        The confidence; 0 where there are no decisions.
    """
    if not count_B.any():
        return 0.0
    from_above_B = np.cumsum(count_B[::-1])[::-1]
    enough_B = from_above_B >= fraction * count_B.sum() - 1e-9
    lowest = int(np.flatnonzero(enough_B)[-1])
    return float(-np.expm1(-lowest * BIN_WIDTH))
