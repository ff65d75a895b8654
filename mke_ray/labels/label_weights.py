"""How much each of a teacher's decisions counts: one Protocol and its implementations."""

# N decisions, K decisions of a row, L alternatives of a decision, B bins.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mke_ray.errors import ConfigError
from mke_ray.labels.label_statistics import LabelStatistics, threshold_of

_ROUNDING = 1e-9  # of a mean of confidences that are all alike


@runtime_checkable
class LabelWeight(Protocol):
    """Weighs decisions, with what was learnt before from the statistics of all of them."""

    def fit(self, statistics: LabelStatistics) -> dict[str, Any]:
        """Return plain data that ``weights`` needs of the statistics.

        It travels with the fit to every worker, and the fit's fingerprint covers it.

        Args:
            statistics: Those of all unlabeled samples.
        """
        ...

    def weights(self, probability_NKL: NDArray, fitted: Mapping[str, Any]) -> NDArray:
        """Return a weight from 0 upwards for each decision [N, K].

        Args:
            probability_NKL: Probabilities of the alternatives.
            fitted: What ``fit`` returned.
        """
        ...


@dataclass(frozen=True, slots=True)
class FixedThreshold:
    """1 where the teacher is at least so sure, else 0.

    Args:
        threshold: Least confidence.

    Source:
        Sohn et al., FixMatch: Simplifying Semi-Supervised Learning with Consistency and
        Confidence, NeurIPS 2020.
    """

    threshold: float = 0.95

    def __post_init__(self) -> None:
        """Check the number."""
        _check_share("threshold", self.threshold)

    def fit(self, statistics: LabelStatistics) -> dict[str, Any]:
        """Return nothing."""
        del statistics
        return {}

    def weights(self, probability_NKL: NDArray, fitted: Mapping[str, Any]) -> NDArray:
        """Return 0 or 1 for each decision [N, K]."""
        del fitted
        return (probability_NKL.max(axis=2) >= self.threshold).astype(np.float32)


@dataclass(frozen=True, slots=True)
class TopFraction:
    """1 for the share of decisions of which the teacher is surest, else 0.

    The confidence above which they are is read off a histogram: at least the share is kept, and
    at most a bin more.

    Args:
        fraction: The share.
        per_class: Take the share of the decisions for every class, so that classes of which the
            teacher is never sure do not vanish.

    Source:
        Over all: Cascante-Bonilla et al., Curriculum Labeling: Revisiting Pseudo-Labeling for
        Semi-Supervised Learning, AAAI 2021. Per class: Zou et al., Unsupervised Domain Adaptation
        for Semantic Segmentation via Class-Balanced Self-Training, ECCV 2018.
    """

    fraction: float = 0.5
    per_class: bool = False

    def __post_init__(self) -> None:
        """Check the number."""
        _check_share("fraction", self.fraction)

    def fit(self, statistics: LabelStatistics) -> dict[str, Any]:
        """Return ``threshold`` [K, L]."""
        count_KLB = statistics.count_KLB
        if not self.per_class:
            count_KLB = np.broadcast_to(count_KLB.sum(axis=1, keepdims=True), count_KLB.shape)
        of_each = [[threshold_of(one_B, self.fraction) for one_B in of_k] for of_k in count_KLB]
        return {"threshold": of_each}

    def weights(self, probability_NKL: NDArray, fitted: Mapping[str, Any]) -> NDArray:
        """Return 0 or 1 for each decision [N, K]."""
        return _at_least(probability_NKL, fitted["threshold"])


@dataclass(frozen=True, slots=True)
class FreeMatch:
    """1 where the teacher is at least as sure as it is on average, less for classes it rarely sees.

    The global threshold is the mean confidence; that of a class is it times the mean probability
    of the class, as a share of that of the class with the largest. Running means of the paper
    are means over all unlabeled samples, since the teacher does not change; its fairness loss is
    left out, which teaches the network that makes the labels.

    Source:
        Wang et al., FreeMatch: Self-adaptive Thresholding for Semi-supervised Learning, ICLR
        2023: the self-adaptive global and local thresholds.
    """

    def fit(self, statistics: LabelStatistics) -> dict[str, Any]:
        """Return ``threshold`` [K, L]."""
        share_KL = statistics.mean_KL / statistics.mean_KL.max(axis=1, keepdims=True)
        return {"threshold": (share_KL * statistics.confidence_K[:, None]).tolist()}

    def weights(self, probability_NKL: NDArray, fitted: Mapping[str, Any]) -> NDArray:
        """Return 0 or 1 for each decision [N, K]."""
        return _at_least(probability_NKL, fitted["threshold"])


@dataclass(frozen=True, slots=True)
class SoftMatch:
    """1 where the teacher is at least as sure as on average; below, a Gaussian of the difference.

    Running mean and variance of the paper are those over all unlabeled samples. Its uniform
    alignment is ``labels.alignment=uniform``, which here changes targets as well.

    Args:
        num_sigmas: Standard deviations of the confidence in one of the Gaussian; the equation
            has 1, the authors' experiments 2.

    Source:
        Chen et al., SoftMatch: Addressing the Quantity-Quality Trade-off in Semi-supervised
        Learning, ICLR 2023: the truncated Gaussian weighting function.
    """

    num_sigmas: float = 2.0

    def __post_init__(self) -> None:
        """Check the number."""
        if self.num_sigmas <= 0:
            raise ConfigError(f"labels.weight.num_sigmas={self.num_sigmas}; give a number above 0")

    def fit(self, statistics: LabelStatistics) -> dict[str, Any]:
        """Return ``mean`` and ``variance`` of the confidence [K]."""
        return {
            "mean": statistics.confidence_K.tolist(),
            "variance": statistics.variance.tolist(),
        }

    def weights(self, probability_NKL: NDArray, fitted: Mapping[str, Any]) -> NDArray:
        """Return a weight above 0 and up to 1 for each decision [N, K]."""
        mean_K = np.asarray(fitted["mean"])
        width_K = np.maximum(fitted["variance"], 1e-12) / self.num_sigmas**2
        below_NK = np.minimum(probability_NKL.max(axis=2) - mean_K + _ROUNDING, 0.0)
        return np.exp(-(below_NK**2) / (2.0 * width_K)).astype(np.float32)


def _at_least(probability_NKL: NDArray, threshold_KL: Any) -> NDArray:
    """Return 1 where the likeliest alternative reaches its threshold [N, K], else 0."""
    chosen_NK = probability_NKL.argmax(axis=2)
    lowest_KL = np.asarray(threshold_KL)
    lowest_NK = lowest_KL[np.arange(lowest_KL.shape[0]), chosen_NK]
    return (probability_NKL.max(axis=2) >= lowest_NK - _ROUNDING).astype(np.float32)


def _check_share(key: str, value: float) -> None:
    """Refuse what is no share.

    Raises:
        ConfigError: It names the key.
    """
    if not 0 < value <= 1:
        raise ConfigError(f"labels.weight.{key}={value}; give a number above 0 and up to 1")
