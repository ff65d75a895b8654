"""The published objective with its switches: labels of a teacher, learnt under noise."""

# B samples, C classes, M modalities, D features, X any.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.objectives.asking import clean_logits, given_modalities, kind_of
from mke_ray.objectives.balance import BalanceSettings, Modulation, alone, modulation_of
from mke_ray.objectives.checks import check_settings
from mke_ray.objectives.losses import consistency, label_mass, pseudo_label_loss
from mke_ray.objectives.mixing import PICTURE_KINDS, Mixing, MixSettings, draw_mixing
from mke_ray.objectives.perturbing import Noise, Perturbation
from mke_ray.objectives.robust_losses import criterion_of
from mke_ray.randomness import batch_keys, uniform
from mke_ray.schema import Batch, LabelKind


@dataclass(frozen=True, slots=True)
class MKEObjective:
    """Pseudo-label loss on the perturbed student, with an optional separate consistency term.

    With ``alpha=0`` and no dropout it is the arm without regularisation; on a student of one
    modality it is the noisy student. The scale of the noise is the mean of ``|x|`` over the
    samples of the micro batch that have the modality, so it depends on the batch, while the noise
    itself depends on (seed, epoch, sample_id) alone.

    Args:
        alpha: Input noise, in units of the mean absolute value; one number, or one per modality.
        beta: The same on the first hidden layer of the head, or on the coarsest fused map of a
            dense student.
        consistency_weight: Weight of the divergence of the perturbed student from the clean one.
        consistency_ramp: Share of the training over which that weight rises from 0.
        modality_dropout: Per modality the share of samples that lose it in training; a sample
            never loses its last modality.
        kind: ``single`` (softmax), ``multi`` (sigmoid per class) or ``dense`` (softmax per pixel).
        class_weights: Weight of each class in the pseudo-label loss, of ``kind=dense`` alone; None
            weighs all alike.
        loss: What is averaged: ``{type: cross_entropy}``, which None is too, ``{type: generalized,
            q: 0.7}`` or ``{type: symmetric, alpha: 0.1, beta: 1.0, log_zero: -4}``; see
            ``mke_ray.objectives.robust_losses``.
        mix: How samples are mixed with others of their micro batch: ``{type: mixup, strength: 1.0,
            share: 1.0}`` or the same of ``cutmix``; None mixes nothing. See
            ``mke_ray.objectives.mixing``.
        balance: How gradients of encoders are modulated: ``{strength: 0.5, noise: false, until:
            1.0}``; None leaves them. It costs a pass without gradient per modality and step. See
            ``mke_ray.objectives.balance``.
        unimodal_weight: Weight of the mean loss on each modality alone; it costs a pass per
            modality and step.

    Source:
        Xue, Ren, Gao, Zhao, Multimodal Knowledge Expansion, ICCV 2021, equations 2 to 4, and the
        authors' notebook for the noise ``x + alpha * mean|x| * N(0, I)``.
    """

    alpha: float | Mapping[str, float] = 1.0
    beta: float = 0.0
    consistency_weight: float = 0.0
    consistency_ramp: float = 0.0
    modality_dropout: Mapping[str, float] | None = None
    kind: str = LabelKind.SINGLE
    class_weights: Sequence[float] | None = None
    loss: Mapping[str, Any] | None = None
    mix: Mapping[str, Any] | None = None
    balance: Mapping[str, Any] | None = None
    unimodal_weight: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_settings(self)

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return ``loss``, ``pseudo_label``, and where they have a weight the other terms.

        Those are ``unimodal`` and ``consistency``; with ``balance`` there is the factor of each
        modality's gradient besides, as ``gradient_<modality>``.
        """
        present = self._visible(student, batch)
        mixing = self._mixing(student, batch, present)
        modulation = self._modulation(student, batch, present, progress)
        perturb = self._perturb(batch, present, mixing, modulation)
        logits_BC = student(batch.arrays, present, perturb)
        loss = self._loss(logits_BC, batch, mixing)
        parts = {"pseudo_label": loss.detach()}
        if modulation is not None:
            parts |= {f"gradient_{name}": one for name, one in modulation.coefficient.items()}
        if self.unimodal_weight > 0:
            term = self._unimodal(student, batch, present, mixing)
            parts["unimodal"] = term.detach()
            loss = loss + self.unimodal_weight * term
        weight = self.consistency_weight * ramp(progress, self.consistency_ramp)
        if self.consistency_weight > 0:
            divergence = self._divergence(logits_BC, student, batch, mixing)
            parts["consistency"] = divergence.detach()
            loss = loss + weight * divergence
        return {"loss": loss, **parts}

    def _visible(self, student: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return which modalities the student sees of each sample."""
        if not self.modality_dropout:
            return batch.present
        modalities = given_modalities(student, batch)
        return drop_modalities(batch, modalities=modalities, share=self.modality_dropout)

    def _mixing(
        self, student: nn.Module, batch: Batch, present: dict[str, Tensor]
    ) -> Mixing | None:
        """Return with whom samples are mixed in this step, None where they are not."""
        if self.mix is None:
            return None
        modalities = given_modalities(student, batch)
        return draw_mixing(
            batch,
            present,
            MixSettings.of(self.mix),
            modalities=modalities,
            pictures=[name for name in modalities if kind_of(student, name) in PICTURE_KINDS],
        )

    def _modulation(
        self, student: nn.Module, batch: Batch, present: dict[str, Tensor], progress: float
    ) -> Modulation | None:
        """Return how gradients are scaled in this step, None where they are not."""
        if self.balance is None:
            return None
        settings = BalanceSettings.of(self.balance)
        if progress > settings.until or len(given_modalities(student, batch)) < 2:
            return None
        return modulation_of(student, batch, present, settings, kind=self.kind)

    def _perturb(
        self,
        batch: Batch,
        present: dict[str, Tensor],
        mixing: Mixing | None,
        modulation: Modulation | None = None,
    ) -> Perturbation | None:
        """Return what is done to the student in this step, None where nothing is."""
        strengths = self.alpha.values() if isinstance(self.alpha, Mapping) else [self.alpha]
        noise = None
        if self.beta != 0 or any(strengths):
            noise = Noise(batch, present, self.alpha, self.beta)
        if noise is None and mixing is None and modulation is None:
            return None
        return Perturbation(mixing, noise, modulation)

    def _loss(self, logits_BC: Tensor, batch: Batch, mixing: Mixing | None) -> Tensor:
        """Return the loss of some logits against the labels, mixed where the samples were."""
        target_BC, weight_B, label_weight = batch.target_BC, batch.weight_B, batch.label_weight
        if mixing is not None:
            logits_BC, target_BC, weight_B = mixing.labelled(logits_BC, target_BC, weight_B)
            label_weight = mixing.label_weights(label_weight)
        return pseudo_label_loss(
            logits_BC,
            target_BC,
            weight_B=weight_B,
            kind=self.kind,
            class_weights=self.class_weights,
            label_weight=label_weight,
            criterion=criterion_of(self.loss),
        )

    def _unimodal(
        self,
        student: nn.Module,
        batch: Batch,
        present: dict[str, Tensor],
        mixing: Mixing | None,
    ) -> Tensor:
        """Return the mean loss of the student on what it sees of each modality alone.

        That of a modality counts by the share of the labels whose samples have it, so that the
        loss of a batch is the same however it is spread over ranks.
        """
        perturb = self._perturb(batch, present, mixing)
        whole = label_mass(batch.weight_B, batch.label_weight).sum().clamp(min=1e-12)
        terms = []
        for name in given_modalities(student, batch):
            logits_BC = student(batch.arrays, alone(present, name), perturb)
            seen = replace(batch, weight_B=batch.weight_B * present[name])
            share = label_mass(seen.weight_B, batch.label_weight).sum() / whole
            terms.append(self._loss(logits_BC, seen, mixing) * share)
        return torch.stack(terms).mean()

    def _divergence(
        self, logits_BC: Tensor, student: nn.Module, batch: Batch, mixing: Mixing | None
    ) -> Tensor:
        """Return the divergence from the clean student, whose answers are mixed as labels are."""
        clean_BC, weight_B = clean_logits(student, batch, batch.present), batch.weight_B
        label_weight = batch.label_weight
        if mixing is not None:
            logits_BC, clean_BC, weight_B = mixing.labelled(logits_BC, clean_BC, weight_B)
            label_weight = mixing.label_weights(label_weight)
        return consistency(
            logits_BC, clean_BC, weight_B=weight_B, kind=self.kind, label_weight=label_weight
        )


