"""A training view of pictures and video: resized crop, mirror, colours, a part erased."""

# B samples, T stored frames, K drawn frames, H and W as stored, h and w of the view, C channels.

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mke_ray.data.views import drawn_frames
from mke_ray.errors import ConfigError
from mke_ray.randomness import uniform

_NUM_DRAWS = 16
_MOST = 255.0
_GREY = (0.299, 0.587, 0.114)
# From red, green, blue to brightness and two axes of colour, in which hue is an angle (NTSC).
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True, slots=True)
class PictureView:
    """One random part of a picture or clip, resized, mirrored, recoloured and partly erased.

    Everything is drawn from the sample's key; all frames of a clip are changed alike. Each change
    is off by default.

    Args:
        height: Height h of the view in pixels.
        width: Width w.
        num_frames: Frames drawn of a clip, one out of each equal part; None takes all.
        scale: Least and largest share of the stored area that the view shows.
        ratio: Least and largest aspect ratio of that part, as a multiple of the stored one.
        flip: Mirror left and right half of the time; not where a class depends on the side.
        brightness: Brightness changes by at most this share.
        contrast: The distance from the mean grey changes by at most this share.
        saturation: The distance of colours from their grey changes by at most this share.
        hue: Colours turn by at most this share of the circle, up to 0.5.
        erase: Chance that a rectangle is replaced by random pixels.
        erase_area: Least and largest share of the view that it takes.
        erase_ratio: Its least aspect ratio; the largest is the inverse.

    Raises:
        ConfigError: A number makes no sense.

    Source:
        Resized crops: Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6.
        Colours: Howard, Some Improvements on Deep Convolutional Neural Network Based Image
        Classification, 2013, section 2.2. Erasing: Zhong et al., Random Erasing Data Augmentation,
        AAAI 2020, algorithm 1.
    """

    height: int
    width: int
    num_frames: int | None = None
    scale: Sequence[float] = (1.0, 1.0)
    ratio: Sequence[float] = (1.0, 1.0)
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    erase: float = 0.0
    erase_area: Sequence[float] = (0.02, 0.33)
    erase_ratio: float = 0.3

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.height, self.width) < 1:
            raise ConfigError(f"height={self.height}, width={self.width}; give numbers above 0")
        for key in ("scale", "ratio", "erase_area"):
            pair = getattr(self, key)
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise ConfigError(f"{key}={list(pair)}; give the least and the largest, above 0")
        if self.scale[1] > 1 or self.erase_area[1] > 1 or not 0 < self.erase_ratio <= 1:
            raise ConfigError(
                f"scale={list(self.scale)}, erase_area={list(self.erase_area)}, "
                f"erase_ratio={self.erase_ratio}; give numbers up to 1"
            )
        for key, most in self._most_of_changes().items():
            if not 0 <= getattr(self, key) <= most:
                raise ConfigError(f"{key}={getattr(self, key)}; give a number from 0 to {most}")

    def __call__(self, x_BX: Tensor, key_B: Tensor) -> Tensor:
        """Return the view of stored arrays.

        Args:
            x_BX: Pictures uint8 [B, H, W, 3] or clips uint8 [B, T, H, W, 3].
            key_B: Keys [B]; the same key draws the same view.

        Returns:
            uint8 with h and w in the place of H and W, K in that of T.

        Raises:
            ConfigError: More frames are drawn than are stored.
        """
        if x_BX.dim() == 4:
            return self._view(x_BX[:, None], key_B)[:, 0]
        if self.num_frames is not None:
            x_BX = drawn_frames(x_BX, key_B + 1, self.num_frames)
        return self._view(x_BX, key_B)

    def _view(self, x_BTHWC: Tensor, key_B: Tensor) -> Tensor:
        """Return the view of clips uint8 [B, T, h, w, 3]."""
        draw_BR = uniform(key_B, _NUM_DRAWS)
        num, frames = x_BTHWC.shape[:2]
        x_BXHW = x_BTHWC.movedim(4, 2).flatten(1, 2).float()
        size = [num, 1, self.height, self.width]
        grid_BhW2 = functional.affine_grid(self._theta(draw_BR), size, align_corners=False)
        view_BXhw = functional.grid_sample(
            x_BXHW, grid_BhW2, mode="bilinear", padding_mode="border", align_corners=False
        )
        view_BTChw = view_BXhw.unflatten(1, (frames, 3))
        view_BTChw = self._recoloured(view_BTChw, 2.0 * draw_BR[:, 5:9] - 1.0)
        if self.erase:
            view_BTChw = self._erased(view_BTChw, draw_BR[:, 9:], key_B)
        return view_BTChw.movedim(2, 4).round().clamp(0, _MOST).to(torch.uint8)

    def _theta(self, draw_BR: Tensor) -> Tensor:
        """Return where the view is taken from, as affine maps [B, 2, 3]."""
        share_B = self.scale[0] + (self.scale[1] - self.scale[0]) * draw_BR[:, 0]
        ratio_B = _log_uniform(draw_BR[:, 1], self.ratio)
        tall_B = (share_B / ratio_B).sqrt().clamp(max=1.0)
        wide_B = (share_B * ratio_B).sqrt().clamp(max=1.0)
        is_mirrored_B = (draw_BR[:, 2] < 0.5) & self.flip
        theta_B23 = draw_BR.new_zeros(len(draw_BR), 2, 3)
        theta_B23[:, 0, 0] = torch.where(is_mirrored_B, -wide_B, wide_B)
        theta_B23[:, 1, 1] = tall_B
        theta_B23[:, 0, 2] = (2.0 * draw_BR[:, 3] - 1.0) * (1.0 - wide_B)
        theta_B23[:, 1, 2] = (2.0 * draw_BR[:, 4] - 1.0) * (1.0 - tall_B)
        return theta_B23

    def _recoloured(self, view_BTChw: Tensor, change_B4: Tensor) -> Tensor:
        """Return clips of other brightness, contrast, saturation and hue."""
        factor_B4 = change_B4[:, :, None, None, None, None]
        if self.brightness:
            view_BTChw = view_BTChw * (1.0 + self.brightness * factor_B4[:, 0])
        if self.contrast:
            mean_B = _grey(view_BTChw).mean(dim=(1, 2, 3, 4), keepdim=True)
            view_BTChw = mean_B + (view_BTChw - mean_B) * (1.0 + self.contrast * factor_B4[:, 1])
        if self.saturation:
            grey_BT1hw = _grey(view_BTChw)
            by_B = 1.0 + self.saturation * factor_B4[:, 2]
            view_BTChw = grey_BT1hw + (view_BTChw - grey_BT1hw) * by_B
        if self.hue:
            turn_BCC = _turns(2.0 * math.pi * self.hue * change_B4[:, 3])
            view_BTChw = torch.einsum("bdc,btchw->btdhw", turn_BCC, view_BTChw)
        return view_BTChw

    def _erased(self, view_BTChw: Tensor, draw_BR: Tensor, key_B: Tensor) -> Tensor:
        """Return clips of which some have a rectangle of random pixels."""
        least, largest = self.erase_area
        area_B = least + (largest - least) * draw_BR[:, 1]
        ratio_B = _log_uniform(draw_BR[:, 2], (self.erase_ratio, 1.0 / self.erase_ratio))
        tall_B = (area_B * ratio_B).sqrt().clamp(max=1.0)
        wide_B = (area_B / ratio_B).sqrt().clamp(max=1.0)
        in_rows_Bh = _within(self.height, draw_BR[:, 3] * (1.0 - tall_B), tall_B)
        in_columns_Bw = _within(self.width, draw_BR[:, 4] * (1.0 - wide_B), wide_B)
        is_chosen_B = draw_BR[:, 0] < self.erase
        is_inside_Bhw = in_rows_Bh[:, :, None] & in_columns_Bw[:, None, :]
        is_erased_Bhw = is_inside_Bhw & is_chosen_B[:, None, None]
        pixels_BX = uniform(key_B + 2, 3 * self.height * self.width) * _MOST
        pixels_BChw = pixels_BX.reshape(-1, 3, self.height, self.width)
        return torch.where(is_erased_Bhw[:, None, None], pixels_BChw[:, None], view_BTChw)

    def _most_of_changes(self) -> dict[str, float]:
        """Return the largest value of each change."""
        names = ("brightness", "contrast", "saturation", "erase")
        return {**dict.fromkeys(names, 1.0), "hue": 0.5}


