"""What a network of transformers wants of a picture, computed for a batch on the device."""

# B pictures, H height, W width.

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError

OWN = "own"
DEVICE = "device"
PREPARATIONS = (DEVICE, OWN)

_MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # by the numbers of Pillow
_WARPED_FROM = 384  # ConvNeXt crops below that size, and warps from it on
_MOST_LEVELS = 2.01  # of 255: one in each pass; Pillow's weights are fixed-point numbers


class PictureInput:
    """Pictures as stored to the input of a network, as its own image processor makes it.

    Resizing, centre crop, rescaling and normalisation follow the settings of the processor and run
    on the device for the whole batch. The first picture is given to the processor too, and what
    it makes of it must be the same but for rounding.

    Args:
        processor: An image processor of transformers.
        preparation: ``device``, or ``own`` for the processor itself, on the CPU.
        is_clip: Whether the processor takes clips, of which every picture here is a frame.

    Raises:
        ConfigError: The preparation is unknown.
    """

    def __init__(self, processor: Any, preparation: str = DEVICE, *, is_clip: bool = False) -> None:
        if preparation not in PREPARATIONS:
            raise ConfigError(f"preparation={preparation}; choose one of {list(PREPARATIONS)}")
        self._processor = processor
        self._settings: Mapping[str, Any] = processor.to_dict()
        self._preparation = preparation
        self._is_clip = is_clip
        self._is_proven = False

    def __call__(self, x_BHW3: Tensor) -> Tensor:
        """Return float32 [B, 3, h, w] of uint8 pictures [B, H, W, 3], on their device.

        Raises:
            ConfigError: The processor does something else than its settings say.
        """
        if self._preparation == OWN:
            return self.own(x_BHW3)
        found = self._prepared(x_BHW3)
        if not self._is_proven and len(x_BHW3):
            self._prove(found[:1], x_BHW3[:1])
        return found

    def own(self, x_BHW3: Tensor) -> Tensor:
        """Return what the processor itself makes of the pictures."""
        pictures = list(x_BHW3.cpu().numpy())
        made = self._processor(
            [pictures] if self._is_clip else pictures,
            return_tensors="np",
            input_data_format="channels_last",
        )["pixel_values"]
        made_X = torch.from_numpy(np.asarray(made, np.float32))
        return made_X.flatten(0, -4).to(x_BHW3.device)

    def _prepared(self, x_BHW3: Tensor) -> Tensor:
        """Return the pictures as the settings of the processor say."""
        settings = self._settings
        x_B3HW = x_BHW3.permute(0, 3, 1, 2).to(torch.float32)
        if settings.get("do_resize"):
            x_B3HW = self._resized(x_B3HW)
        if settings.get("do_center_crop"):
            crop = settings["crop_size"]
            x_B3HW = _centre(x_B3HW, crop["height"], crop["width"])
        if settings.get("do_rescale"):
            x_B3HW = x_B3HW * settings["rescale_factor"]
        if settings.get("do_normalize"):
            mean_3 = x_B3HW.new_tensor(settings["image_mean"]).view(3, 1, 1)
            std_3 = x_B3HW.new_tensor(settings["image_std"]).view(3, 1, 1)
            x_B3HW = (x_B3HW - mean_3) / std_3
        return x_B3HW.contiguous()

    def _resized(self, x_B3HW: Tensor) -> Tensor:
        """Return the pictures resized, and of a ConvNeXt cropped."""
        settings, size = self._settings, self._settings["size"]
        height, width = x_B3HW.shape[2:]
        if settings.get("crop_pct") is not None:
            edge = size["shortest_edge"]
            if edge >= _WARPED_FROM:
                return self._to(x_B3HW, edge, edge)
            shortest = int(edge / settings["crop_pct"])
            return _centre(self._to(x_B3HW, *_by_shortest(height, width, shortest)), edge, edge)
        wanted = _size_of(size, height, width)
        if divisor := settings.get("size_divisor"):
            wanted = tuple(-(-one // divisor) * divisor for one in wanted)
        return self._to(x_B3HW, *wanted)

    def _to(self, x_B3HW: Tensor, height: int, width: int) -> Tensor:
        """Return the pictures at a size, in two passes of whole levels, as Pillow has them."""
        resample = int(self._settings.get("resample", 2))
        if resample not in _MODES:
            raise ConfigError(
                f"the image processor resizes by Pillow's filter {resample}, which torch has not; "
                f"set preparation={OWN}"
            )
        mode = _MODES[resample]
        for size in ((x_B3HW.shape[2], width), (height, width)):
            if x_B3HW.shape[2:] != size:
                x_B3HW = nn.functional.interpolate(
                    x_B3HW, size, mode=mode, antialias=mode != "nearest-exact"
                )
                x_B3HW = x_B3HW.add(0.5).floor().clamp(0.0, 255.0)
        return x_B3HW

    def _prove(self, found: Tensor, picture: Tensor) -> None:
        """Compare what was made of a picture with what the processor makes of it."""
        wanted = self.own(picture)
        levels = self._level()
        if found.shape != wanted.shape or bool((found - wanted).abs().max() > levels):
            raise ConfigError(
                f"{type(self._processor).__name__} makes {tuple(wanted.shape)} of a picture, and "
                f"its settings say {tuple(found.shape)} with other values; set preparation={OWN}, "
                "which uses the processor itself"
            )
        self._is_proven = True

    def _level(self) -> float:
        """Return by how much an input may differ for rounding."""
        settings = self._settings
        scale = settings["rescale_factor"] if settings.get("do_rescale") else 1.0
        std = min(settings["image_std"]) if settings.get("do_normalize") else 1.0
        return _MOST_LEVELS * scale / std


def _size_of(size: Mapping[str, int], height: int, width: int) -> tuple[int, int]:
    """Return height and width that a setting ``size`` makes of a picture."""
    if "shortest_edge" in size and size.get("longest_edge"):
        return _by_edges(height, width, size["shortest_edge"], size["longest_edge"])
    if "shortest_edge" in size:
        return _by_shortest(height, width, size["shortest_edge"])
    if "height" in size and "width" in size:
        return size["height"], size["width"]
    raise ConfigError(f"the image processor has size={dict(size)}; set preparation={OWN}")


def _by_shortest(height: int, width: int, shortest: int) -> tuple[int, int]:
    """Return the size whose shorter edge is given, cut to whole pixels."""
    longest = int(shortest * max(height, width) / min(height, width))
    return (longest, shortest) if width <= height else (shortest, longest)


def _by_edges(height: int, width: int, shortest: int, longest: int) -> tuple[int, int]:
    """Return the size whose shorter edge is given, but for the longer one being too long."""
    exact = float(shortest)
    if max(height, width) / min(height, width) * shortest > longest:
        exact = longest * min(height, width) / max(height, width)
        shortest = round(exact)
    if min(height, width) == shortest:
        return height, width
    long = int(exact * max(height, width) / min(height, width))
    return (long, shortest) if width < height else (shortest, long)


def _centre(x_B3HW: Tensor, height: int, width: int) -> Tensor:
    """Return the middle of pictures, with zeros around those that are smaller."""
    pad_height, pad_width = max(height - x_B3HW.shape[2], 0), max(width - x_B3HW.shape[3], 0)
    if pad_height or pad_width:
        top, left = -(-pad_height // 2), -(-pad_width // 2)
        sides = (left, pad_width - left, top, pad_height - top)
        x_B3HW = nn.functional.pad(x_B3HW, sides)
    top, left = (x_B3HW.shape[2] - height) // 2, (x_B3HW.shape[3] - width) // 2
    return x_B3HW[:, :, top : top + height, left : left + width]
