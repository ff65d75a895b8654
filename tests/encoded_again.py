"""A media file encoded once more, as sites do with what is uploaded: smaller, louder, cut, ..."""

# T frames, H height, W width, N sound samples.

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np


@dataclass(frozen=True)
class Again:
    """How a file is encoded once more.

    Args:
        size: Height and width, None keeps them.
        crf: Quality of the pictures.
        rate_hz: Frames per second.
        gain: Factor on the sound.
        trim_s: Time that is cut off the beginning.
        layout: ``mono`` or ``stereo``.
        sound_rate_hz: Sample rate, None keeps it.
        sound_bits: Bits per second of the sound, None takes the coder's choice.
    """

    size: tuple[int, int] | None = None
    crf: int = 26
    rate_hz: int = 25
    gain: float = 1.0
    trim_s: float = 0.0
    layout: str = "mono"
    sound_rate_hz: int | None = None
    sound_bits: int | None = None


def encode_again(content: bytes, how: Again) -> bytes:
    """Return a file of the same content."""
    time_T, frame_T = _read_frames(content)
    sound_N, rate_hz = _read_sound(content)
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        video = container.add_stream(
            "libx264", rate=how.rate_hz, options={"preset": "ultrafast", "crf": str(how.crf)}
        )
        video.height, video.width = how.size or frame_T[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        streams = [(video, _pictures(time_T, frame_T, video, how))]
        if len(sound_N):
            audio = container.add_stream(
                "aac", rate=how.sound_rate_hz or rate_hz, layout=how.layout
            )
            if how.sound_bits:
                audio.bit_rate = how.sound_bits
            sound_N = how.gain * sound_N[round(how.trim_s * rate_hz) :]
            streams.append((audio, _sound(sound_N, rate_hz, audio, how)))
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    return file.getvalue()


def _read_frames(content):
    with av.open(io.BytesIO(content)) as container:
        frames = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    time_T, frame_T = zip(*frames, strict=True)
    return np.array(time_T), frame_T


def _read_sound(content):
    with av.open(io.BytesIO(content)) as container:
        if not container.streams.audio:
            return np.zeros(0, np.float32), 0
        rate_hz = container.streams.audio[0].rate
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
        blocks = [g for f in container.decode(audio=0) for g in resampler.resample(f)]
        blocks += resampler.resample(None)
    return np.concatenate([block.to_ndarray().reshape(-1) for block in blocks]), rate_hz


def _pictures(time_T, frame_T, stream, how):
    num_frames = int((time_T[-1] - time_T[0] - how.trim_s) * how.rate_hz) + 1
    for number in range(num_frames):
        time_s = time_T[0] + how.trim_s + number / how.rate_hz
        shown = frame_T[max(int(np.searchsorted(time_T, time_s + 1e-6, side="right")) - 1, 0)]
        picture = av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(
            width=stream.width, height=stream.height, format="yuv420p"
        )
        picture.pts, picture.time_base = number, Fraction(1, how.rate_hz)
        yield picture


def _sound(sound_N, rate_hz, stream, how):
    clipped_1N = np.clip(sound_N, -1.0, 1.0).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(clipped_1N, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    resampler = av.AudioResampler(format="fltp", layout=how.layout, rate=stream.rate)
    return resampler.resample(frame)
