"""A mean over samples that were drawn by known, unequal chances, and how sure it is."""

# N samples, H strata, G groups of a stratum, R resamples.

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from mke_ray.labels.asked import AskRecord
from mke_ray.metrics import DRAWS_AT_ONCE

LEAST_CHANGED = 0.03
_NUM_RESAMPLES = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Sampling:
    """How the samples of a gate were drawn.

    Args:
        weight_N: How many samples each stands for, relative to the others.
        stratum_N: Stratum of each: 0 for the probe of the source, others for what was asked for.
    """

    weight_N: NDArray
    stratum_N: NDArray

    def mean(self, value_N: ArrayLike) -> float:
        """Return the weighted mean of a value."""
        return float(np.average(np.asarray(value_N, float), weights=self.weight_N))


def sampling_of(sample_id_N: NDArray, records: Sequence[AskRecord]) -> Sampling | None:
    """Return how the samples of a gate were drawn, None where all are of the source's probe.

    A stratum of a draw stands for its share of the samples that were drawn from, whatever number of
    it was labelled (the estimator of Horvitz and Thompson for a stratified sample). The probe of
    the source stands for as many samples as it has, a draw for ``worth`` times as many.

    Args:
        sample_id_N: The samples.
        records: What was asked for in this root.

    Source:
        Horvitz, Thompson, A Generalization of Sampling Without Replacement From a Finite Universe,
        JASA 1952; Kossen, Farquhar, Gal, Rainforth, Active Testing: Sample-Efficient Model
        Evaluation, ICML 2021.
    """
    place = {int(one): number for number, one in enumerate(sample_id_N)}
    weight_N, stratum_N = np.ones(len(sample_id_N)), np.zeros(len(sample_id_N), int)
    for record in records:
        found: dict[str, list[int]] = {}
        for one in record.samples:
            if one.stratum and one.sample_id in place:
                found.setdefault(one.stratum, []).append(place[one.sample_id])
        num = sum(map(len, found.values()))
        share = sum(record.shares[stratum] for stratum in found)
        for stratum, places in sorted(found.items()):
            stands_for = record.worth * num * record.shares[stratum] / share
            weight_N[places] = stands_for / len(places)
            stratum_N[places] = stratum_N.max() + 1
    return Sampling(weight_N, stratum_N) if stratum_N.any() else None


def sampled_lower_bound(
    diff_N: ArrayLike, group_N: ArrayLike, sampling: Sampling, *, confidence: float = 0.95
) -> float:
    """Return the one-sided lower bound of a weighted mean, by resampling groups within strata.

    As ``metrics.lower_bound_by_group``, the lower one of the percentile of resamples and of
    Student's t with the jackknife error. A stratum in which hardly anything differs is never taken
    to be surer than if ``LEAST_CHANGED`` of it did: a few samples show too little of what is rare.

    Args:
        diff_N: Paired difference of each sample [N].
        group_N: Group of each sample [N]; none is in two strata.
        sampling: How they were drawn.
        confidence: Probability that the true mean is above the bound.

    Returns:
        The bound; minus infinity where a stratum has fewer than two groups.
    """
    strata = _strata(diff_N, group_N, sampling)
    if any(len(one) < 2 for one in strata):
        return -math.inf
    mean = sampling.mean(diff_N)
    freedom = sum(len(one) - 1 for one in strata)
    by_t = mean - sampled_error(diff_N, group_N, sampling) * float(stdtrit(freedom, confidence))
    return min(float(np.quantile(_resampled(strata), 1.0 - confidence)), by_t)


def sampled_error(diff_N: ArrayLike, group_N: ArrayLike, sampling: Sampling) -> float:
    """Return the standard error of a weighted mean, by leaving out each group of each stratum.

    Args:
        diff_N: Paired difference of each sample [N].
        group_N: Group of each sample [N].
        sampling: How they were drawn.
    """
    strata = _strata(diff_N, group_N, sampling)
    sum_2 = np.sum([one.sum(axis=0) for one in strata], axis=0)
    mean, variance = sum_2[0] / sum_2[1], 0.0
    for number, one in enumerate(strata):
        num = len(one)
        if num < 2:
            return math.inf
        left_out_G2 = sum_2 - one.sum(axis=0) + (one.sum(axis=0) - one) * num / (num - 1)
        own = float(np.square(left_out_G2[:, 0] / left_out_G2[:, 1] - mean).sum()) * (num - 1) / num
        share = one[:, 1].sum() / sum_2[1]
        is_asked = number > 0 or not (sampling.stratum_N == 0).any()
        variance += max(own, share**2 * LEAST_CHANGED / num if is_asked else 0.0)
    return math.sqrt(variance)


def num_more(
    diff_N: ArrayLike, group_N: ArrayLike, sampling: Sampling, *, confidence: float = 0.95
) -> int | None:
    """Return how many more samples, drawn like these, would settle a gain that is not certain.

    Args:
        diff_N: Paired difference of each sample [N].
        group_N: Group of each sample [N].
        sampling: How they were drawn.
        confidence: Confidence of the one-sided bound.

    Returns:
        At least 1; None where more cannot be expected to help.
    """
    gain, error = sampling.mean(diff_N), sampled_error(diff_N, group_N, sampling)
    if gain <= 0 or not math.isfinite(error):
        return None
    num_samples = len(np.asarray(diff_N))
    total = num_samples * (NormalDist().inv_cdf(confidence) * error / gain) ** 2
    return max(1, math.ceil(total - num_samples))


def _strata(diff_N: ArrayLike, group_N: ArrayLike, sampling: Sampling) -> list[NDArray]:
    """Return of every stratum the weighted sum and the weight of each of its groups [G, 2]."""
    diff_N, group_N = np.asarray(diff_N, float), np.asarray(group_N)
    strata = []
    for stratum in np.unique(sampling.stratum_N):
        own = sampling.stratum_N == stratum
        weight, (_, index) = sampling.weight_N[own], np.unique(group_N[own], return_inverse=True)
        sums = np.bincount(index, weights=weight * diff_N[own])
        strata.append(np.stack([sums, np.bincount(index, weights=weight)], axis=1))
    return strata


def _resampled(strata: Sequence[NDArray]) -> NDArray:
    """Return the mean of each resample of the groups within their strata [R]."""
    generator = np.random.default_rng(0)
    total_R2 = np.zeros((_NUM_RESAMPLES, 2))
    for one in strata:
        num_parts = 1 + _NUM_RESAMPLES * len(one) // DRAWS_AT_ONCE
        for rows in np.array_split(np.arange(_NUM_RESAMPLES), num_parts):
            drawn = generator.integers(len(one), size=(len(rows), len(one)))
            total_R2[rows] += one[drawn].sum(axis=1)
    return total_R2[:, 0] / total_R2[:, 1]
