"""Losses of logits against labels: soft or hard, one class, many classes, one class per pixel."""

# B samples, C classes, H height, W width.

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mke_ray.objectives.robust_losses import Criterion
from mke_ray.schema import IGNORE, LabelKind


def pseudo_label_loss(
    logits_BC: Tensor,
    target_BC: Tensor,
    *,
    weight_B: Tensor,
    kind: str = LabelKind.SINGLE,
    class_weights: Sequence[float] | None = None,
    label_weight: Tensor | None = None,
    criterion: Criterion | None = None,
) -> Tensor:
    """Return the loss against soft or hard labels of any kind; see the functions below.

    With ``kind="single"`` a sample whose targets are all 0 has no label and counts for nothing.

    Args:
        logits_BC: Logits [B, C], or [B, C, H, W] of dense labels.
        target_BC: Targets as a ``Batch`` has them.
        weight_B: Weight of each sample [B].
        kind: Kind of labels.
        class_weights: Weight of each class of dense labels [C].
        label_weight: Weight of each class [B, C] or pixel [B, H, W] as a ``Batch`` has it.
        criterion: What is averaged; None for cross-entropy.
    """
    if criterion is not None:
        elements = _of_criterion(criterion, logits_BC, target_BC, kind, class_weights)
        has_label_B = _has_label(target_BC, kind).to(weight_B.dtype)
        return _mean_over_labels(elements, weight_B * has_label_B, label_weight)
    if kind == LabelKind.DENSE:
        return dense_cross_entropy(
            logits_BC,
            target_BC,
            weight_B,
            class_weights=class_weights,
            label_weight_BHW=label_weight,
        )
    if kind == LabelKind.MULTI:
        return soft_binary_cross_entropy(logits_BC, target_BC, weight_B, label_weight)
    labelled_B = (target_BC.sum(dim=1) > 0).to(weight_B.dtype)
    return soft_cross_entropy(logits_BC, target_BC, weight_B * labelled_B)


