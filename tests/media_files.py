"""Small encoded media files for the tests of decoding, with frames that say which they are."""

import contextlib
import io
import os
from fractions import Fraction

import av
import numpy as np

NOBODY = 65534
STEP = 20
SOUND_RATE_HZ = 16000


@contextlib.contextmanager
def unprivileged():
    """Be nobody for a block, where this process is root.

    To root the AV1 encoder gives real-time threads, which spin and let nothing else run, and the
    thread that called it stays one of them.
    """
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def write_clip(
    *,
    num_frames=10,
    rate_hz=10,
    size=(48, 64),
    sound_s=1.0,
    sound_hz=440.0,
    codec="libx264",
    container_format="mp4",
    options=None,
    rotation=0,
    stamps=None,
):
    """Return a file whose frame k has brightness 20 + 20 k, and a sine as its sound."""
    file = io.BytesIO()
    with av.open(file, mode="w", format=container_format) as container:
        streams = []
        if num_frames:
            video = container.add_stream(
                codec, rate=rate_hz, options=options or {"preset": "ultrafast"}
            )
            video.height, video.width = size
            video.pix_fmt = "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
            times_s = stamps or [k / rate_hz for k in range(num_frames)]
            streams.append((video, pictures(times_s, size)))
        if sound_s:
            audio_codec = "libmp3lame" if container_format == "avi" else "aac"
            audio = container.add_stream(audio_codec, rate=SOUND_RATE_HZ, layout="mono")
            streams.append((audio, [sine(sound_s, sound_hz)]))
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    return file.getvalue()


def pictures(times_s, size):
    height, width = size
    for k, time_s in enumerate(times_s):
        picture = np.full((height, width, 3), brightness(k), np.uint8)
        picture[: height // 2, : width // 2, 0] = 255  # a red corner shows which side is up
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = round(1000 * time_s)
        frame.time_base = Fraction(1, 1000)
        yield frame


def sine(seconds, frequency_hz):
    time_N = np.arange(round(seconds * SOUND_RATE_HZ)) / SOUND_RATE_HZ
    sound_1N = 0.5 * np.sin(2 * np.pi * frequency_hz * time_N)[None]
    frame = av.AudioFrame.from_ndarray(sound_1N.astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate = SOUND_RATE_HZ
    return frame


def brightness(k):
    return 20 + STEP * k


def frame_numbers(video_THW3):
    """Return which frames these are, read from the corner that is not red."""
    height, width = video_THW3.shape[1:3]
    corner = video_THW3[:, height * 3 // 4 :, width * 3 // 4 :].mean(axis=(1, 2, 3))
    return [round(value) for value in (corner - 20) / STEP]
