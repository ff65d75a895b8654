"""Pyramid encoders: a picture or a depth map as maps of features at several scales."""

# B samples, H height, W width, K channels, h height and w width of a map.

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.normaliser import Normaliser
from mke_ray.schema import DepthSpec

# What an encoder can read: the channels that are stored of it.
NUM_CHANNELS = {"picture": 3, "metres": 1, "inverse": 1, "hha": 6}

_LARGEST_GROUP_COUNT = 8


@runtime_checkable
class DenseEncoder(Protocol):
    """What a dense student needs of an encoder, which is also a ``torch.nn.Module``.

    Attributes:
        modality: Name of the modality it reads.
        widths: Channels of its maps, the finest first.
        needs: What the stored array must hold, for example ``{"kind": "image"}``.
        mirrored: Channels of the array whose sign changes in a mirror.
        normaliser: Statistics of the representation, saved with the weights.
    """

    modality: str
    widths: tuple[int, ...]
    needs: dict[str, Any]
    mirrored: tuple[int, ...]
    normaliser: Normaliser

    def raw(self, x_BX: Tensor) -> Tensor:
        """Return the float representation [B, K, H, W] of a stored array, not normalised."""
        ...

    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the normalised representation, which is what noise is added to; no gradient."""
        ...

    def __call__(self, x_BX: Tensor) -> list[Tensor]:
        """Return maps [B, K, h, w]; the first is half as high and wide as the input, and so on."""
        ...


class PyramidEncoder(nn.Module):
    """Residual convolutions; each level halves height and width, whatever they are, rounded up.

    Statistics are by group of channels within a sample, so that no sample depends on the others
    of its batch.

    Args:
        modality: Name of the modality.
        reads: ``picture`` (uint8 or float [B, H, W, 3] from 0 to 255), or what a depth map holds:
            ``metres``, ``inverse`` or ``hha`` (float32 [B, H, W, K]).
        channels: Channels of each level, the finest first.
        normalise: Whether channels are standardised by statistics of the training set.
    """

    def __init__(
        self,
        modality: str,
        *,
        reads: str = "picture",
        channels: Sequence[int] = (32, 64, 96),
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if reads not in NUM_CHANNELS:
            raise ConfigError(
                f"student.encoders.{modality}.reads is {reads!r}; choose one of {[*NUM_CHANNELS]}"
            )
        if not channels or min(channels) < 1:
            raise ConfigError(
                f"student.encoders.{modality}.channels is {list(channels)}; give positive numbers"
            )
        self.modality = modality
        self.widths = tuple(channels)
        self.needs: dict[str, Any] = (
            {"kind": "image"} if reads == "picture" else {"kind": "depth", "channels": reads}
        )
        self.mirrored = () if reads == "picture" else DepthSpec(1, 1, reads).mirrored
        self._scale = 1.0 / 255.0 if reads == "picture" else 1.0
        self.normaliser = Normaliser(NUM_CHANNELS[reads], axis=1, enabled=normalise)
        self.levels = nn.ModuleList(
            nn.Sequential(convolution(width_in, width, stride=2), Residual(width))
            for width_in, width in pairwise([NUM_CHANNELS[reads], *channels])
        )

    def raw(self, x_BHWK: Tensor) -> Tensor:
        """Return [B, K, H, W]; pictures from 0 to 1, depth as it is stored."""
        return x_BHWK.permute(0, 3, 1, 2).to(torch.float32) * self._scale

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the array standardised by channel."""
        return self.normaliser(self.raw(x_BX))

    def forward(self, x_BKHW: Tensor) -> list[Tensor]:
        """Return the maps [B, K, h, w] of every level, the finest first."""
        map_BKhw = x_BKHW.contiguous(memory_format=torch.channels_last)
        maps = []
        for level in self.levels:
            map_BKhw = level(map_BKhw)
            maps.append(map_BKhw)
        return maps


class Residual(nn.Module):
    """Two convolutions beside the identity.

    Args:
        width: Channels in and out.

    Source:
        He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), group_norm(width)
        )

    def forward(self, x_BKhw: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return torch.relu(x_BKhw + self.second(self.first(x_BKhw)))


def convolution(width_in: int, width: int, *, stride: int = 1) -> nn.Sequential:
    """Return a convolution over 3 x 3 pixels with normalisation and ReLU.

    Args:
        width_in: Channels in.
        width: Channels out.
        stride: 2 halves height and width, rounded up.
    """
    return nn.Sequential(
        nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False),
        group_norm(width),
        nn.ReLU(),
    )


def group_norm(width: int) -> nn.GroupNorm:
    """Return the normalisation of a map, over groups of channels of one sample.

    Source:
        Wu, He, Group Normalization, ECCV 2018.
    """
    most = max(1, min(_LARGEST_GROUP_COUNT, width // 2))  # a group of one value has no spread
    groups = next(n for n in range(most, 0, -1) if width % n == 0)
    return nn.GroupNorm(groups, width)
