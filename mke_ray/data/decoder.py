"""What decodes the frames of a video stream, and the one that does so by PyAV."""

from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
from av.video.stream import VideoStream

from mke_ray.data.containers import MediaFile
from mke_ray.data.frame_choice import FrameChoice
from mke_ray.data.media_video import decode_video
from mke_ray.data.packets import StreamPackets
from mke_ray.data.pixels import HDR_CURVES
from mke_ray.schema import VideoSpec

# In other containers decord finds the wrong frames without a word.
_PLAIN_FORMATS = ("mov", "matroska")


@dataclass(frozen=True, slots=True)
class VideoClip:
    """The video stream of an open file, and which of its frames are wanted.

    Args:
        file: The whole file; a back end that reads packets of its own begins at byte 0.
        packets: Its packets as far as they are needed.
        choice: The wanted frames.
        max_frames: Most frames that are decoded to get at them.
    """

    file: MediaFile
    packets: StreamPackets
    choice: FrameChoice
    max_frames: int


class NotExactError(Exception):
    """A back end cannot give the very frames that were asked for; PyAV is asked instead."""


class Decoder(Protocol):
    """A library that decodes frames."""

    @property
    def version(self) -> str:
        """Its name and version, as recorded with the samples."""
        ...

    def frames(self, clip: VideoClip, spec: VideoSpec) -> np.ndarray:
        """Return the wanted frames as uint8 [T, H, W, 3], upright.

        Raises:
            NotExactError: It cannot decode this file, or not exactly.
            MediaError: Nobody can.
        """
        ...


class PyavDecoder:
    """FFmpeg by PyAV: exact for whatever FFmpeg reads."""

    version = f"pyav {av.__version__}"

    def frames(self, clip: VideoClip, spec: VideoSpec) -> np.ndarray:
        """Return the wanted frames as uint8 [T, H, W, 3], upright."""
        return decode_video(clip.packets, spec, clip.choice, max_frames=clip.max_frames)


PYAV = PyavDecoder()


def plain_content(clip: VideoClip) -> bytes:
    """Return the file of a clip for a library that reads packets of its own.

    Raises:
        NotExactError: Other libraries than ours show the clip differently.
    """
    check_plain(clip)
    clip.file.seek(0)
    return clip.file.read()


def wanted_times(clip: VideoClip) -> np.ndarray:
    """Return when the wanted frames are shown, in seconds from the beginning of the clip [T]."""
    return np.array([clip.packets.time_s(stamp) for stamp in clip.choice.stamps])


def check_times(clip: VideoClip, found_T: np.ndarray) -> None:
    """Refuse frames that are not shown when the wanted ones are.

    Args:
        clip: The clip.
        found_T: When the frames that were found are shown, in seconds [T].

    Raises:
        NotExactError: Some wanted frame was not found, so these are other frames.
    """
    times_T = wanted_times(clip)
    far_T = np.abs(found_T - times_T) > 2 * clip.packets.time_base + 1e-3
    if far_T.any():
        raise NotExactError(f"no frame at {times_T[far_T][0]:.3f} s")


def check_plain(clip: VideoClip) -> None:
    """Refuse clips that other libraries than ours show differently.

    Raises:
        NotExactError: The clip is one of them.
    """
    packets = clip.packets
    stream = packets.stream
    assert isinstance(stream, VideoStream)
    if not stream.container.format.name.startswith(_PLAIN_FORMATS):
        raise NotExactError(f"container {stream.container.format.name}")
    if stream.codec_context.color_trc in HDR_CURVES:
        raise NotExactError("high dynamic range")
    if packets.origin_s or any(packet.is_discard for packet in packets.packets):
        raise NotExactError("an edit list")
    first = next((one for one in packets.packets if one.is_keyframe), None)
    frames = [] if first is None else [*stream.codec_context.decode(first), *stream.decode(None)]
    stream.codec_context.flush_buffers()
    if not frames or frames[0].rotation:
        raise NotExactError("a rotated or damaged clip")
