"""How a teacher's decisions become what a student learns: aligned, hard or soft, and weighed."""

# R rows, N decisions, K decisions of a row, L alternatives of a decision, C classes, H height,
# W width.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mke_ray.labels.decisions import decisions_of, decisions_of_pixels, pixels_of, targets_of
from mke_ray.labels.dense import DenseForm, Packed
from mke_ray.labels.label_weights import LabelWeight
from mke_ray.schema import LabelKind

LABEL_KINDS = ("hard", "soft", "sharpened")

_LEAST_MEAN = 1e-6


@dataclass(frozen=True, slots=True)
class LabelRule:
    """What is done to decisions, in this order: temperature, alignment, weight, kind of target.

    Args:
        label_kind: ``hard``, ``soft`` or ``sharpened``.
        temperature: Divides the teacher's logits.
        sharpening: Temperature of ``sharpened`` targets, see ``sharpened``.
        ratio_KL: What probabilities are multiplied with, see ``alignment_ratio``; None aligns
            nothing.
        weight: How decisions are weighed; None weighs all alike.
        fitted: What ``weight.fit`` returned.
    """

    label_kind: str = "hard"
    temperature: float = 1.0
    sharpening: float = 1.0
    ratio_KL: NDArray | None = None
    weight: LabelWeight | None = None
    fitted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changes_targets(self) -> bool:
        """Whether targets are other than the likeliest class, or the teacher's probabilities."""
        return self.label_kind == "sharpened" or self.ratio_KL is not None

    def targets(self, logits_RC: NDArray, kind: str) -> NDArray:
        """Return targets of rows, float32 [R, C].

        Args:
            logits_RC: Logits of the teacher.
            kind: ``single`` or ``multi``.
        """
        decision_RKL = decisions_of(logits_RC, temperature=self.temperature, kind=kind)
        return targets_of(self._told(aligned(decision_RKL, self.ratio_KL)), kind)

    def weights(self, logits_RC: NDArray, kind: str) -> NDArray:
        """Return weights of rows, float32: [R], or [R, C] where many classes may hold.

        Args:
            logits_RC: Logits of the teacher.
            kind: ``single`` or ``multi``.
        """
        decision_RKL = decisions_of(logits_RC, temperature=self.temperature, kind=kind)
        weight_RK = self._weighed(aligned(decision_RKL, self.ratio_KL))
        return weight_RK if kind == LabelKind.MULTI else weight_RK[:, 0]

    def targets_of_pixels(self, packed: Packed, form: DenseForm) -> NDArray:
        """Return targets of one sample's pixels as probabilities, float32 [C, H, W]."""
        told_NKL = self._told(self._aligned_pixels(packed, form))
        return pixels_of(told_NKL, form.height, form.width)

    def weights_of_pixels(self, packed: Packed, form: DenseForm) -> NDArray:
        """Return weights of one sample's pixels, float32 [H, W]."""
        weight_NK = self._weighed(self._aligned_pixels(packed, form))
        return weight_NK.reshape(form.height, form.width)

    def _aligned_pixels(self, packed: Packed, form: DenseForm) -> NDArray:
        """Return the aligned decisions of one sample's pixels [H * W, 1, C]."""
        probability_CHW = form.soft(packed, temperature=self.temperature)
        return aligned(decisions_of_pixels(probability_CHW), self.ratio_KL)

    def _told(self, probability_NKL: NDArray) -> NDArray:
        """Return decisions as they are told to the student."""
        if self.label_kind == "hard":
            return hardened(probability_NKL)
        if self.label_kind == "sharpened":
            return sharpened(probability_NKL, self.sharpening)
        return probability_NKL

    def _weighed(self, probability_NKL: NDArray) -> NDArray:
        """Return the weights of decisions, float32 [N, K]."""
        if self.weight is None:
            return np.ones(probability_NKL.shape[:2], np.float32)
        return np.asarray(self.weight.weights(probability_NKL, self.fitted), np.float32)


def hardened(probability_NKL: NDArray) -> NDArray:
    """Return 1 for the likeliest alternative of each decision and 0 for the others.

    Source:
        Lee, Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep
        Neural Networks, ICML workshop 2013.
    """
    return np.eye(probability_NKL.shape[2])[probability_NKL.argmax(axis=2)]


def sharpened(probability_NKL: NDArray, temperature: float) -> NDArray:
    """Return probabilities to the power of one over a temperature, normalised.

    Args:
        probability_NKL: Probabilities of the alternatives.
        temperature: 1 changes nothing, towards 0 all goes to the likeliest.

    Source:
        Berthelot et al., MixMatch, NeurIPS 2019 (temperature 0.5); Xie et al., Unsupervised Data
        Augmentation for Consistency Training, NeurIPS 2020 (0.4).
    """
    largest_NK1 = probability_NKL.max(axis=2, keepdims=True)
    power_NKL = (probability_NKL / largest_NK1) ** (1.0 / temperature)
    return power_NKL / power_NKL.sum(axis=2, keepdims=True)


def alignment_ratio(mean_KL: NDArray, prior_KL: Sequence[Sequence[float]] | NDArray) -> NDArray:
    """Return what probabilities are multiplied with so that their mean comes near a prior.

    Args:
        mean_KL: Mean probability of the alternatives over all unlabeled samples.
        prior_KL: Shares that the alternatives should have.

    Source:
        Berthelot et al., ReMixMatch: Semi-Supervised Learning with Distribution Matching and
        Augmentation Anchoring, ICLR 2020: distribution alignment.
    """
    return np.asarray(prior_KL, np.float64) / np.maximum(mean_KL, _LEAST_MEAN)


def aligned(probability_NKL: NDArray, ratio_KL: NDArray | None) -> NDArray:
    """Return probabilities times a ratio, normalised; as they are where there is none."""
    if ratio_KL is None:
        return probability_NKL
    moved_NKL = probability_NKL * ratio_KL
    total_NK1 = moved_NKL.sum(axis=2, keepdims=True)
    return np.where(
        total_NK1 > 0, moved_NKL / np.where(total_NK1 > 0, total_NK1, 1.0), probability_NKL
    )
