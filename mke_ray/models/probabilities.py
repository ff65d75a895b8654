"""What logits say as probabilities, and which decisions follow from them."""

# B samples, C classes, A alternatives of a decision, X decisions of a sample, H height, W width.

import torch
from torch import Tensor

from mke_ray.schema import LabelKind


def probabilities(logits_BC: Tensor, kind: LabelKind, temperature: float = 1.0) -> Tensor:
    """Return probabilities of the shape of the logits, float32.

    Args:
        logits_BC: Logits [B, C]; of dense labels [B, C, H, W].
        kind: Of one class the softmax over classes, of many the sigmoid of each.
        temperature: Divides the logits.
    """
    scaled_BC = logits_BC.float() / temperature
    return scaled_BC.sigmoid() if kind == LabelKind.MULTI else scaled_BC.softmax(dim=1)


def decisions(probability_BC: Tensor, kind: LabelKind) -> Tensor:
    """Return what is decided about a sample, as probabilities of alternatives [B, A, X].

    Of one class that is one decision among C classes; of many, C decisions between no and yes; of
    dense labels one decision among C classes for each of the H * W pixels.

    Args:
        probability_BC: Probabilities [B, C]; of dense labels [B, C, H, W].
        kind: How many classes a sample may have.
    """
    if kind == LabelKind.MULTI:
        return torch.stack([1.0 - probability_BC, probability_BC], dim=1)
    return probability_BC.flatten(2) if probability_BC.dim() > 2 else probability_BC[..., None]
