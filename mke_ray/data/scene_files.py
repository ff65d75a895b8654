"""From picture files of distances and of class ids to the arrays of a specification."""

# H height, W width, P pixels of a file.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mke_ray.data.depth_channels import DEFAULT_VIEW_DEG, depth_channels
from mke_ray.data.pictures import opened
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import IGNORE, DepthSpec, LabelSpace, MaskSpec

_GREY = ("L", "P", "1", "I", "F")
# A pixel of the shrunk map is known where at least this share of what it covers is.
_LEAST_KNOWN = 0.5


@dataclass(frozen=True, slots=True)
class DepthFiles:
    """How picture files hold distances.

    Args:
        metres_per_step: Metres that a pixel value of 1 stands for; 0 is unknown.
        view_deg: Horizontal angle of view of the camera in degrees.
    """

    metres_per_step: float = 0.001
    view_deg: float = DEFAULT_VIEW_DEG

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.metres_per_step > 0:
            raise ConfigError(f"source.depth.metres_per_step={self.metres_per_step}; give metres")
        if not 0 < self.view_deg < 180:
            raise ConfigError(f"source.depth.view_deg={self.view_deg}; give degrees, 0 to 180")

    def read(self, content: bytes, spec: DepthSpec) -> np.ndarray:
        """Return the channels of a file of distances, float32 [H, W, K].

        Raises:
            MediaError: It cannot be decoded, or is in colour.
        """
        with opened(content) as image:
            return self.of_metres(_grey(image) * self.metres_per_step, spec)

    def of_metres(self, metres_HW: np.ndarray, spec: DepthSpec) -> np.ndarray:
        """Return the channels of a map of distances in metres, 0 where unknown, float32 [H, W, K].

        A map that is shrunk has the mean inverse distance of what each pixel covers and is known,
        which keeps planes planes.
        """
        known = Image.fromarray((metres_HW > 0).astype(np.float32))
        inverse = Image.fromarray(_inverse(metres_HW).astype(np.float32))
        size = (spec.width, spec.height)
        share_HW = np.asarray(known.resize(size, Image.Resampling.BILINEAR))
        sum_HW = np.asarray(inverse.resize(size, Image.Resampling.BILINEAR))
        inverse_HW = np.where(share_HW >= _LEAST_KNOWN, sum_HW / np.maximum(share_HW, 1e-6), 0.0)
        return depth_channels(_inverse(inverse_HW), spec.channels, view_deg=self.view_deg)


@dataclass(frozen=True, slots=True)
class MaskFiles:
    """How picture files hold true classes.

    Args:
        class_P: Class of each of the 256 pixel values, ``IGNORE`` for none, -1 for one that may
            not occur, int16 [256].
    """

    class_P: np.ndarray

    @classmethod
    def of(
        cls, label_space: LabelSpace, mapping: Sequence[int] | Mapping[Any, int] | None
    ) -> "MaskFiles":
        """Return how files hold classes.

        Args:
            label_space: The classes.
            mapping: Class of each pixel value, 255 for none: a list by pixel value, or a mapping;
                None where pixel values are class indices. 255 counts for nothing either way.

        Raises:
            ConfigError: The mapping names a class that there is not, or no pixel value.
        """
        num = label_space.num_classes
        if mapping is None:
            mapping = range(num)
        pairs = mapping.items() if isinstance(mapping, Mapping) else enumerate(mapping)
        class_P = np.full(256, -1, np.int16)
        class_P[IGNORE] = IGNORE
        for value, index in ((int(value), int(index)) for value, index in pairs):
            if not 0 <= value <= IGNORE or not (0 <= index < num or index == IGNORE):
                raise ConfigError(
                    f"source.mapping gives pixel value {value} the class {index}; pixel values are "
                    f"0 to {IGNORE}, classes 0 to {num - 1}, or {IGNORE} for none"
                )
            class_P[value] = index
        return cls(class_P)

    def read(self, content: bytes, spec: MaskSpec) -> np.ndarray:
        """Return the class map of a file, resized by the nearest pixel, uint8 [H, W].

        Raises:
            MediaError: It cannot be decoded, is in colour, or has a pixel value of no class.
        """
        with opened(content) as image:
            return self.of_values(_grey(image), spec)

    def of_values(self, value_HW: np.ndarray, spec: MaskSpec) -> np.ndarray:
        """Return the class map of pixel values, resized by the nearest pixel, uint8 [H, W].

        Raises:
            MediaError: A pixel value has no class.
        """
        unknown = [one for one in np.unique(value_HW).tolist() if not self._has_class(one)]
        if unknown:
            some = ", ".join(f"{one:g}" for one in unknown[:5])
            raise MediaError(
                "unknown_class", f"pixel values [{some}] have no class in source.mapping"
            )
        class_HW = self.class_P[value_HW.astype(np.uint8)].astype(np.uint8)
        return class_HW[_nearest(spec.height, class_HW.shape[0])][
            :, _nearest(spec.width, class_HW.shape[1])
        ]

    def _has_class(self, value: float) -> bool:
        """Return whether a pixel value is a whole number with a class."""
        is_id = float(value).is_integer() and 0 <= value <= IGNORE
        return is_id and bool(self.class_P[int(value)] >= 0)


def _grey(image: Image.Image) -> np.ndarray:
    """Return the pixel values of a picture of one channel; of a palette, its indices [H, W].

    Raises:
        MediaError: It has more channels.
    """
    if image.mode not in _GREY and not image.mode.startswith("I;16"):
        raise MediaError("unsupported", f"{image.format} of mode {image.mode} has no plain values")
    return np.asarray(image, dtype=np.float64)


def _inverse(array_HW: np.ndarray) -> np.ndarray:
    """Return one by each value, 0 where it is 0."""
    return np.where(array_HW > 0, 1.0 / np.where(array_HW > 0, array_HW, 1.0), 0.0)


def _nearest(num: int, available: int) -> np.ndarray:
    """Return which of the available rows lies in the middle of each wanted one."""
    return ((np.arange(num) + 0.5) * available / num).astype(np.int64)
