"""A teacher that answers by the mean of what another one says of several views of a sample."""

# B samples, C classes, T frames or values in time, H height, W width, X any.

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.decode_spec import DepthSpec
from mke_ray.errors import ConfigError
from mke_ray.models.teachers import Teacher
from mke_ray.schema import LabelSpace, fingerprint

IDENTITY = "identity"
FLIP = "flip"
TEMPORAL_CROPS = "temporal_crops"
SPATIAL_CROPS = "spatial_crops"
VIEWS = (IDENTITY, FLIP, TEMPORAL_CROPS, SPATIAL_CROPS)

_PICTURES = {"video": 2, "image": 1, "depth": 1}  # axis of the height; that of the width is next
_IN_TIME = ("video", "audio")
_PLACES = ((0.5, 0.5), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))  # the centre, then corners
_SHRINKING = {TEMPORAL_CROPS: ("num_frames", "seconds"), SPATIAL_CROPS: ("height", "width")}
_MOST_VIEWS = 32


@dataclass(frozen=True, slots=True)
class Views:
    """Some views of a stored array.

    Args:
        type: One of ``VIEWS``.
        num: How many crops.
        share: Length of each crop as a share of the stored one.
    """

    type: str
    num: int = 1
    share: float = 1.0

    def arrays(self, stored_BX: Any, needs: Mapping[str, Any]) -> Iterator[Any]:
        """Yield every view of stored arrays [B, ...]."""
        kind = needs.get("kind")
        if self.type == IDENTITY:
            yield stored_BX
        elif self.type == FLIP:
            mirrored = DepthSpec(1, 1, needs["channels"]).mirrored if "channels" in needs else ()
            yield _mirrored(stored_BX, _PICTURES[str(kind)] + 1, mirrored)
        elif self.type == TEMPORAL_CROPS:
            for number in range(self.num):
                place = number / (self.num - 1) if self.num > 1 else 0.5
                yield _cropped(stored_BX, 1, self.share, place)
        else:
            axis = _PICTURES[str(kind)]
            for top, left in _PLACES[: self.num]:
                yield _cropped(
                    _cropped(stored_BX, axis, self.share, top), axis + 1, self.share, left
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"type": self.type, "num": self.num, "share": self.share}


class ViewAveragedTeacher:
    """Any teacher, whose logits are averaged over views of every sample.

    The mean is that of logits. Of one class per sample it is up to a constant of the sample that of
    log-probabilities, of many that of the log-odds: what a posterior adds up, and what a fitted
    temperature makes up for (a mean of probabilities is less sure than each of them). Class maps
    are mirrored back.

    Args:
        teacher: The teacher, or ``_target_`` and the arguments of its class in a configuration.
        views: ``identity``, ``flip``, or ``{type: temporal_crops | spatial_crops, num: N,
            share: S}``: N crops of a share S of the stored frames, seconds, or height and width.
            The stored array itself counts only where ``identity`` is named.

    Raises:
        ConfigError: A view is unknown, or not one of what the teacher reads.

    Source:
        Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural
        networks, NeurIPS 2012, section 4.1 (mean over crops and mirror images).
    """

    def __init__(self, teacher: Teacher, views: Sequence[str | Mapping[str, Any]]) -> None:
        self.views = parsed_views(views, teacher.needs)
        self.modality = teacher.modality
        self.needs = needs_of(self.views, teacher.needs)
        self._teacher = teacher

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return the mean logits [B, C] of a batch of stored arrays; of dense labels [B, C, H, W].

        Raises:
            ConfigError: Class maps of crops would not lie on the stored array.
        """
        needs = self._teacher.needs
        return mean_over_views(self._teacher.predict, arrays_BX, self.views, needs)

    def fingerprint(self) -> str:
        """Return a hash of the teacher's own and of the views."""
        plain = [one.to_dict() for one in self.views]
        return fingerprint({"teacher": self._teacher.fingerprint(), "views": plain})

    @property
    def network(self) -> nn.Module:
        """The network of the teacher, where it shows one."""
        return getattr(self._teacher, "network")  # noqa: B009 - not part of the protocol

    @property
    def label_space(self) -> LabelSpace:
        """The label space of the teacher, where it knows it."""
        return getattr(self._teacher, "label_space")  # noqa: B009 - not part of the protocol


