"""Which unlabeled samples are not of the known classes: two scores, and a weight made of them.

Clips of the web are of no known class, or carry another clip's sound. Two things tell. By Bayes'
rule the likelihood of a sample's modalities as one sample of some class, over that as two of any,
is ``r = sum_c p_a(c) prod_m p_m(c) / prior(c)``, what the posterior is normalised by: low where
they disagree. It does not see unknown classes that come again and again, since witnesses learn
what the teacher calls them: there the teacher's energy tells. What each is worth is measured:
labelled pairs are of known classes, and the density of both scores over theirs is the weight.

Source:
    The energy score of Liu et al., NeurIPS 2020. The density of one set as an exponential tilt of
    another's: Qin, Biometrika 1998. Positive and unlabeled data: Elkan and Noto, KDD 2008. The
    likelihood ratio with parameters at the edge of what is allowed: Self and Liang, JASA 1987.
"""

# N samples, K labelled pairs, M experts, C classes, S scores.

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from scipy.stats import chi2

from mke_ray.labels.posterior import Posterior

SCORES = ("log_ratio", "energy")

LEAST_WEIGHT = 0.05

_PENALTY = 1.0  # of slopes: those of standardised scores are like draws of a standard normal
_CHANCE = 0.05  # at which samples that are all of known classes are weighed nevertheless
_MOST_SLOPE = 10.0


