"""Mixing samples with partners of their micro batch: mixup, and cutmix where there are pictures."""

# B samples, C classes, M modalities, H height, W width, Q quantiles, X any.

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from scipy.special import betaincinv
from torch import Tensor

from mke_ray.errors import ConfigError
from mke_ray.randomness import batch_keys, uniform
from mke_ray.schema import Batch

MIXUP, CUTMIX = "mixup", "cutmix"
PICTURE_KINDS = frozenset({"image", "video", "depth"})

_NUM_QUANTILES = 4097


@dataclass(frozen=True, slots=True)
class MixSettings:
    """How samples are mixed.

    Args:
        type: ``mixup`` or ``cutmix``.
        strength: Both parameters of the Beta distribution of the share that a sample keeps.
        share: Share of the samples that are mixed at all.

    Source:
        Zhang, Cisse, Dauphin, Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018.
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features, ICCV 2019.
    """

    type: str
    strength: float = 1.0
    share: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.type not in (MIXUP, CUTMIX):
            raise ConfigError(f"objective.mix.type is {self.type!r}; choose {MIXUP} or {CUTMIX}")
        if not 0.01 <= self.strength <= 100:
            raise ConfigError(
                f"objective.mix.strength is {self.strength}; give a number from 0.01 to 100, or "
                "objective.mix=null to mix nothing"
            )
        if not 0 < self.share <= 1:
            raise ConfigError(
                f"objective.mix.share is {self.share}; give a share over 0 and up to 1, or "
                "objective.mix=null to mix nothing"
            )

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "MixSettings":
        """Return the settings that ``objective.mix`` names.

        Raises:
            ConfigError: A key or a value is unknown, or ``type`` is missing.
        """
        if unknown := sorted(set(spec) - {"type", "strength", "share"}):
            raise ConfigError(
                f"objective.mix.{unknown[0]} is no such key; choose of type, strength, share"
            )
        return cls(**{"type": None, **spec})