def soft_cross_entropy(logits_BC: Tensor, target_BC: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-entropy against soft pseudo-labels, averaged over the weighted samples.

    Args:
        logits_BC: Student logits [B, C], any float dtype; computed in float32.
        target_BC: Teacher probabilities [B, C]; each row sums to 1.
        weight_B: Weight of each sample [B], 0 where the teacher was unsure.

    Returns:
        Scalar loss in nats; 0 when every weight is 0.

    Source:
        Xue et al., Multimodal Knowledge Expansion, ICCV 2021.
    """
    log_probability_BC = torch.log_softmax(logits_BC.float(), dim=1)
    return _weighted_mean(-(target_BC.float() * log_probability_BC).sum(dim=1), weight_B)


def soft_binary_cross_entropy(
    logits_BC: Tensor,
    target_BC: Tensor,
    weight_B: Tensor,
    label_weight_BC: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy against soft labels, averaged over classes and weighted samples.

    Args:
        logits_BC: Student logits [B, C], any float dtype; computed in float32.
        target_BC: Probability of each class [B, C], independent of the others.
        weight_B: Weight of each sample [B].
        label_weight_BC: Weight of each class of each sample [B, C]; None weighs all alike.

    Returns:
        Scalar loss in nats per class; 0 when every weight is 0.
    """
    loss_BC = functional.binary_cross_entropy_with_logits(
        logits_BC.float(), target_BC.float(), reduction="none"
    )
    return _mean_over_labels(loss_BC, weight_B, label_weight_BC)


def dense_cross_entropy(
    logits_BCHW: Tensor,
    target: Tensor,
    weight_B: Tensor,
    *,
    class_weights: Sequence[float] | None = None,
    label_weight_BHW: Tensor | None = None,
) -> Tensor:
    """Cross-entropy against a label at every pixel, averaged over pixels and weighted samples.

    A pixel that counts for nothing adds nothing to the mean over its sample, so that the loss of a
    batch is the same however its samples are spread over ranks.

    Args:
        logits_BCHW: Student logits [B, C, H, W], any float dtype; computed in float32.
        target: Hard labels, integers [B, H, W] with 255 where a pixel counts for nothing, or soft
            ones, probabilities [B, C, H, W] that are all 0 there.
        weight_B: Weight of each sample [B].
        class_weights: Weight of each class [C] in the loss of a pixel; None weighs all alike.
        label_weight_BHW: Weight of each pixel [B, H, W], by which the mean is weighted; None
            weighs all alike.

    Returns:
        Scalar loss in nats per pixel; 0 when nothing counts.
    """
    log_probability = torch.log_softmax(logits_BCHW.float(), dim=1)
    of_class = None
    if class_weights is not None:
        of_class = log_probability.new_tensor(list(class_weights))
    if target.dim() == logits_BCHW.dim():
        loss_BHW = _of_soft_pixels(log_probability, target.float(), of_class)
    else:
        loss_BHW = _of_hard_pixels(log_probability, target.long(), of_class)
    return _mean_over_labels(loss_BHW, weight_B, label_weight_BHW)


def label_mass(weight_B: Tensor, label_weight: Tensor | None) -> Tensor:
    """Return what the labels of each sample weigh [B]: by this the mean over a batch is weighted.

    Args:
        weight_B: Weight of each sample [B].
        label_weight: Weight of its classes or pixels [B, X]; None weighs all alike.
    """
    if label_weight is None:
        return weight_B
    return weight_B * label_weight.flatten(1).mean(dim=1)


def consistency(
    logits_BC: Tensor,
    clean_BC: Tensor,
    *,
    weight_B: Tensor,
    kind: str = LabelKind.SINGLE,
    label_weight: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence of the perturbed prediction from the clean one.

    Args:
        logits_BC: Logits of the perturbed student [B, C], or [B, C, H, W].
        clean_BC: Logits of the clean student of that shape; no gradient passes through them.
        weight_B: Weight of each sample [B].
        kind: ``single`` sums over classes; ``multi`` averages the divergence of each class;
            ``dense`` sums over classes and averages over pixels.
        label_weight: Weight of each class [B, C] or pixel [B, H, W]; None weighs all alike.

    Returns:
        Scalar in nats, at least 0; 0 when every weight is 0.
    """
    logits_BC, clean_BC = logits_BC.float(), clean_BC.detach().float()
    if kind == LabelKind.MULTI:
        target_BC = torch.sigmoid(clean_BC)
        loss = functional.binary_cross_entropy_with_logits
        cross_BC = loss(logits_BC, target_BC, reduction="none")
        entropy_BC = loss(clean_BC, target_BC, reduction="none")
        return _mean_over_labels(cross_BC - entropy_BC, weight_B, label_weight)
    log_clean_BC = torch.log_softmax(clean_BC, dim=1)
    difference_BC = log_clean_BC - torch.log_softmax(logits_BC, dim=1)
    divergence = (log_clean_BC.exp() * difference_BC).sum(dim=1)  # [B], or [B, H, W]
    return _mean_over_labels(divergence.reshape(len(divergence), -1), weight_B, label_weight)


def _of_criterion(
    criterion: Criterion,
    logits_BC: Tensor,
    target_BC: Tensor,
    kind: str,
    class_weights: Sequence[float] | None,
) -> Tensor:
    """Return the loss of each sample [B, 1], class [B, C] or pixel [B, H, W] by a criterion."""
    if kind == LabelKind.MULTI:
        log_BKC = functional.logsigmoid(torch.stack([logits_BC, -logits_BC], dim=1).float())
        return criterion(log_BKC, torch.stack([target_BC, 1 - target_BC], dim=1).float())
    log_probability = torch.log_softmax(logits_BC.float(), dim=1)
    target = target_BC if target_BC.dim() == logits_BC.dim() else _one_hot(target_BC, logits_BC)
    mass = target.sum(dim=1)
    loss = criterion(log_probability, target.float()) * (mass > 0)  # [B], or [B, H, W]
    if class_weights is not None:
        of_class = loss.new_tensor(list(class_weights))[:, None, None]
        loss = loss * (target * of_class).sum(dim=1) / mass.clamp(min=1e-12)
    return loss if loss.dim() > 1 else loss[:, None]


def _has_label(target_BC: Tensor, kind: str) -> Tensor:
    """Return whether a sample has a label as a whole [B]; only with one class may it lack that."""
    if kind == LabelKind.SINGLE:
        return target_BC.sum(dim=1) > 0
    return torch.ones(len(target_BC), dtype=torch.bool, device=target_BC.device)


def _one_hot(target_BHW: Tensor, logits_BCHW: Tensor) -> Tensor:
    """Return class maps as probabilities [B, C, H, W], all 0 where a pixel counts for nothing."""
    class_C = torch.arange(logits_BCHW.shape[1], device=target_BHW.device)
    return (target_BHW[:, None] == class_C[:, None, None]).float()


def _of_hard_pixels(log_probability: Tensor, target_BHW: Tensor, of_class: Tensor | None) -> Tensor:
    """Return the weighted loss of every pixel [B, H, W], 0 where it counts for nothing."""
    return functional.nll_loss(
        log_probability, target_BHW, weight=of_class, ignore_index=IGNORE, reduction="none"
    )


def _of_soft_pixels(
    log_probability: Tensor, target_BCHW: Tensor, of_class: Tensor | None
) -> Tensor:
    """Return the weighted loss of every pixel [B, H, W], 0 where it counts for nothing."""
    if of_class is not None:
        target_BCHW = target_BCHW * of_class[None, :, None, None]
    return -(target_BCHW * log_probability).sum(dim=1)


def _mean_over_labels(loss_BX: Tensor, weight_B: Tensor, label_weight: Tensor | None) -> Tensor:
    """Return the mean of the losses of classes or pixels, weighted by samples and by labels.

    It is divided by the sum of all weights, of which every rank knows its own part (see
    ``label_mass``), so that a batch gives the same loss however it is spread over ranks.
    """
    if label_weight is None:
        return _weighted_mean(loss_BX.flatten(1).mean(dim=1), weight_B)
    label_weight = label_weight.to(loss_BX.dtype)
    loss_B = (loss_BX.flatten(1) * label_weight.flatten(1)).mean(dim=1)
    mass_B = label_mass(weight_B, label_weight)
    smallest = torch.finfo(loss_B.dtype).tiny
    return (loss_B * weight_B).sum() / mass_B.sum().clamp(min=smallest)


def _weighted_mean(loss_B: Tensor, weight_B: Tensor) -> Tensor:
    """Return the weighted mean; 0, with a gradient of 0, when every weight is 0."""
    weight_B = weight_B.to(loss_B.dtype)
    smallest = torch.finfo(loss_B.dtype).tiny
    return (loss_B * weight_B).sum() / weight_B.sum().clamp(min=smallest)
