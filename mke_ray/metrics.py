"""Metrics: accuracy, mean average precision, temperature, and intervals resampled by group."""

# N samples, C classes, G groups, R resamples.

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax, softmax, stdtrit

from mke_ray.errors import MkeRayError

DRAWS_AT_ONCE = 1 << 21
LEAST_OF_A_CLASS = 10
LOWEST_TEMPERATURE = 0.05
HIGHEST_TEMPERATURE = 20.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its two-sided confidence interval; infinite ends where it cannot be told.

    Args:
        value: The estimate.
        low: Lower end.
        high: Upper end.
        num_samples: Number of samples N.
        num_groups: Number of groups G.
    """

    value: float
    low: float
    high: float
    num_samples: int
    num_groups: int

    def ends(self) -> list[float] | None:
        """Return ``[low, high]``, or None where the interval cannot be told."""
        return [self.low, self.high] if math.isfinite(self.high - self.low) else None


def accuracy(predicted_N: ArrayLike, truth_N: ArrayLike) -> float:
    """Return the share of right predictions.

    Args:
        predicted_N: Predicted class of each sample [N].
        truth_N: True class of each sample [N].

    Raises:
        MkeRayError: There is no sample.
    """
    right_N = np.asarray(predicted_N) == np.asarray(truth_N)
    _check_some(right_N.size, "accuracy")
    return float(right_N.mean())


def mean_average_precision(score_NC: ArrayLike, truth_NC: ArrayLike) -> float:
    """Return the mean over classes of the average precision, for samples of many classes.

    Args:
        score_NC: Scores, probabilities or logits [N, C]; only their order within a class counts.
        truth_NC: Whether the sample is of the class [N, C], 0 or 1; a class without any positive
            sample is left out.

    Raises:
        MkeRayError: No class has a positive sample.
    """
    # Imported here: it takes longer than most runs of the gate, which has no use for it.
    from torchmetrics.functional.classification import binary_average_precision  # noqa: PLC0415

    score_NC, truth_NC = np.asarray(score_NC), np.asarray(truth_NC).astype(bool)
    known = np.flatnonzero(truth_NC.any(axis=0))
    _check_some(len(known), "mean average precision")
    precisions = []
    for one in known:
        _, rank_N = np.unique(score_NC[:, one], return_inverse=True)  # ties stay ties
        rank_N = torch.from_numpy(rank_N / len(rank_N))  # torchmetrics wants scores in [0, 1]
        precisions.append(
            binary_average_precision(rank_N, torch.from_numpy(truth_NC[:, one]).long())
        )
    return float(torch.stack(precisions).mean())


def expected_calibration_error(logits_NC: ArrayLike, truth: ArrayLike) -> float:
    """Return how far confidence and accuracy are apart, the mean over 15 bins of confidence.

    Args:
        logits_NC: Logits [N, C].
        truth: True class [N], of which the softmax of the likeliest class is the confidence; or 0
            and 1 per class [N, C], where every class of every sample is a question of its own and
            the sigmoid its confidence.

    Source:
        Naeini, Cooper, Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning,
        AAAI 2015.
    """
    from torchmetrics.functional.classification import (  # noqa: PLC0415 - as above
        binary_calibration_error,
        multiclass_calibration_error,
    )

    logits_NC, truth = np.asarray(logits_NC, np.float64), torch.from_numpy(np.asarray(truth)).long()
    _check_some(len(logits_NC), "calibration error")
    if truth.ndim == 2:
        said = torch.from_numpy(expit(logits_NC))
        return float(binary_calibration_error(said.flatten(), truth.flatten(), n_bins=15))
    said = torch.from_numpy(softmax(logits_NC, axis=1))
    return float(multiclass_calibration_error(said, truth, logits_NC.shape[1], n_bins=15))


def bootstrap_by_group(
    value_N: ArrayLike,
    group_N: ArrayLike,
    *,
    num_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of a value per sample and its interval by resampling whole groups.

    Samples of one group are not independent, so groups are drawn with replacement; the interval
    is between percentiles of the means. With fewer than two groups its ends are infinite.

    Args:
        value_N: Value of each sample [N]: 0 or 1 for an accuracy, a paired difference, ...
        group_N: Group of each sample [N], numbers or names.
        num_resamples: Number of resamples R.
        seed: Seed of the draws.
        confidence: Probability that the interval covers.

    Raises:
        MkeRayError: There is no sample.
    """
    sum_G, count_G, mean_R = _resamples_by_group(value_N, group_N, num_resamples, seed)
    value = float(sum_G.sum() / count_G.sum())
    low, high = -math.inf, math.inf
    if len(mean_R):
        tail = (1.0 - confidence) / 2.0
        low, high = (float(one) for one in np.quantile(mean_R, [tail, 1.0 - tail]))
    return Interval(value, low, high, int(count_G.sum()), len(sum_G))