@dataclass(frozen=True, slots=True)
class Mixing:
    """With whom every sample of a micro batch is mixed, and how much it keeps of itself.

    Args:
        partner_B: Row of the partner [B], its own where a sample has none.
        kept_B: Share that a sample keeps of itself [B], 1 where it is not mixed.
        corner_B2: Top and left of the box that a partner's pixels fill, as shares of height and
            width [B, 2]; None where all pixels are mixed alike. Height and width of the box are
            ``sqrt(1 - kept_B)``, and it lies within the picture.
        pictures: Modalities that have pixels; of others the values are mixed, with the same share.
    """

    partner_B: Tensor
    kept_B: Tensor
    corner_B2: Tensor | None = None
    pictures: Collection[str] = ()

    def input(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the representation of a modality, mixed."""
        if self.corner_B2 is not None and modality in self.pictures:
            return self._pasted(x_BX)
        kept_BX = self.kept_B.to(x_BX.dtype).view(-1, *[1] * (x_BX.dim() - 1))
        return kept_BX * x_BX + (1 - kept_BX) * x_BX[self.partner_B]

    def labelled(
        self, logits_BC: Tensor, target_BC: Tensor, weight_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, targets and weights whose loss is that of the mixed samples.

        A sample is judged by its own target and its partner's, each with its share of the weight;
        where pixels have targets of their own, these are cut and pasted as the pixels are.

        Args:
            logits_BC: Logits of the mixed samples [B, C], or [B, C, H, W].
            target_BC: Targets of the samples as they were; also logits of another pass.
            weight_B: Weight of each sample as it was [B].
        """
        own_B, others_B = weight_B * self.kept_B, weight_B[self.partner_B] * (1 - self.kept_B)
        if self.corner_B2 is not None and target_BC.dim() > 2:
            return logits_BC, self._pasted(target_BC), own_B + others_B
        return (
            torch.cat([logits_BC, logits_BC]),
            torch.cat([target_BC, target_BC[self.partner_B]]),
            torch.cat([own_B, others_B]),
        )

    def label_weights(self, label_weight: Tensor | None) -> Tensor | None:
        """Return the weights of classes [B, C] or pixels [B, H, W] that go with ``labelled``."""
        if label_weight is None:
            return None
        if self.corner_B2 is not None and label_weight.dim() > 2:
            return self._pasted(label_weight)
        return torch.cat([label_weight, label_weight[self.partner_B]])

    def _pasted(self, x_BX: Tensor) -> Tensor:
        """Return arrays [B, ..., H, W] whose boxes show the partner."""
        height, width = x_BX.shape[-2:]
        assert self.corner_B2 is not None
        side_B = (1 - self.kept_B).sqrt()
        inside_BH = _within(self.corner_B2[:, 0], side_B, height)
        inside_BW = _within(self.corner_B2[:, 1], side_B, width)
        inside_BHW = inside_BH[:, :, None] & inside_BW[:, None, :]
        ones = [1] * (x_BX.dim() - 3)
        return torch.where(
            inside_BHW.view(len(x_BX), *ones, height, width), x_BX[self.partner_B], x_BX
        )


def draw_mixing(
    batch: Batch,
    present: Mapping[str, Tensor],
    settings: MixSettings,
    *,
    modalities: Sequence[str],
    pictures: Collection[str] = (),
) -> Mixing:
    """Draw partners and shares from (seed, epoch, sample_id).

    Samples that have the same modalities form rings, in random order; each has the next one of its
    ring as its partner, so that every sample is the partner of one. Those that count for nothing
    are nobody's. Who is in a ring depends on the micro batch.

    Args:
        batch: Micro batch.
        present: Per modality whether it is visible [B], bool.
        settings: How samples are mixed.
        modalities: The modalities that count as what a sample has.
        pictures: Those that have pixels.
    """
    has = [batch.weight_B > 0, *(present[name] for name in modalities)]
    partner_B = _next_in_ring(torch.stack(has, dim=1), batch_keys(batch, "mix/partner"))
    drawn_B4 = uniform(batch_keys(batch, "mix/share"), 4)
    alone_B = partner_B == torch.arange(len(partner_B), device=partner_B.device)
    kept_B = _symmetric_beta(drawn_B4[:, 0], settings.strength)
    kept_B = kept_B.masked_fill(alone_B | (drawn_B4[:, 1] >= settings.share), 1.0)
    if settings.type == MIXUP:
        return Mixing(partner_B, kept_B)
    room_B1 = 1 - (1 - kept_B).sqrt()[:, None]
    return Mixing(partner_B, kept_B, drawn_B4[:, 2:] * room_B1, pictures)


def _next_in_ring(has_BM: Tensor, key_B: Tensor) -> Tensor:
    """Return for every row the next one of those that have the same flags, in the order of keys."""
    bit_M = 2 ** torch.arange(has_BM.shape[1], device=key_B.device)
    ring_B = (has_BM * bit_M).sum(dim=1)
    order_B = torch.argsort(key_B)
    order_B = order_B[torch.argsort(ring_B[order_B], stable=True)]
    sorted_B = ring_B[order_B]
    following_B = torch.arange(1, len(order_B) + 1, device=key_B.device)
    is_last_B = following_B == torch.searchsorted(sorted_B, sorted_B, right=True)
    place_B = torch.where(is_last_B, torch.searchsorted(sorted_B, sorted_B), following_B)
    return torch.empty_like(order_B).scatter(0, order_B, order_B[place_B])


def _symmetric_beta(uniform_B: Tensor, strength: float) -> Tensor:
    """Return draws of Beta(strength, strength) of uniform ones, by its quantiles [B]."""
    quantile_Q = _beta_quantiles(strength).to(uniform_B.device)
    place_B = uniform_B * (_NUM_QUANTILES - 1)
    below_B = place_B.long().clamp(max=_NUM_QUANTILES - 2)
    low_B, high_B = quantile_Q[below_B], quantile_Q[below_B + 1]
    return torch.lerp(low_B, high_B, place_B - below_B)


@lru_cache(maxsize=8)
def _beta_quantiles(strength: float) -> Tensor:
    """Return equally spaced quantiles of Beta(strength, strength) [Q]."""
    level_Q = torch.linspace(0, 1, _NUM_QUANTILES, dtype=torch.float64).numpy()
    return torch.from_numpy(betaincinv(strength, strength, level_Q)).float()


def _within(start_B: Tensor, side_B: Tensor, num: int) -> Tensor:
    """Return which of some equal pixels have their middle in an interval [B, num]."""
    middle = (torch.arange(num, device=start_B.device) + 0.5) / num
    return (middle >= start_B[:, None]) & (middle < (start_B + side_B)[:, None])
