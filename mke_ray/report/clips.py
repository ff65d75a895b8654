"""Stored samples as small media files that a page plays without any network."""

# T frames, H height, W width, N sound samples.

import io
from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Stream

from mke_ray.schema import AudioSpec, ModalitySpec, VideoSpec

MAX_CLIP_BYTES = 240_000  # of one sample; a page has three dozen

_SILENT_HZ = 4.0  # frames per second where no sound says how long a clip is
_SMALLEST_SIDE = 16
_QUALITIES = (24, 32, 40)  # constant rate factors of H.264, the best first
_SOUND_BITS_PER_S = 48_000
_SOUND_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_TICKS_HZ = 1000


def sample_clip(
    arrays: Mapping[str, np.ndarray], decode: Mapping[str, ModalitySpec]
) -> tuple[bytes, bool]:
    """Return a sample's frames and sound as mp4 (H.264, AAC), and whether it has pictures.

    The frames are spread over the length of the sound, or shown at 4 a second.

    Args:
        arrays: Per modality the stored array; of several of a kind the first is taken.
        decode: Specification of the modalities.

    Returns:
        The file; empty where nothing can be played or it is larger than ``MAX_CLIP_BYTES``.
    """
    frames_THWC = _first(arrays, decode, VideoSpec)
    sounds = [(one, spec) for one, spec in decode.items() if isinstance(spec, AudioSpec)]
    name, spec = next(((one, spec) for one, spec in sounds if one in arrays), ("", None))
    sound_N, rate_hz = (None, 0) if spec is None else (arrays[name], spec.sample_rate_hz)
    if frames_THWC is not None and min(frames_THWC.shape[1:3]) < _SMALLEST_SIDE:
        frames_THWC = None
    if frames_THWC is None and sound_N is None:
        return b"", False
    for quality in _QUALITIES:
        made = _encoded(frames_THWC, sound_N, rate_hz=rate_hz, quality=quality)
        if len(made) <= MAX_CLIP_BYTES:
            return made, frames_THWC is not None
    return b"", False


def _first(
    arrays: Mapping[str, np.ndarray], decode: Mapping[str, ModalitySpec], kind: type
) -> np.ndarray | None:
    """Return the first array that is of a kind of modality, None where there is none."""
    return next(
        (arrays[n] for n, spec in decode.items() if isinstance(spec, kind) and n in arrays), None
    )


def _encoded(
    frames_THWC: np.ndarray | None, sound_N: np.ndarray | None, *, rate_hz: int, quality: int
) -> bytes:
    """Return an mp4 file."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        tracks = []
        if frames_THWC is not None:
            length_s = len(frames_THWC) / _SILENT_HZ if sound_N is None else len(sound_N) / rate_hz
            stream = _video_stream(container, frames_THWC, length_s, quality)
            tracks.append((stream, _pictures(frames_THWC, length_s)))
        if sound_N is not None:
            tracks.append((_audio_stream(container, rate_hz), [_sound(sound_N, rate_hz)]))
        for stream, decoded in tracks:  # all streams exist before the first packet
            for frame in [*decoded, None]:
                container.mux(stream.encode(frame))
    return file.getvalue()


def _video_stream(
    container: OutputContainer, frames_THWC: np.ndarray, length_s: float, quality: int
) -> Stream:
    """Add a track of pictures; H.264 wants even sides."""
    rate = Fraction(len(frames_THWC) / length_s).limit_denominator(1000)
    options = {"crf": str(quality), "preset": "veryfast"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    height, width = frames_THWC.shape[1:3]
    stream.height, stream.width = height - height % 2, width - width % 2
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, _TICKS_HZ)
    stream.codec_context.thread_count = 1
    return stream


def _pictures(frames_THWC: np.ndarray, length_s: float) -> list[av.VideoFrame]:
    """Return the frames with their times; the last is there twice, so that it is seen as long."""
    height, width = (side - side % 2 for side in frames_THWC.shape[1:3])
    step = length_s / len(frames_THWC)
    made = []
    for number, frame_HWC in enumerate([*frames_THWC, frames_THWC[-1]]):
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(frame_HWC[:height, :width]), format="rgb24"
        )
        picture.pts = round(_TICKS_HZ * (number * step - (number == len(frames_THWC)) * step / 50))
        picture.time_base = Fraction(1, _TICKS_HZ)
        made.append(picture)
    return made


def _audio_stream(container: OutputContainer, rate_hz: int) -> Stream:
    """Add a track of sound at the next rate that AAC has."""
    rate = next((one for one in _SOUND_RATES_HZ if one >= rate_hz), _SOUND_RATES_HZ[-1])
    stream = container.add_stream("aac", rate=rate, layout="mono")
    stream.codec_context.bit_rate = _SOUND_BITS_PER_S
    return stream


def _sound(sound_N: np.ndarray, rate_hz: int) -> av.AudioFrame:
    """Return sound as one frame, which the encoder cuts and resamples."""
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(sound_N[None], np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate = rate_hz
    return frame
