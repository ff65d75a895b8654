"""Spans of long videos, cut by the lengths that their containers declare."""

from dataclasses import dataclass
from typing import BinaryIO, cast

import av

from mke_ray.data.containers import DECODE_ERRORS, LIMITS, open_container
from mke_ray.data.places import Places
from mke_ray.data.ranges import RangeFile
from mke_ray.errors import ConfigError, MediaError

Span = tuple[float | None, float | None]

WHOLE: Span = (None, None)

_MAX_HEADER_BYTES = 64 << 20
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class ClipCutter:
    """Cuts videos into clips of one length, one every stride.

    The last clip of a video may be shorter; below half a length it is dropped, unless it is the
    only one. Where clips overlap, the first that reaches the end is the last.

    Args:
        places: Where keys are.
        clip_seconds: Length of a clip.
        stride_seconds: From the start of a clip to that of the next.
    """

    places: Places
    clip_seconds: float
    stride_seconds: float

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.clip_seconds > 0 or not self.stride_seconds > 0:
            raise ConfigError(
                f"source.clip_seconds={self.clip_seconds} and "
                f"source.stride_seconds={self.stride_seconds} must be more than 0"
            )

    def cut(self, key: str, size: int) -> list[Span]:
        """Return the spans of a file; the whole of it where its header cannot be read.

        Args:
            key: Key of the file.
            size: Its size in bytes, -1 where it is not there.

        Raises:
            OSError: The store did not answer, also after retries.
        """
        duration_s = None if size <= 0 else _declared_duration_s(self.places, key, size)
        if duration_s is None:
            return [WHOLE]
        return self.spans(duration_s)

    def spans(self, duration_s: float) -> list[Span]:
        """Return the spans of a video of some length."""
        found: list[Span] = []
        while True:
            start_s = round(len(found) * self.stride_seconds, _DIGITS)
            end_s = round(min(start_s + self.clip_seconds, duration_s), _DIGITS)
            if found and end_s - start_s < self.clip_seconds / 2:
                return found
            found.append((start_s, end_s))
            if end_s >= round(duration_s, _DIGITS):
                return found


def _declared_duration_s(places: Places, key: str, size: int) -> float | None:
    """Return the length of a video by its header, None where that cannot be read."""
    root, name = places.find(key)
    if root.is_local:
        try:
            with open(root.path(name), "rb") as local:
                return _duration_s(local)
        except FileNotFoundError:
            return None
    file = RangeFile(
        lambda begin, end: root.read_range(name, begin, end), size, max_bytes=_MAX_HEADER_BYTES
    )
    duration_s = _duration_s(cast(BinaryIO, file))
    if isinstance(file.failure, OSError) and not isinstance(file.failure, FileNotFoundError):
        raise file.failure
    return duration_s


def _duration_s(file: BinaryIO) -> float | None:
    try:
        with open_container(file, LIMITS) as container:
            duration_s = (container.duration or 0) / av.time_base
    except (MediaError, OSError, *DECODE_ERRORS):
        return None
    return duration_s if duration_s > 0 else None
