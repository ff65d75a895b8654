"""What a teacher decides, in one form for every kind of labels: probabilities of alternatives."""

# R rows, N decisions, K decisions of a row, L alternatives of a decision, C classes, H height,
# W width.
#
# single: K = 1, L = C. dense: every pixel is one of N, K = 1, L = C. multi: K = C, and the
# alternatives of a decision are that the class does not hold and that it does, L = 2.

import numpy as np
from numpy.typing import NDArray

from mke_ray.labels.posterior import probabilities
from mke_ray.schema import LabelKind


def decisions_of(logits_RC: NDArray, *, temperature: float, kind: str) -> NDArray:
    """Return the decisions of rows, float64 [R, K, L].

    Args:
        logits_RC: Logits [R, C] of labels that are not dense.
        temperature: Divides them.
        kind: ``single`` or ``multi``.
    """
    probability_RC = probabilities(logits_RC, temperature=temperature, kind=kind)
    if kind == LabelKind.MULTI:
        return np.stack([1.0 - probability_RC, probability_RC], axis=2)
    return probability_RC[:, None]


def decisions_of_pixels(probability_CHW: NDArray) -> NDArray:
    """Return the decisions of one sample's pixels, float64 [H * W, 1, C]."""
    num_classes = len(probability_CHW)
    return probability_CHW.reshape(num_classes, -1).T[:, None].astype(np.float64)


def targets_of(decision_RKL: NDArray, kind: str) -> NDArray:
    """Return decisions of rows as targets, float32 [R, C]; the way back of ``decisions_of``."""
    is_multi = kind == LabelKind.MULTI
    return (decision_RKL[:, :, 1] if is_multi else decision_RKL[:, 0]).astype(np.float32)


def pixels_of(decision_NKL: NDArray, height: int, width: int) -> NDArray:
    """Return decisions of one sample's pixels as [C, H, W]; the way back of those of pixels."""
    return decision_NKL[:, 0].T.reshape(-1, height, width).astype(np.float32)


def num_alternatives(num_classes: int, kind: str) -> tuple[int, int]:
    """Return the decisions K of a row (or pixel) and the alternatives L of each."""
    return (num_classes, 2) if kind == LabelKind.MULTI else (1, num_classes)
