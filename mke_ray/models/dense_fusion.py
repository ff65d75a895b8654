"""Fusion of maps: at every scale, maps of each modality to one map, for each sample by itself."""

# B samples, M modalities, K channels, h height and w width of a map, N heads.

from collections.abc import Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError

Widths = Mapping[str, Sequence[int]]


@runtime_checkable
class DenseFusion(Protocol):
    """What a dense student needs of a fusion, which is also a ``torch.nn.Module``.

    A row that lacks a modality must not depend on that modality's maps, whatever they hold.

    Attributes:
        widths: Channels of the fused maps, the finest first.
    """

    widths: tuple[int, ...]

    def __call__(self, maps: dict[str, list[Tensor]], present: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused map [B, K, h, w] of every scale, the finest first.

        Args:
            maps: Per modality the map [B, K_m, h, w] of every scale.
            present: Per modality whether the sample has it [B], bool.
        """
        ...


class AddFusion(nn.Module):
    """The mean of the modalities that are there; with one modality, its own maps.

    Args:
        widths_in: Channels of the maps of each modality; narrower ones are widened.
    """

    def __init__(self, widths_in: Widths) -> None:
        super().__init__()
        self.widths = _fused_widths(widths_in)
        self.widen = _Widened(widths_in, self.widths)

    def forward(self, maps: dict[str, list[Tensor]], present: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused maps."""
        return [_mean(stacked, has_BM) for stacked, has_BM in self.widen.scales(maps, present)]


class GatedFusion(nn.Module):
    """A weighted mean whose weights depend on the pixel; missing modalities weigh 0.

    It begins as the mean: the layers that weigh start at zero.

    Args:
        widths_in: Channels of the maps of each modality; narrower ones are widened.

    Source:
        After Arevalo et al., Gated Multimodal Units for Information Fusion, ICLR workshop 2017.
    """

    def __init__(self, widths_in: Widths) -> None:
        super().__init__()
        self.widths = _fused_widths(widths_in)
        self.widen = _Widened(widths_in, self.widths)
        num = len(widths_in)
        self.gates = nn.ModuleList(_zeroed(nn.Conv2d(num * one, num, 1)) for one in self.widths)

    def forward(self, maps: dict[str, list[Tensor]], present: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused maps."""
        fused = []
        for gate, (value_BMKhw, has_BM) in zip(
            self.gates, self.widen.scales(maps, present), strict=True
        ):
            weight_BMhw = _softmax(gate(value_BMKhw.flatten(1, 2)), has_BM[:, :, None, None])
            fused.append((weight_BMhw[:, :, None] * value_BMKhw).sum(dim=1))
        return fused


class AttentionFusion(nn.Module):
    """Attention over the modalities at every pixel, beside their mean, with which it begins.

    Args:
        widths_in: Channels of the maps of each modality; narrower ones are widened.
        num_heads: Attention heads; they divide the channels of every scale among them.

    Source:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017, with pixels in the place of the
        batch and modalities in that of the words.
    """

    def __init__(self, widths_in: Widths, *, num_heads: int = 4) -> None:
        super().__init__()
        self.widths = _fused_widths(widths_in)
        if odd := [one for one in self.widths if one % num_heads]:
            raise ConfigError(
                f"student.fusion.num_heads={num_heads} does not divide the channels {odd}; "
                "choose a divisor of all of student.encoders.*.channels"
            )
        self.num_heads = num_heads
        self.widen = _Widened(widths_in, self.widths)
        self.query = nn.ModuleList(nn.Conv2d(one, one, 1) for one in self.widths)
        self.key_value = nn.ModuleList(nn.Conv2d(one, 2 * one, 1) for one in self.widths)
        self.join = nn.ModuleList(_zeroed(nn.Conv2d(one, one, 1)) for one in self.widths)

    def forward(self, maps: dict[str, list[Tensor]], present: dict[str, Tensor]) -> list[Tensor]:
        """Return the fused maps."""
        return [
            self._attended(scale, value_BMKhw, has_BM)
            for scale, (value_BMKhw, has_BM) in enumerate(self.widen.scales(maps, present))
        ]

    def _attended(self, scale: int, value_BMKhw: Tensor, has_BM: Tensor) -> Tensor:
        """Return the fused map of one scale."""
        num_B, num_M, num_K, height, width = value_BMKhw.shape
        heads = (self.num_heads, num_K // self.num_heads, height, width)
        mean_BKhw = _mean(value_BMKhw, has_BM)
        query = self.query[scale](mean_BKhw).reshape(num_B, 1, *heads)
        both = self.key_value[scale](value_BMKhw.flatten(0, 1))
        key, value = both.reshape(num_B, num_M, 2, *heads).unbind(dim=2)
        score_BMNhw = (query * key).sum(dim=3) * heads[1] ** -0.5
        weight_BMNhw = _softmax(score_BMNhw, has_BM[:, :, None, None, None])
        attended = (weight_BMNhw[:, :, :, None] * value).sum(dim=1)
        return mean_BKhw + self.join[scale](attended.reshape(mean_BKhw.shape))


class _Widened(nn.Module):
    """Brings the maps of a scale to one width, where they have another, and stacks them."""

    def __init__(self, widths_in: Widths, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    nn.Identity() if own == fused else nn.Conv2d(own, fused, 1)
                    for own, fused in zip(widths_in[name], widths, strict=True)
                )
                for name in sorted(widths_in)
            }
        )

    def scales(
        self, maps: dict[str, list[Tensor]], present: dict[str, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return per scale the maps [B, M, K, h, w], 0 where missing, and what is there [B, M]."""
        names = list(self.layers)
        has_BM = torch.stack([present[name] for name in names], dim=1)
        num_scales = len(maps[names[0]])
        return [(self._stacked(maps, present, scale), has_BM) for scale in range(num_scales)]

    def _stacked(
        self, maps: dict[str, list[Tensor]], present: dict[str, Tensor], scale: int
    ) -> Tensor:
        """Return the maps of one scale [B, M, K, h, w]."""
        values = []
        for name, layers in self.layers.items():
            map_BKhw = cast(nn.ModuleList, layers)[scale](maps[name][scale])
            values.append(map_BKhw.masked_fill(~present[name][:, None, None, None], 0.0))
        return torch.stack(values, dim=1)


def _fused_widths(widths_in: Widths) -> tuple[int, ...]:
    """Return the channels of the fused maps: those of the widest modality at every scale.

    Raises:
        ConfigError: The modalities have different numbers of scales.
    """
    numbers = {name: len(widths) for name, widths in widths_in.items()}
    if len(set(numbers.values())) != 1:
        raise ConfigError(
            f"student.encoders have different numbers of levels, {numbers}; give all of them as "
            "many channels"
        )
    return tuple(max(of_scale) for of_scale in zip(*widths_in.values(), strict=True))


def _mean(value_BMKhw: Tensor, has_BM: Tensor) -> Tensor:
    """Return the mean of what is there [B, K, h, w]; 0 where nothing is."""
    num_B = has_BM.sum(dim=1).clamp(min=1).to(value_BMKhw.dtype)
    return value_BMKhw.sum(dim=1) / num_B[:, None, None, None]


def _softmax(score_BMX: Tensor, has_BMX: Tensor) -> Tensor:
    """Return weights over the modalities that are there."""
    lowest = torch.finfo(score_BMX.dtype).min  # not -inf: a row may have no modality at all
    return torch.softmax(score_BMX.masked_fill(~has_BMX, lowest), dim=1).to(score_BMX.dtype)


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a layer that begins as zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