def _log_uniform(draw_B: Tensor, bounds: Sequence[float]) -> Tensor:
    """Return numbers [B] between bounds whose logarithm is uniform."""
    low, high = (math.log(one) for one in bounds)
    return (low + (high - low) * draw_B).exp()


def _grey(view_BTChw: Tensor) -> Tensor:
    """Return the grey of clips [B, T, 1, h, w]."""
    weight_C = view_BTChw.new_tensor(_GREY)
    return (view_BTChw * weight_C[:, None, None]).sum(dim=2, keepdim=True)


def _turns(angle_B: Tensor) -> Tensor:
    """Return matrices [B, 3, 3] that turn the hue of red, green and blue by an angle."""
    to_yiq_CC = angle_B.new_tensor(_TO_YIQ)
    turn_BCC = torch.eye(3, device=angle_B.device).repeat(len(angle_B), 1, 1)
    turn_BCC[:, 1, 1] = turn_BCC[:, 2, 2] = angle_B.cos()
    turn_BCC[:, 1, 2] = -angle_B.sin()
    turn_BCC[:, 2, 1] = angle_B.sin()
    return torch.linalg.inv(to_yiq_CC) @ turn_BCC @ to_yiq_CC


def _within(size: int, start_B: Tensor, length_B: Tensor) -> Tensor:
    """Return which pixels of a side lie in a span of each sample, bool [B, size]."""
    place_N = (torch.arange(size, device=start_B.device) + 0.5) / size
    after_BN = place_N >= start_B[:, None]
    return after_BN & (place_N < (start_B + length_B)[:, None])