def lower_bound_by_group(
    diff_N: ArrayLike,
    group_N: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> float:
    """Return the one-sided lower bound of the mean, by resampling whole groups.

    Percentiles of resamples are too hopeful where groups are few, so the bound is the lower one of
    theirs and of Student's t over the groups; with many groups the two agree.

    Args:
        diff_N: Paired difference of each sample [N], student minus teacher.
        group_N: Group of each sample [N].
        confidence: Probability that the true mean is above the bound.
        num_resamples: Number of resamples R.
        seed: Seed of the draws.

    Returns:
        The bound; minus infinity with fewer than two groups.

    Raises:
        MkeRayError: There is no sample.
    """
    sum_G, count_G, mean_R = _resamples_by_group(diff_N, group_N, num_resamples, seed)
    if len(mean_R) == 0:
        return -math.inf
    by_t = sum_G.sum() / count_G.sum() - _error_of_mean(sum_G, count_G) * float(
        stdtrit(len(sum_G) - 1, confidence)
    )
    return min(float(np.quantile(mean_R, 1.0 - confidence)), float(by_t))


def num_needed(diff_N: ArrayLike, group_N: ArrayLike, *, confidence: float = 0.95) -> int | None:
    """Return how many more labelled samples would settle a gain that is not yet certain.

    It is the number at which the lower bound of the same mean, with the same spread between
    groups of the same sizes, reaches zero under a normal approximation.

    Args:
        diff_N: Paired difference of each sample [N], student minus teacher.
        group_N: Group of each sample [N].
        confidence: Confidence of the one-sided bound.

    Returns:
        At least 1; None where more samples cannot be expected to help (no gain) or where the
        spread is unknown (fewer than two groups).
    """
    sum_G, count_G = _totals_by_group(diff_N, group_N)
    num_samples = count_G.sum()
    gain = sum_G.sum() / num_samples
    if gain <= 0 or len(sum_G) < 2:
        return None
    error = _error_of_mean(sum_G, count_G)
    total = num_samples * (NormalDist().inv_cdf(confidence) * error / gain) ** 2
    return max(1, math.ceil(total - num_samples))


def log_likelihood(logits_NC: ArrayLike, truth: ArrayLike) -> float:
    """Return how likely logits make the truth: the mean of the log-probability, in nats.

    Args:
        logits_NC: Logits [N, C].
        truth: True class [N], or for samples of many classes 0 or 1 per class [N, C], of which the
            mean over classes is taken too.
    """
    return float(sample_log_likelihood(logits_NC, truth).mean())


def sample_log_likelihood(logits_NC: ArrayLike, truth: ArrayLike) -> NDArray:
    """Return how likely logits make the truth of each sample [N], in nats.

    Args:
        logits_NC: Logits [N, C].
        truth: As ``log_likelihood`` takes it.
    """
    logits_NC, truth = np.asarray(logits_NC, np.float64), np.asarray(truth)
    if truth.ndim == 2:
        return np.where(truth > 0, log_expit(logits_NC), log_expit(-logits_NC)).mean(axis=1)
    log_probability_NC = log_softmax(logits_NC, axis=1)
    return np.take_along_axis(log_probability_NC, truth[:, None], axis=1)[:, 0]


def fit_temperature(logits_NC: ArrayLike, truth: ArrayLike) -> float:
    """Return the temperature that makes logits most likely, within bounds of 0.05 and 20.

    Args:
        logits_NC: Logits [N, C].
        truth: True class [N], or for samples of many classes 0 or 1 per class [N, C].

    Returns:
        The temperature to divide logits by; 1 where the samples do not tell (none at all, or
        logits that are equal in all classes).

    Raises:
        MkeRayError: A logit is not finite.

    Source:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
    """
    logits_NC = np.asarray(logits_NC, dtype=np.float64)
    truth = np.asarray(truth)
    if logits_NC.size == 0:
        return 1.0
    if not np.isfinite(logits_NC).all():
        raise MkeRayError("temperature: a logit is not finite; look for damaged samples or weights")

    def loss(log_temperature: float) -> float:
        return -log_likelihood(logits_NC / math.exp(log_temperature), truth)

    bounds = (math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(best.x) if best.fun < loss(0.0) - 1e-12 else 1.0


def fit_class_temperatures(
    logits_NC: ArrayLike, truth_NC: ArrayLike, *, least: int = LEAST_OF_A_CLASS
) -> NDArray:
    """Return the temperature of every class of samples that may have several [C].

    A class of which fewer samples than ``least`` are, or are not, gets the one of all classes.

    Args:
        logits_NC: Logits.
        truth_NC: Whether each sample is of each class.
        least: Samples on either side that a class needs for a temperature of its own.
    """
    logits_NC, truth_NC = np.asarray(logits_NC, np.float64), np.asarray(truth_NC, bool)
    found_C = np.full(logits_NC.shape[1], fit_temperature(logits_NC, truth_NC))
    num_C = np.minimum(truth_NC.sum(axis=0), (~truth_NC).sum(axis=0))
    for one in np.flatnonzero(num_C >= least):
        found_C[one] = fit_temperature(logits_NC[:, [one]], truth_NC[:, [one]])
    return found_C


def _totals_by_group(value_N: ArrayLike, group_N: ArrayLike) -> tuple[NDArray, NDArray]:
    """Return the sum of the values and the number of samples of each group."""
    value_N = np.asarray(value_N, dtype=np.float64)
    _check_some(value_N.size, "interval by group")
    _, index_N = np.unique(np.asarray(group_N), return_inverse=True)
    return np.bincount(index_N, weights=value_N), np.bincount(index_N).astype(np.float64)


def _error_of_mean(sum_G: NDArray, count_G: NDArray) -> float:
    """Return the standard error of the mean over all samples, by leaving out each group in turn.

    Of groups of one size it is the usual error of a mean; large ones, which pull the mean to
    themselves, would else look too near to it.

    Source:
        MacKinnon, Nielsen, Webb, Cluster-Robust Inference: A Guide to Empirical Practice, Journal
        of Econometrics 2023, the jackknife variance (CV3).
    """
    num_samples, num_groups = count_G.sum(), len(sum_G)
    mean = sum_G.sum() / num_samples
    left_out_G = (sum_G.sum() - sum_G) / (num_samples - count_G)
    return math.sqrt(np.square(left_out_G - mean).sum() * (num_groups - 1) / num_groups)


def _resamples_by_group(
    value_N: ArrayLike, group_N: ArrayLike, num_resamples: int, seed: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Return sums and counts of the groups [G] and the mean of each resample of them [R].

    Fewer than two groups have no resamples: R is 0.
    """
    sum_G, count_G = _totals_by_group(value_N, group_N)
    if len(sum_G) < 2:
        return sum_G, count_G, np.empty(0)
    return sum_G, count_G, _resampled_means(sum_G, count_G, num_resamples, seed)


def _resampled_means(sum_G: NDArray, count_G: NDArray, num_resamples: int, seed: int) -> NDArray:
    """Return the mean of each resample of the groups [R]; memory is bounded whatever G is."""
    generator = np.random.default_rng(seed)
    num_groups = len(sum_G)
    at_once = max(1, DRAWS_AT_ONCE // num_groups)
    means = []
    for start in range(0, num_resamples, at_once):
        shape = (min(at_once, num_resamples - start), num_groups)
        drawn = generator.integers(num_groups, size=shape)
        means.append(sum_G[drawn].sum(axis=1) / count_G[drawn].sum(axis=1))
    return np.concatenate(means)


def _check_some(number: int, name: str) -> None:
    """Raise when there is nothing to measure."""
    if number == 0:
        raise MkeRayError(f"{name}: no sample with a known label; label some, or leave this out")
