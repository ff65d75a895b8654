"""Crossmodal distillation: true labels, and what a teacher of other modalities says."""

# B samples, C classes.

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.objectives.losses import consistency, pseudo_label_loss
from mke_ray.schema import Batch, LabelKind


def distillation_loss(
    logits_BC: Tensor,
    target_BC: Tensor,
    teacher_BC: Tensor,
    *,
    weight_B: Tensor,
    rho: float,
    temperature: float = 1.0,
    kind: str = LabelKind.SINGLE,
) -> dict[str, Tensor]:
    """Return ``rho`` of the loss of true labels and the rest of the divergence from a teacher.

    The divergence is summed over classes and averaged over samples, so that ``rho`` means the same
    with any number of classes. It is multiplied by the squared temperature, so that it pulls as
    hard at any.

    Args:
        logits_BC: Student logits [B, C], or [B, C, H, W] of dense labels.
        target_BC: True labels as a ``Batch`` has them.
        teacher_BC: Logits of the teacher, of the shape of the student's; no gradient passes.
        weight_B: Weight of each sample [B].
        rho: Share of the true labels, from 0 to 1; 1 is training without a teacher.
        temperature: Divides the logits of both in the divergence.
        kind: Kind of labels.

    Returns:
        ``loss``, and its parts ``label`` and ``teacher`` without gradient, in nats.

    Source:
        Xue, Gao, Ren, Zhao, The Modality Focusing Hypothesis, ICLR 2023, equation 1; Hinton,
        Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015.
    """
    label = pseudo_label_loss(logits_BC, target_BC, weight_B=weight_B, kind=kind)
    divergence = temperature**2 * consistency(
        logits_BC / temperature, teacher_BC / temperature, weight_B=weight_B, kind=kind
    )
    loss = rho * label + (1.0 - rho) * divergence
    return {"loss": loss, "label": label.detach(), "teacher": divergence.detach()}


@dataclass(frozen=True, slots=True)
class DistillationObjective:
    """A student learns true labels and what a frozen teacher says of the same samples.

    The teacher reads what it has encoders for, of one modality or several, whatever the student
    reads: unimodal to unimodal, multimodal to unimodal, and any other.

    Args:
        teacher: A network that answers like a student; only asked, never trained.
        rho: Share of the true labels, from 0 to 1.
        temperature: Divides the logits of both in the divergence.
        kind: Kind of labels.
    """

    teacher: nn.Module
    rho: float = 0.5
    temperature: float = 1.0
    kind: str = LabelKind.SINGLE

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0.0 <= self.rho <= 1.0:
            raise ConfigError(f"objective.rho is {self.rho}; give a share from 0 to 1")
        if not (self.temperature > 0.0 and math.isfinite(self.temperature)):
            raise ConfigError(f"objective.temperature is {self.temperature}; give a number above 0")

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return ``loss``, ``label`` and ``teacher``."""
        with torch.no_grad():
            teacher_BC = self.teacher.eval()(batch.arrays, batch.present)
        return distillation_loss(
            student(batch.arrays, batch.present),
            batch.target_BC,
            teacher_BC,
            weight_B=batch.weight_B,
            rho=self.rho,
            temperature=self.temperature,
            kind=self.kind,
        )