@dataclass(frozen=True, slots=True)
class Tilt:
    """How the scores of samples of known classes differ from those of all unlabeled ones.

    Args:
        mean: Mean of each score over the unlabeled samples [S].
        deviation: Standard deviation [S].
        slopes: Logarithm of the density ratio per standard deviation [S], none below 0.
        offset: What is taken from that logarithm, so that the ratio has the mean 1.
        share: Share of the unlabeled samples that is not of known classes, at least.
        likelihood_ratio: Twice the gain in log-likelihood of the labelled pairs, per group.
        usual: Mean weight of the unlabeled samples, which those get that nobody could judge.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    slopes: tuple[float, ...]
    offset: float
    share: float
    likelihood_ratio: float
    usual: float = 1.0

    @property
    def is_certain(self) -> bool:
        """Whether the difference is more than chance; else all samples count alike."""
        half, quarter = (chi2.sf(self.likelihood_ratio, df) for df in (1, 2))
        return bool(0.5 * half + 0.25 * quarter < _CHANCE)

    def weights(self, scores_NS: NDArray) -> NDArray:
        """Return how likely samples are of a known class [N], the usual where a score is missing.

        No weight is below ``LEAST_WEIGHT``: labelled pairs that are drawn a little differently
        would leave next to nothing.

        Args:
            scores_NS: Scores, NaN where there are none.
        """
        z_NS = (scores_NS - np.asarray(self.mean)) / np.asarray(self.deviation)
        ratio_N = np.exp(z_NS @ np.asarray(self.slopes) - self.offset)
        weight_N = np.clip((1.0 - self.share) * ratio_N, LEAST_WEIGHT, 1.0)
        return np.where(np.isnan(ratio_N), self.usual, weight_N)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that ``from_dict`` reads back."""
        return {
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "slopes": list(self.slopes),
            "offset": self.offset,
            "share": self.share,
            "likelihood_ratio": self.likelihood_ratio,
            "usual": self.usual,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Tilt":
        """Build a tilt from plain data."""
        return cls(
            mean=tuple(plain["mean"]),
            deviation=tuple(plain["deviation"]),
            slopes=tuple(plain["slopes"]),
            offset=plain["offset"],
            share=plain["share"],
            likelihood_ratio=plain["likelihood_ratio"],
            usual=plain.get("usual", 1.0),
        )


def log_ratio(posterior: Posterior, teacher_NC: NDArray, expert_MNC: NDArray) -> NDArray:
    """Return how much likelier modalities are of one sample than of several, the log [N].

    Of one class per sample. Exponents and temperature make the probabilities that are compared.

    Args:
        posterior: Prior, temperature and exponents.
        teacher_NC: Logits of the teacher [N, C], NaN where it has none.
        expert_MNC: Logits of the witnesses, then of the further teachers [M, N, C], NaN where one
            saw nothing.

    Returns:
        NaN where the teacher or all experts that have a say saw nothing.
    """
    log_prior_C = posterior.log_prior
    scaled_NC = np.asarray(teacher_NC, np.float64) / posterior.temperature
    joint_NC = log_softmax(posterior.teacher * scaled_NC, axis=1)
    is_judged_N = np.zeros(len(joint_NC), dtype=bool)
    experts = zip(posterior.exponents, posterior.divisors, expert_MNC, strict=True)
    for exponent, divisor, one_NC in experts:
        own_NC = log_softmax(np.asarray(one_NC, np.float64) / divisor, axis=1)
        tempered_NC = log_prior_C + exponent * (own_NC - log_prior_C)
        more_NC = log_softmax(tempered_NC, axis=1) - log_prior_C
        is_there_N = ~np.isnan(more_NC).any(axis=1) & (exponent > 0)
        joint_NC = joint_NC + np.where(is_there_N[:, None], more_NC, 0.0)
        is_judged_N |= is_there_N
    return np.where(is_judged_N, logsumexp(joint_NC, axis=1), np.nan)


def open_set_scores(posterior: Posterior, teacher_NC: NDArray, expert_MNC: NDArray) -> NDArray:
    """Return the ``SCORES`` of samples, higher where a known class is likelier.

    The arguments are those of ``log_ratio``.

    Returns:
        [N, S], NaN where there is no ratio.
    """
    ratio_N = log_ratio(posterior, teacher_NC, expert_MNC)
    energy_N = np.asarray(logsumexp(np.asarray(teacher_NC, np.float64), axis=1))
    return np.stack([ratio_N, np.where(np.isnan(ratio_N), np.nan, energy_N)], axis=1)


def fit_tilt(pairs_KS: NDArray, unlabeled_NS: NDArray, *, num_groups: int) -> Tilt:
    """Return the tilt under which the scores of labelled pairs are likeliest.

    Args:
        pairs_KS: Scores of labelled pairs, all of known classes.
        unlabeled_NS: Scores of unlabeled samples.
        num_groups: Groups of the pairs, which are independent where pairs are not.
    """
    pairs_KS, unlabeled_NS = (one[~np.isnan(one).any(axis=1)] for one in (pairs_KS, unlabeled_NS))
    if not len(pairs_KS) or not len(unlabeled_NS):
        zeros = (0.0,) * len(SCORES)
        return Tilt(zeros, (1.0,) * len(SCORES), zeros, 0.0, 0.0, 0.0)
    mean_S, deviation_S = unlabeled_NS.mean(axis=0), unlabeled_NS.std(axis=0)
    deviation_S = np.where(deviation_S > 1e-5, deviation_S, np.inf)  # a constant tells nothing
    pairs_KS, unlabeled_NS = ((one - mean_S) / deviation_S for one in (pairs_KS, unlabeled_NS))
    independent = min(num_groups, len(pairs_KS))
    slope_S = _slopes(pairs_KS, unlabeled_NS, independent)
    offset = _log_mean_exp(unlabeled_NS @ slope_S)
    gain_K = pairs_KS @ slope_S - offset
    tilt = Tilt(
        tuple(mean_S.tolist()),
        tuple(np.where(np.isinf(deviation_S), 1e9, deviation_S).tolist()),
        tuple(slope_S.tolist()),
        offset,
        share=float(max(0.0, 1.0 - 1.0 / np.exp(gain_K).mean())),
        likelihood_ratio=float(2.0 * independent * gain_K.mean()),
    )
    seen_NS = unlabeled_NS * np.asarray(tilt.deviation) + mean_S
    return replace(tilt, usual=float(tilt.weights(seen_NS).mean()))


def _slopes(pairs_KS: NDArray, unlabeled_NS: NDArray, num: int) -> NDArray:
    """Return the slopes of largest penalised likelihood of pairs that count as ``num`` [S]."""
    mean_S = pairs_KS.mean(axis=0)

    def loss(slope_S: NDArray) -> tuple[float, NDArray]:
        tilted_N = unlabeled_NS @ slope_S
        log_mean = _log_mean_exp(tilted_N)
        share_N = np.exp(tilted_N - log_mean) / len(tilted_N)
        value = num * (log_mean - mean_S @ slope_S) + _PENALTY / 2 * slope_S @ slope_S
        return float(value), num * (share_N @ unlabeled_NS - mean_S) + _PENALTY * slope_S

    bounds = [(0.0, _MOST_SLOPE)] * len(mean_S)
    return minimize(loss, np.zeros(len(mean_S)), jac=True, bounds=bounds, method="L-BFGS-B").x


def _log_mean_exp(value_N: NDArray) -> float:
    return float(logsumexp(value_N) - np.log(len(value_N)))
