"""Further figures of an arm, as papers on sound events and on genres report them."""

# N samples, C classes.

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from mke_ray.evaluation.answers import LOWEST
from mke_ray.metrics import mean_average_precision

TITLES: Mapping[str, str] = {
    "map": "mAP",
    "mauc": "mAUC",
    "d_prime": "d-prime",
    "f1_micro": "F1 micro",
    "f1_macro": "F1 macro",
    "f1_weighted": "F1 weighted",
    "f1_samples": "F1 samples",
}


def further_figures(logits_NC: NDArray, truth_NC: NDArray, *, is_multi: bool) -> dict[str, float]:
    """Return mean average precision, mean area under the ROC curve, d-prime and F1 by name.

    The first three look at every class alone, against all others; classes that no sample is of, or
    every sample, are left out. Where a sample has one class their scores are its probabilities. F1
    counts the classes that are named: the likeliest one, or those above one half where a sample may
    have many; of one class its micro mean would be the accuracy and is left out.

    Args:
        logits_NC: Logits [N, C], NaN in the row of a sample that was not answered.
        truth_NC: Whether the sample is of the class [N, C], bool.
        is_multi: Whether a sample may have many classes.

    Source:
        d-prime: Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP
        2017: sqrt(2) times the inverse normal distribution of the mean area.
    """
    seen_N = np.asarray(np.isfinite(logits_NC).all(axis=1))
    logits_NC = np.where(seen_N[:, None], logits_NC, 0.0).astype(np.float64)
    score_NC = logits_NC if is_multi else log_softmax(logits_NC, axis=1)
    score_NC = np.where(seen_N[:, None], score_NC, LOWEST)
    found = _ranking(score_NC, truth_NC)
    named_NC = score_NC > 0 if is_multi else _likeliest(score_NC, seen_N)
    return found | _f1(named_NC, truth_NC, is_multi=is_multi)


def d_prime(area: float) -> float:
    """Return how far two normal distributions lie apart that have this area under the ROC curve.

    Args:
        area: Area, 0.5 is chance; at 1 it is infinite.
    """
    if not 0.0 < area < 1.0:
        return math.copysign(math.inf, area - 0.5)
    return math.sqrt(2.0) * NormalDist().inv_cdf(area)


def _ranking(score_NC: NDArray, truth_NC: NDArray) -> dict[str, float]:
    """Return what only the order of the samples within each class counts for."""
    # Imported here, as torchmetrics is: it takes longer than most runs of the gate.
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    known = np.flatnonzero(truth_NC.any(axis=0) & ~truth_NC.all(axis=0))
    if not len(known):
        return {}
    area = float(np.mean([roc_auc_score(truth_NC[:, one], score_NC[:, one]) for one in known]))
    precision = mean_average_precision(score_NC[:, known], truth_NC[:, known])
    return {"map": precision, "mauc": area, "d_prime": d_prime(area)}


def _f1(named_NC: NDArray, truth_NC: NDArray, *, is_multi: bool) -> dict[str, float]:
    """Return the harmonic mean of precision and recall, averaged in several ways."""
    from sklearn.metrics import f1_score  # noqa: PLC0415 - as above

    ways = ("micro", "macro", "weighted", "samples") if is_multi else ("macro", "weighted")
    none: Any = 0  # a class that is neither there nor named; its type is declared as text alone
    return {
        f"f1_{way}": float(f1_score(truth_NC, named_NC, average=way, zero_division=none))
        for way in ways
    }


def _likeliest(score_NC: NDArray, seen_N: NDArray) -> NDArray:
    """Return the likeliest class of every sample that was answered [N, C]."""
    named_NC = np.zeros(score_NC.shape, dtype=bool)
    named_NC[np.arange(len(score_NC)), score_NC.argmax(axis=1)] = True
    return named_NC & seen_N[:, None]
