"""Training views of stored arrays: random frames and crops drawn from each sample's key."""

# B samples, T stored frames, K drawn frames, H height, W width, N sound samples, X any.

from typing import Protocol

import torch
from torch import Tensor

from mke_ray.errors import ConfigError
from mke_ray.randomness import uniform


class View(Protocol):
    """What training sees of one modality of a batch."""

    def __call__(self, x_BX: Tensor, key_B: Tensor) -> Tensor:
        """Return the view of stored arrays [B, ...].

        Args:
            x_BX: Arrays as they are stored.
            key_B: Keys [B] of ``randomness.keys_for``; the same key draws the same view.
        """
        ...


class SharedView(Protocol):
    """A view that moves as those of other modalities do.

    Attributes:
        stream: Name of what it shares with them.
    """

    stream: str

    def __call__(self, x_BX: Tensor, key_B: Tensor, own_B: Tensor) -> Tensor:
        """Return the view of stored arrays [B, ...].

        Args:
            x_BX: Arrays as they are stored.
            key_B: Keys [B] that all views of the stream get.
            own_B: Keys [B] of the modality alone.
        """
        ...


class IdentityView:
    """The stored arrays themselves."""

    def __call__(self, x_BX: Tensor, key_B: Tensor) -> Tensor:
        """Return the batch unchanged."""
        return x_BX


class VideoView:
    """Random frames in order, one out of each equal part of the clip, in one random crop.

    Args:
        num_frames: Frames drawn K.
        height: Height of the crop in pixels.
        width: Width of the crop in pixels.
    """

    def __init__(self, num_frames: int, height: int, width: int) -> None:
        self.num_frames = num_frames
        self.height = height
        self.width = width

    def __call__(self, x_BX: Tensor, key_B: Tensor) -> Tensor:
        """Return uint8 [B, K, height, width, 3] of stored video [B, T, H, W, 3].

        Raises:
            ConfigError: The view is larger than what is stored.
        """
        num_stored, height, width = x_BX.shape[1:4]
        _check_fits("num_frames", self.num_frames, num_stored)
        _check_fits("height", self.height, height)
        _check_fits("width", self.width, width)
        draw_BR = uniform(key_B, 2 + self.num_frames)
        row_BH = _window(draw_BR[:, 0], self.height, height)
        column_BW = _window(draw_BR[:, 1], self.width, width)
        frame_BK = _one_per_part(draw_BR[:, 2:], num_stored)
        batch_B = torch.arange(len(x_BX), device=x_BX.device)
        return x_BX[
            batch_B[:, None, None, None],
            frame_BK[:, :, None, None],
            row_BH[:, None, :, None],
            column_BW[:, None, None, :],
        ]


class ImageView:
    """One random crop of a picture, mirrored half of the time where that is wanted.

    Args:
        height: Height of the crop in pixels.
        width: Width of the crop in pixels.
        flip: Mirror left and right at random; not where a class depends on the side.
    """

    def __init__(self, height: int, width: int, *, flip: bool = False) -> None:
        self.height = height
        self.width = width
        self.flip = flip

    def __call__(self, x_BX: Tensor, key_B: Tensor) -> Tensor:
        """Return uint8 [B, height, width, 3] of stored pictures [B, H, W, 3].

        Raises:
            ConfigError: The view is larger than what is stored.
        """
        height, width = x_BX.shape[1:3]
        _check_fits("height", self.height, height)
        _check_fits("width", self.width, width)
        draw_B3 = uniform(key_B, 3)
        row_BH = _window(draw_B3[:, 0], self.height, height)
        column_BW = _window(draw_B3[:, 1], self.width, width)
        if self.flip:
            is_mirrored_B1 = draw_B3[:, 2:] < 0.5
            column_BW = torch.where(is_mirrored_B1, column_BW.flip(1), column_BW)
        batch_B = torch.arange(len(x_BX), device=x_BX.device)
        return x_BX[batch_B[:, None, None], row_BH[:, :, None], column_BW[:, None, :]]


class AudioView:
    """One random crop of the sound.

    Args:
        num_samples: Length of the crop in sound samples.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def __call__(self, x_BX: Tensor, key_B: Tensor) -> Tensor:
        """Return float32 [B, num_samples] of stored sound [B, N].

        Raises:
            ConfigError: The view is longer than what is stored.
        """
        _check_fits("num_samples", self.num_samples, x_BX.shape[1])
        draw_B = uniform(key_B, 1)[:, 0]
        return x_BX.gather(1, _window(draw_B, self.num_samples, x_BX.shape[1]))


def drawn_frames(x_BTX: Tensor, key_B: Tensor, num_frames: int) -> Tensor:
    """Return frames [B, K, ...] of clips [B, T, ...] in order, one out of each equal part.

    Args:
        x_BTX: Clips as they are stored.
        key_B: Keys [B].
        num_frames: Frames drawn K.

    Raises:
        ConfigError: More frames are drawn than are stored.
    """
    _check_fits("num_frames", num_frames, x_BTX.shape[1])
    frame_BK = _one_per_part(uniform(key_B, num_frames), x_BTX.shape[1])
    return x_BTX[torch.arange(len(x_BTX), device=x_BTX.device)[:, None], frame_BK]


def _window(draw_B: Tensor, size: int, available: int) -> Tensor:
    """Return the indices [B, size] of a window whose place the draw decides."""
    start_B = (draw_B * (available - size + 1)).to(torch.int64)
    return start_B[:, None] + torch.arange(size, device=draw_B.device)


def _one_per_part(draw_BK: Tensor, num_stored: int) -> Tensor:
    """Return ascending frame indices [B, K], each drawn from its own part of the clip."""
    num_parts = draw_BK.shape[1]
    part_K = torch.arange(num_parts, device=draw_BK.device)
    begin_K = part_K * num_stored // num_parts
    length_K = (part_K + 1) * num_stored // num_parts - begin_K
    return begin_K + (draw_BK * length_K).to(torch.int64)


def _check_fits(key: str, wanted: int, stored: int) -> None:
    if not 1 <= wanted <= stored:
        raise ConfigError(
            f"views: {key}={wanted} must be between 1 and the {stored} that are stored; "
            "change it, or store more (decode)"
        )
