"""Spans of long videos, cut by the lengths that their containers declare."""

import logging
from dataclasses import dataclass, field

from mke_ray.data.header_process import HeaderReader
from mke_ray.data.packets import WHOLE, Span
from mke_ray.data.places import Places
from mke_ray.errors import ConfigError

_DIGITS = 3
# No video has fewer: a header that declares more time than these bytes can hold is not believed.
_MIN_BYTES_PER_S = 1000.0

_logger = logging.getLogger(__name__)


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
    _headers: HeaderReader = field(default_factory=HeaderReader, repr=False, compare=False)
    _whole: list[str] = field(default_factory=list, repr=False, compare=False)

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
        if size <= 0:
            return [WHOLE]
        header = self._headers.read(self.places, key, size)
        if header.duration_s is None:
            self._whole.append(f"{key}: {header.why}")
            return [WHOLE]
        return self.spans(min(header.duration_s, size / _MIN_BYTES_PER_S))

    def log_whole(self) -> None:
        """Say how many files were not cut."""
        if self._whole:
            _logger.warning(
                "%d files are not cut, their headers cannot be read; %s",
                len(self._whole),
                self._whole[0],
            )

    def spans(self, duration_s: float) -> list[Span]:
        """Return the spans of a video of some length."""
        found: list[Span] = []
        while True:
            start_s = round(len(found) * self.stride_seconds, _DIGITS)
            end_s = round(min(start_s + self.clip_seconds, duration_s), _DIGITS)
            if found and end_s - start_s < self.clip_seconds / 2:
                return found
            found.append(Span(start_s, end_s))
            if end_s >= round(duration_s, _DIGITS):
                return found