def ramp(progress: float, length: float) -> float:
    """Return a weight that rises smoothly from nearly 0 to 1 over a share of the training.

    Source:
        Laine, Aila, Temporal Ensembling for Semi-Supervised Learning, ICLR 2017.
    """
    if length <= 0 or progress >= length:
        return 1.0
    return math.exp(-5.0 * (1.0 - progress / length) ** 2)


def drop_modalities(
    batch: Batch, *, modalities: Sequence[str], share: Mapping[str, float]
) -> dict[str, Tensor]:
    """Hide modalities from samples at random, by (seed, epoch, sample_id), never the last one.

    A sample that would lose all that it has keeps the one whose draw was the furthest from losing.

    Args:
        batch: Batch of the samples.
        modalities: The modalities that count as what a sample has.
        share: Probability of hiding, per modality (0 where not named).

    Returns:
        Per modality whether it is visible [B], bool; other modalities as they were.
    """
    present_BM = torch.stack([batch.present[name] for name in modalities], dim=1)
    margin_BM = torch.stack(
        [
            uniform(batch_keys(batch, f"dropout/{name}"), 1)[:, 0] - share.get(name, 0.0)
            for name in modalities
        ],
        dim=1,
    ).masked_fill(~present_BM, -2.0)
    best_B = margin_BM.argmax(dim=1)
    kept_BM = (margin_BM >= 0).scatter(1, best_B[:, None], True) & present_BM
    return {**batch.present, **dict(zip(modalities, kept_BM.unbind(dim=1), strict=True))}
