"""Frames by decord, where it is known to give the right ones."""

# T frames, F frames of the file.

import io

import decord
import numpy as np

from mke_ray.data.decoder import (
    NotExactError,
    VideoClip,
    check_times,
    plain_content,
    wanted_times,
)
from mke_ray.schema import VideoSpec


class DecordDecoder:
    """One thread, frames scaled while they are decoded.

    It is not asked for rotated or high-dynamic-range clips, containers other than MP4 and
    Matroska, and clips with an edit list; and its frames count only where it finds them at the
    times at which PyAV found their packets.
    """

    version = f"decord {decord.__version__}"

    def frames(self, clip: VideoClip, spec: VideoSpec) -> np.ndarray:
        """Return the wanted frames as uint8 [T, H, W, 3], upright.

        Raises:
            NotExactError: It cannot decode this file, or not exactly.
        """
        content = io.BytesIO(plain_content(clip))
        try:
            reader = decord.VideoReader(
                content, ctx=decord.cpu(0), width=spec.width, height=spec.height, num_threads=1
            )
            begins_F = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
            places = _find_times(begins_F, clip)
            return reader.get_batch(places).asnumpy()
        except (decord.DECORDError, AssertionError, RuntimeError, IndexError) as error:
            raise NotExactError(f"decord: {error}") from error


def _find_times(begins_F: np.ndarray, clip: VideoClip) -> list[int]:
    """Return the places of the wanted frames in a list of the times when frames begin.

    Raises:
        NotExactError: Some wanted frame has no place, so the list is of other frames.
    """
    places_T = np.abs(begins_F[None, :] - wanted_times(clip)[:, None]).argmin(axis=1)
    check_times(clip, begins_F[places_T])
    return [int(place) for place in places_T]
