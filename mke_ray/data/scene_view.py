"""The training view of a scene: picture, depth and class map are cropped and mirrored alike."""

# B samples, h height and w width of the view, H and W as stored, K channels, C classes.

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mke_ray.errors import ConfigError
from mke_ray.randomness import gaussian, uniform
from mke_ray.schema import IGNORE
from mke_ray.seeds import mix_integers

KINDS = ("picture", "depth", "mask")


@dataclass(frozen=True, slots=True)
class SceneView:
    """A random crop of a scene, mirrored half of the time, at the size of the view.

    Views of one ``stream`` draw the same crop for a sample, so that a pixel of one lies on the same
    place of the scene as that of another. Colours, noise, what is cut out and what is dropped are
    drawn by every modality for itself. Outside of what is stored is 0, or 255 in a class map.

    Args:
        height: Height h of the view.
        width: Width w.
        of: ``picture`` (uint8, three colours), ``depth`` (float, K channels) or ``mask`` (class
            maps, taken from the nearest pixel; or probabilities of all classes).
        flip: Mirror left and right at random.
        scale: Least and largest share of the stored height and width that the view shows; above 1
            there is a rim of nothing.
        colour: Brightness, contrast and colours of a picture change by at most this share.
        noise: Standard deviation of noise on every pixel; of a picture, in units of 128 steps.
        cut_out: Chance that a rectangle, a quarter to half as high and wide, is 0.
        drop_share: Chance that all of it is 0.
        mirrored: Channels of depth whose sign changes in a mirror (``DepthSpec.mirrored``).
        stream: What the crop is drawn from.

    Raises:
        ConfigError: A kind is unknown, or a number makes no sense.
    """

    height: int
    width: int
    of: str = "picture"
    flip: bool = False
    scale: Sequence[float] = (1.0, 1.0)
    colour: float = 0.0
    noise: float = 0.0
    cut_out: float = 0.0
    drop_share: float = 0.0
    mirrored: Sequence[int] = ()
    stream: str = "scene"

    def __post_init__(self) -> None:
        """Check the words and the numbers."""
        if self.of not in KINDS:
            raise ConfigError(f"of={self.of!r}; choose one of {list(KINDS)}")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"scale={list(self.scale)}; give the least and the largest, above 0")
        changes = (self.colour, self.noise, self.cut_out, self.drop_share)
        if self.of == "mask" and any(changes):
            raise ConfigError("of=mask has no colour, noise, cut_out or drop_share; leave them out")
        if min(changes) < 0 or max(self.cut_out, self.drop_share) > 1:
            raise ConfigError(
                f"colour, noise, cut_out, drop_share are {changes}; give numbers from 0, the last "
                "two up to 1"
            )

    def __call__(self, x_BX: Tensor, key_B: Tensor, own_B: Tensor | None = None) -> Tensor:
        """Return the view of stored arrays.

        Args:
            x_BX: Pictures uint8 [B, H, W, 3], depth [B, H, W, K], class maps uint8 [B, H, W] or
                probabilities [B, C, H, W].
            key_B: Keys of the stream [B], int64.
            own_B: Keys of the modality [B]; by default they follow from those of the stream.

        Returns:
            The same type, with h and w in the place of H and W.
        """
        grid_BhW2, is_mirrored_B = self._grid(key_B)
        if self.of == "mask":
            return _sampled_mask(x_BX, grid_BhW2)
        x_BKHW = x_BX.movedim(3, 1).float()
        view_BKHW = functional.grid_sample(
            x_BKHW, grid_BhW2, mode="bilinear", padding_mode="zeros", align_corners=False
        )
        if self.mirrored:
            sign_BK = torch.ones(view_BKHW.shape[:2], device=x_BX.device)
            sign_BK[:, list(self.mirrored)] -= 2.0 * is_mirrored_B[:, None]
            view_BKHW = view_BKHW * sign_BK[:, :, None, None]
        own_B = key_B + mix_integers(zlib.crc32(self.of.encode())) if own_B is None else own_B
        view_BHWK = self._changed(view_BKHW, own_B).movedim(1, 3)
        if self.of == "picture":
            return view_BHWK.round().clamp(0, 255).to(torch.uint8)
        return view_BHWK.to(x_BX.dtype)

    def _grid(self, key_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return where each pixel of the view is taken from, and which views are mirrored [B]."""
        draw_B4 = uniform(key_B, 4)
        low, high = self.scale
        scale_B = low + (high - low) * draw_B4[:, 0]
        # With the edges of what is stored at -1 and 1, the middle of the view may lie so far off.
        reach_B = (1.0 - scale_B).abs()
        shift_B2 = (2.0 * draw_B4[:, 1:3] - 1.0) * reach_B[:, None]
        is_mirrored_B = (draw_B4[:, 3] < 0.5) & self.flip
        theta_B23 = torch.zeros(len(key_B), 2, 3, device=key_B.device)
        theta_B23[:, 0, 0] = torch.where(is_mirrored_B, -scale_B, scale_B)
        theta_B23[:, 1, 1] = scale_B
        theta_B23[:, :, 2] = shift_B2
        size = [len(key_B), 1, self.height, self.width]
        return functional.affine_grid(theta_B23, size, align_corners=False), is_mirrored_B

    def _changed(self, view_BKHW: Tensor, own_B: Tensor) -> Tensor:
        """Return views with other colours, with noise, and with parts that are 0."""
        draw_BR = uniform(own_B, 12)
        if self.colour:
            view_BKHW = _recoloured(view_BKHW, (2.0 * draw_BR[:, :5] - 1.0) * self.colour)
        if self.noise:
            noise_BX = gaussian(own_B + 1, view_BKHW[0].numel())
            unit = 128.0 if self.of == "picture" else 1.0
            view_BKHW = view_BKHW + self.noise * unit * noise_BX.reshape(view_BKHW.shape)
        is_kept_BHW = self._kept(draw_BR[:, 5:])
        return view_BKHW * is_kept_BHW[:, None]

    def _kept(self, draw_B7: Tensor) -> Tensor:
        """Return which pixels are kept, bool [B, h, w]."""
        is_cut_B = draw_B7[:, 0] < self.cut_out
        size_B2 = 0.25 + 0.25 * draw_B7[:, 1:3]
        start_B2 = draw_B7[:, 3:5] * (1.0 - size_B2)
        row_H = (torch.arange(self.height, device=draw_B7.device) + 0.5) / self.height
        column_W = (torch.arange(self.width, device=draw_B7.device) + 0.5) / self.width
        in_rows_BH = _within(row_H, start_B2[:, 0], size_B2[:, 0])
        in_columns_BW = _within(column_W, start_B2[:, 1], size_B2[:, 1])
        is_inside_BHW = in_rows_BH[:, :, None] & in_columns_BW[:, None, :]
        is_dropped_B = draw_B7[:, 5] < self.drop_share
        return ~((is_inside_BHW & is_cut_B[:, None, None]) | is_dropped_B[:, None, None])


def _sampled_mask(mask_BX: Tensor, grid_BHW2: Tensor) -> Tensor:
    """Return class maps, or probabilities, by the nearest pixel."""
    if mask_BX.dim() == 4:
        return functional.grid_sample(
            mask_BX, grid_BHW2, mode="nearest", padding_mode="zeros", align_corners=False
        )
    shifted_B1HW = (mask_BX.float() - IGNORE)[:, None]  # outside is 0, which then means 255
    view_B1HW = functional.grid_sample(
        shifted_B1HW, grid_BHW2, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return (view_B1HW[:, 0] + IGNORE).round().to(torch.uint8)


def _recoloured(view_BKHW: Tensor, change_B5: Tensor) -> Tensor:
    """Return pictures of other brightness, contrast and balance of colours."""
    mean_B1 = view_BKHW.mean(dim=(1, 2, 3))[:, None, None, None]
    contrast_B = (1.0 + change_B5[:, 1])[:, None, None, None]
    balance_B3 = 1.0 + change_B5[:, :1] + 0.5 * change_B5[:, 2:]
    return ((view_BKHW - mean_B1) * contrast_B + mean_B1) * balance_B3[:, :, None, None]


def _within(place_N: Tensor, start_B: Tensor, size_B: Tensor) -> Tensor:
    """Return which places lie in a span of each sample, bool [B, N]."""
    after_BN = place_N >= start_B[:, None]
    return after_BN & (place_N < (start_B + size_B)[:, None])
