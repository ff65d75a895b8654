"""Average precision where samples have several classes: by class with resampling, and by sample."""

# N samples, C classes, G groups, R resamples.

import numpy as np
from numpy.typing import NDArray

MAX_RESAMPLES = 1000
MIN_RESAMPLES = 100

_ELEMENTS_BUDGET = 400_000_000


class ResampledMAP:
    """Mean average precision of several classifiers under the same resamples of the groups.

    The resamples are the same for every classifier, so their values may be subtracted.

    Args:
        truth_NC: Whether the sample is of the class [N, C], bool.
        group_N: Group of each sample [N].
        seed: Seed of the draws.
    """

    def __init__(self, truth_NC: NDArray, group_N: NDArray, *, seed: int = 0) -> None:
        self._truth_NC = truth_NC
        _, self._index_N = np.unique(group_N, return_inverse=True)
        num_groups = int(self._index_N.max()) + 1
        wanted = _ELEMENTS_BUDGET // max(truth_NC.size, 1)
        self.num_resamples = int(np.clip(wanted, MIN_RESAMPLES, MAX_RESAMPLES))
        generator = np.random.default_rng(seed)
        share_G = np.full(num_groups, 1 / num_groups)
        self._count_RG = generator.multinomial(num_groups, share_G, size=self.num_resamples)

    def values(self, score_NC: NDArray) -> NDArray:
        """Return the mean average precision under every resample [R].

        Args:
            score_NC: Scores [N, C]; only their order within a class counts.
        """
        order_NC = np.argsort(-score_NC, axis=0, kind="stable")
        truth_NC = np.take_along_axis(self._truth_NC, order_NC, axis=0)
        group_NC = self._index_N[order_NC]
        return np.array([_weighted_map(count_G[group_NC], truth_NC) for count_G in self._count_RG])


def sample_average_precision(score_NC: NDArray, truth_NC: NDArray) -> NDArray:
    """Return how well each sample's classes are ranked [N], 1 where it has none or all of them.

    Args:
        score_NC: Scores [N, C].
        truth_NC: Whether the sample is of the class [N, C], bool.
    """
    order_NC = np.argsort(-score_NC, axis=1, kind="stable")
    ranked_NC = np.take_along_axis(truth_NC, order_NC, axis=1)
    position_C = np.arange(1, truth_NC.shape[1] + 1)
    precision_NC = np.cumsum(ranked_NC, axis=1) / position_C
    num_N = truth_NC.sum(axis=1)
    sum_N = (precision_NC * ranked_NC).sum(axis=1)
    trivial_N = (num_N == 0) | (num_N == truth_NC.shape[1])
    return np.where(trivial_N, 1.0, sum_N / np.maximum(num_N, 1)).astype(np.float32)


def _weighted_map(weight_NC: NDArray, truth_NC: NDArray) -> float:
    """Return the mean average precision of samples in order of score, counted several times."""
    hit_NC = weight_NC * truth_NC
    num_C = hit_NC.sum(axis=0)
    seen_NC = np.maximum(np.cumsum(weight_NC, axis=0), 1)
    average_C = (np.cumsum(hit_NC, axis=0) / seen_NC * hit_NC).sum(axis=0) / np.maximum(num_C, 1)
    return float(average_C[num_C > 0].mean()) if num_C.any() else 0.0
