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
        The bound; minus infinity where there are fewer than two groups in all.

    Source:
        Satterthwaite, An Approximate Distribution of Estimates of Variance Components, Biometrics
        Bulletin 1946, for the degrees of freedom.
    """
    strata = _strata(diff_N, group_N, sampling)
    if len(strata[0].sum_G2) < 2:
        return -math.inf
    variance_H = _variances(strata)
    own_H = np.array([one.num_effective - 1.0 for one in strata])
    total = variance_H.sum()
    freedom = total**2 / (variance_H**2 / own_H).sum() if total > 0 else own_H.sum()
    by_t = sampling.mean(diff_N) - math.sqrt(total) * float(stdtrit(freedom, confidence))
    by_resamples = float(np.quantile(_resampled(strata), 1.0 - confidence))
    return -math.inf if math.isnan(by_t) else min(by_resamples, by_t)


def sampled_error(diff_N: ArrayLike, group_N: ArrayLike, sampling: Sampling) -> float:
    """Return the standard error of a weighted mean, by leaving out each group of each stratum.

    Args:
        diff_N: Paired difference of each sample [N].
        group_N: Group of each sample [N].
        sampling: How they were drawn.

    Returns:
        The error; infinity where there are fewer than two groups in all.
    """
    strata = _strata(diff_N, group_N, sampling)
    return math.inf if len(strata[0].sum_G2) < 2 else math.sqrt(_variances(strata).sum())


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


@dataclass(frozen=True, slots=True, eq=False)
class _Stratum:
    """Strata of a sample that are taken as one.

    Args:
        sum_G2: The weighted sum and the weight of each group [G, 2].
        least: Least variance of the weighted sum, of what was asked for.
    """

    sum_G2: NDArray
    least: float

    @property
    def num_effective(self) -> float:
        """Number of groups of equal weight that would say as much (Kish)."""
        return float(self.sum_G2[:, 1].sum() ** 2 / np.square(self.sum_G2[:, 1]).sum())


def _strata(diff_N: ArrayLike, group_N: ArrayLike, sampling: Sampling) -> list[_Stratum]:
    """Return the strata, one of a single group together with the next.

    A single group cannot show how groups of its stratum differ. Joined strata vary by the
    difference between their means too, so that they seem less sure than they are (Cochran,
    Sampling Techniques, 3rd edition, 1977, section 5A.12).
    """
    diff_N, group_N = np.asarray(diff_N, float), np.asarray(group_N)
    strata = []
    for numbers in _joined(group_N, sampling.stratum_N):
        own = np.isin(sampling.stratum_N, numbers)
        weight, (_, index) = sampling.weight_N[own], np.unique(group_N[own], return_inverse=True)
        sums = np.bincount(index, weights=weight * diff_N[own])
        sum_G2 = np.stack([sums, np.bincount(index, weights=weight)], axis=1)
        asked = [sampling.stratum_N == number for number in numbers if number > 0]
        least = sum(
            sampling.weight_N[one].sum() ** 2 * LEAST_CHANGED / len(np.unique(group_N[one]))
            for one in asked
        )
        strata.append(_Stratum(sum_G2, float(least)))
    return strata


def _joined(group_N: NDArray, stratum_N: NDArray) -> list[list[int]]:
    """Return the numbers of the strata, joined until each has two groups, if there are two."""
    joined: list[list[int]] = []
    some: list[int] = []
    for number in np.unique(stratum_N).tolist():
        some.append(number)
        if len(np.unique(group_N[np.isin(stratum_N, some)])) > 1:
            joined.append(some)
            some = []
    if some and joined:
        joined[-1].extend(some)
    return joined or [some]


def _variances(strata: Sequence[_Stratum]) -> NDArray:
    """Return what each stratum adds to the variance of the mean [H]; each has two groups."""
    sum_2 = np.sum([one.sum_G2.sum(axis=0) for one in strata], axis=0)
    mean, variances = sum_2[0] / sum_2[1], []
    for one in strata:
        all_2, num = one.sum_G2.sum(axis=0), len(one.sum_G2)
        left_out_G2 = sum_2 - all_2 + (all_2 - one.sum_G2) * num / (num - 1)
        own = float(np.square(left_out_G2[:, 0] / left_out_G2[:, 1] - mean).sum()) * (num - 1) / num
        variances.append(max(own, one.least / sum_2[1] ** 2))
    return np.array(variances)


def _resampled(strata: Sequence[_Stratum]) -> NDArray:
    """Return the mean of each resample of the groups within their strata [R]."""
    generator = np.random.default_rng(0)
    total_R2 = np.zeros((_NUM_RESAMPLES, 2))
    for one in (stratum.sum_G2 for stratum in strata):
        num_parts = 1 + _NUM_RESAMPLES * len(one) // DRAWS_AT_ONCE
        for rows in np.array_split(np.arange(_NUM_RESAMPLES), num_parts):
            drawn = generator.integers(len(one), size=(len(rows), len(one)))
            total_R2[rows] += one[drawn].sum(axis=1)
    return total_R2[:, 0] / total_R2[:, 1]
