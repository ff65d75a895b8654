"""Balance between modalities: whoever leads has its encoder learn more slowly.

An optimizer that divides gradients by their own size, as AdamW does, undoes a scale that lasts.
"""

# B samples, C classes, M modalities, X any.

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.objectives.asking import clean_logits, given_modalities
from mke_ray.randomness import batch_keys, gaussian_like
from mke_ray.schema import IGNORE, Batch, LabelKind

_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class BalanceSettings:
    """How the gradients of encoders are modulated.

    Args:
        strength: How much slower the encoder of a leading modality learns, alpha of the paper.
        noise: Whether every encoder's gradient gets noise of its own size.
        until: Share of the training after which nothing is modulated any more.

    Source:
        Peng, Wei, Deng, Wang, Hu, Balanced Multimodal Learning via On-the-fly Gradient
        Modulation, CVPR 2022, equations 8 to 12.
    """

    strength: float
    noise: bool = False
    until: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not (self.strength > 0 and math.isfinite(self.strength)):
            raise ConfigError(
                f"objective.balance.strength is {self.strength}; give a number over 0, or "
                "objective.balance=null to modulate nothing"
            )
        if not 0 < self.until <= 1:
            raise ConfigError(
                f"objective.balance.until is {self.until}; give a share over 0 and up to 1"
            )

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "BalanceSettings":
        """Return the settings that ``objective.balance`` names.

        Raises:
            ConfigError: A key or a value is unknown, or ``strength`` is missing.
        """
        if unknown := sorted(set(spec) - {"strength", "noise", "until"}):
            raise ConfigError(
                f"objective.balance.{unknown[0]} is no such key; choose of strength, noise, until"
            )
        if "strength" not in spec:
            raise ConfigError("objective.balance.strength is missing; give a number, such as 0.5")
        return cls(**spec)


@dataclass(frozen=True, slots=True)
class Modulation:
    """Scales the gradient that an encoder gets back; what it says stays the same.

    Args:
        batch: Batch whose samples are seen.
        present: Per modality whether the sample has it [B], bool.
        coefficient: Factor of each modality, scalars.
        noise: Whether gradients get noise.
    """

    batch: Batch
    present: Mapping[str, Tensor]
    coefficient: Mapping[str, Tensor]
    noise: bool = False

    def features(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return what an encoder says, with its gradient modulated."""
        key_B = batch_keys(self.batch, f"noise of the gradient/{modality}") if self.noise else None
        modulated = _Modulated.apply(
            x_BX, self.coefficient[modality], self.present[modality], key_B
        )
        return cast(Tensor, modulated)


class _Modulated(torch.autograd.Function):
    """The identity whose gradient is scaled, with noise as large as it was before."""

    @staticmethod
    def forward(
        ctx: Any, x_BX: Tensor, coefficient: Tensor, present_B: Tensor, key_B: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(coefficient, present_B, *([] if key_B is None else [key_B]))
        return x_BX.view_as(x_BX)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad_BX,) = grads
        coefficient, present_B, *key_B = ctx.saved_tensors
        scaled_BX = grad_BX * coefficient.to(grad_BX.dtype)
        if key_B:
            is_there_BX = present_B.view(-1, *[1] * (grad_BX.dim() - 1))
            noise_BX = gaussian_like(grad_BX, key_B[0]).masked_fill(~is_there_BX, 0)
            num = is_there_BX.sum().clamp(min=1) * grad_BX[0].numel()
            size = (grad_BX.float().square().sum() / num).sqrt()
            scaled_BX = scaled_BX + size.to(grad_BX.dtype) * noise_BX
        return scaled_BX, None, None, None


def modulation_of(
    student: nn.Module,
    batch: Batch,
    present: Mapping[str, Tensor],
    settings: BalanceSettings,
    *,
    kind: str,
) -> Modulation:
    """Return how gradients are scaled in a step, by what the student says of single modalities.

    Only samples that have all modalities tell who leads. Each rank looks at its own.

    Args:
        student: A student of at least two modalities of the batch.
        batch: Micro batch.
        present: Per modality whether it is visible in this step [B], bool.
        settings: How gradients are modulated.
        kind: Kind of labels.
    """
    names = given_modalities(student, batch)
    likely = {}
    for name in names:
        logits_BC = clean_logits(student, batch, alone(batch.present, name))
        likely[name] = label_probability(logits_BC, batch.target_BC, kind=kind)
    is_whole_B = torch.stack([batch.present[name] for name in names]).all(dim=0)
    factors = coefficients(likely, batch.weight_B * is_whole_B, strength=settings.strength)
    return Modulation(batch, present, factors, settings.noise)


def alone(present: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    """Return what is there when a student sees one modality alone."""
    return {
        name: one_B if name == modality else torch.zeros_like(one_B)
        for name, one_B in present.items()
    }


def label_probability(logits_BC: Tensor, target_BC: Tensor, *, kind: str) -> Tensor:
    """Return how likely a student thinks each sample's label [B].

    It is the mean over classes where many may hold, and over labelled pixels of dense labels.

    Args:
        logits_BC: Logits [B, C], or [B, C, H, W].
        target_BC: Targets as a ``Batch`` has them.
        kind: Kind of labels.
    """
    if kind == LabelKind.MULTI:
        probability_BC = torch.sigmoid(logits_BC.float())
        return torch.lerp(1 - probability_BC, probability_BC, target_BC.float()).mean(dim=1)
    probability = torch.softmax(logits_BC.float(), dim=1)
    if target_BC.dim() == logits_BC.dim():
        likely, has_label = (probability * target_BC).sum(dim=1), target_BC.sum(dim=1)
    else:
        has_label = (target_BC != IGNORE).float()
        named = target_BC.long().masked_fill(target_BC == IGNORE, 0)
        likely = probability.gather(1, named[:, None])[:, 0] * has_label
    likely, has_label = likely.reshape(len(likely), -1), has_label.reshape(len(likely), -1)
    return likely.sum(dim=1) / has_label.sum(dim=1).clamp(min=_SMALLEST)


def coefficients(
    likely: Mapping[str, Tensor], weight_B: Tensor, *, strength: float
) -> dict[str, Tensor]:
    """Return the factor of each modality's gradient, scalars over 0 and up to 1.

    That of a modality on which the labels are likelier than on the others (on average, where there
    are several) is ``1 - tanh(strength * ratio)``; all others' is 1.

    Args:
        likely: How likely the labels are to the student on each modality alone [B].
        weight_B: Weight of each sample [B].
        strength: How strongly a lead counts.
    """
    score_M = torch.stack([(one_B * weight_B).sum() for one_B in likely.values()])
    others_M = (score_M.sum() - score_M) / max(len(likely) - 1, 1)
    ratio_M = score_M / others_M.clamp(min=_SMALLEST)
    factor_M = torch.where(ratio_M > 1, 1 - torch.tanh(strength * ratio_M), 1.0)
    return dict(zip(likely, factor_M.unbind(), strict=True))
