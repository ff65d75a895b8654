"""Frames by decord, where it is known to give the right ones."""

# T frames, F frames of the file.

import io

import decord
import numpy as np

from mke_ray.data.decoder import NotExactError, VideoClip, check_plain
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
        check_plain(clip)
        clip.file.seek(0)
        content = io.BytesIO(clip.file.read())
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
    times_T = np.array([clip.packets.time_s(stamp) for stamp in clip.choice.stamps])
    places_T = np.abs(begins_F[None, :] - times_T[:, None]).argmin(axis=1)
    far_T = np.abs(begins_F[places_T] - times_T) > 2 * clip.packets.time_base + 1e-3
    if far_T.any():
        raise NotExactError(f"no frame at {times_T[far_T][0]:.3f} s")
    return [int(place) for place in places_T]