def parsed_views(
    views: Sequence[str | Mapping[str, Any]], needs: Mapping[str, Any]
) -> tuple[Views, ...]:
    """Return views of what a teacher reads.

    Args:
        views: As in ``ViewAveragedTeacher``.
        needs: What the teacher needs.

    Raises:
        ConfigError: There are none or too many, one is unknown, or not one of what it reads.
    """
    found = tuple(_parsed(one) for one in views)
    if not 1 <= sum(one.num for one in found) <= _MOST_VIEWS:
        raise ConfigError(f"views={list(views)!r}; give 1 to {_MOST_VIEWS} views, as {VIEWS[:2]}")
    kind = needs.get("kind")
    for one in found:
        fits = {
            IDENTITY: True,
            FLIP: kind in _PICTURES,
            TEMPORAL_CROPS: kind in _IN_TIME,
            SPATIAL_CROPS: kind in _PICTURES,
        }[one.type]
        if not fits:
            raise ConfigError(
                f"views: {one.type} is no view of {kind}, which the teacher reads; {FLIP} and "
                f"{SPATIAL_CROPS} are of {sorted(_PICTURES)}, {TEMPORAL_CROPS} of "
                f"{sorted(_IN_TIME)}; leave it out"
            )
    return found


def needs_of(views: Sequence[Views], needs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be stored so that the smallest view holds what a teacher needs."""
    found = dict(needs)
    for one in views:
        for key in _SHRINKING.get(one.type, ()):
            if key in needs:
                least = needs[key] / one.share
                found[key] = max(found[key], least if key == "seconds" else math.ceil(least - 1e-9))
    return found


def mean_over_views(
    answer: Any, arrays_BX: np.ndarray | Tensor, views: Sequence[Views], needs: Mapping[str, Any]
) -> np.ndarray:
    """Return the mean of the float32 logits of views of stored arrays.

    Args:
        answer: Logits of an array [B, ...].
        arrays_BX: Stored arrays [B, ...].
        views: The views.
        needs: What the teacher needs, its ``kind`` among it.

    Raises:
        ConfigError: Class maps of crops would not lie on the stored array.
    """
    total, num = np.float32(0.0), 0
    for one in views:
        for view_BX in one.arrays(arrays_BX, needs):
            logits = torch.as_tensor(answer(view_BX)).float().cpu().numpy()
            if logits.ndim > 2 and one.type in _SHRINKING:
                raise ConfigError(
                    f"views: class maps of {one.type} do not lie on the stored picture; of labels "
                    f"at every pixel take {FLIP}"
                )
            is_mirrored = logits.ndim > 2 and one.type == FLIP
            total, num = total + (logits[..., ::-1] if is_mirrored else logits), num + 1
    return np.asarray(total / np.float32(num), np.float32)


def _parsed(view: str | Mapping[str, Any]) -> Views:
    """Return one view of a configuration."""
    plain: dict[str, Any] = {"type": view} if isinstance(view, str) else dict(view)
    name = plain.get("type")
    allowed = {"type", "num", "share"} if name in _SHRINKING else {"type"}
    if name not in VIEWS or set(plain) - allowed or (name in _SHRINKING and len(plain) < 3):
        raise ConfigError(
            f"views: {view!r} is unknown; choose {IDENTITY}, {FLIP}, {{type: {TEMPORAL_CROPS}, "
            f"num: 3, share: 0.75}} or {{type: {SPATIAL_CROPS}, num: 5, share: 0.875}}"
        )
    found = Views(name, plain.get("num", 1), plain.get("share", 1.0))
    if not (isinstance(found.num, int) and found.num >= 1 and 0.0 < found.share <= 1.0):
        raise ConfigError(f"views: {view!r}; give num from 1 and a share above 0, up to 1")
    if name == SPATIAL_CROPS and found.num > len(_PLACES):
        raise ConfigError(f"views: {view!r}; {SPATIAL_CROPS} are at most {len(_PLACES)}")
    return found


def _mirrored(stored_BX: Any, axis: int, changing: Sequence[int]) -> Any:
    """Return pictures mirrored left and right, with the sign of some channels changed."""
    is_tensor = isinstance(stored_BX, Tensor)
    found_BX: Any = stored_BX.flip(axis) if is_tensor else np.flip(stored_BX, axis).copy()
    for channel in changing:
        found_BX[..., channel] *= -1
    return found_BX


def _cropped(stored_BX: Any, axis: int, share: float, place: float) -> Any:
    """Return a crop along an axis.

    Args:
        stored_BX: Stored arrays.
        axis: The axis.
        share: Length of the crop as a share of the whole.
        place: Where it is, from 0 at the start to 1 at the end.
    """
    whole = stored_BX.shape[axis]
    length = math.ceil(share * whole - 1e-9)
    start = round(place * (whole - length))
    part = (slice(None),) * axis + (slice(start, start + length),)
    found_BX = stored_BX[part]
    return found_BX if isinstance(found_BX, Tensor) else np.ascontiguousarray(found_BX)
