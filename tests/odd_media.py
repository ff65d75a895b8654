"""Encoded media files of every odd kind, made by PyAV, and what a plain reader makes of them."""

import io
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from media_files import brightness, unprivileged

RATE_HZ = 10
SIZE = (48, 64)
SIDE = 32


@dataclass(frozen=True)
class Video:
    """A video stream: frame k is of brightness 20 + 20 (k mod 10), shown at its stamp."""

    num_frames: int = 10
    codec: str = "libx264"
    options: dict = field(default_factory=lambda: {"preset": "ultrafast"})
    pix_fmt: str = "yuv420p"
    size: tuple = SIZE
    rate_hz: int = RATE_HZ
    stamps: tuple | None = None
    rotation: int = 0
    begin_s: float = 0.0
    colours: dict = field(default_factory=dict)
    levels: tuple | None = None


@dataclass(frozen=True)
class Sound:
    """A sound stream: a sweep from 200 to 3000 Hz, in all channels alike."""

    seconds: float = 1.0
    codec: str = "aac"
    rate_hz: int = 44100
    layout: str = "stereo"
    begin_s: float = 0.0
    options: dict = field(default_factory=dict)


def write(*streams, container="mp4", options=None, cover=False):
    """Return a file of some streams, muxed in order of time, with a cover picture if wanted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip")
        with av.open(str(path), "w", format=container, options=options or {}) as output:
            packets = []
            made = [(_add(output, one), one) for one in streams]
            if cover:
                packets += _cover(output)
            with unprivileged():
                for stream, one in made:
                    frames = pictures(one) if isinstance(one, Video) else sounds(one)
                    for frame in [*frames, None]:
                        packets += stream.encode(frame)
            packets.sort(key=lambda p: float((p.dts or 0) * p.time_base))
            for packet in packets:
                output.mux(packet)
        return path.read_bytes()


def _cover(output):
    stream = output.add_stream("mjpeg", rate=1)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuvj420p"
    stream.disposition = Disposition.attached_pic
    return [*stream.encode(av.VideoFrame(64, 64, "yuvj420p")), *stream.encode(None)]


def _add(output, one):
    if isinstance(one, Sound):
        return output.add_stream(
            one.codec, rate=one.rate_hz, layout=one.layout, options=one.options
        )
    stream = output.add_stream(one.codec, rate=one.rate_hz, options=one.options)
    stream.height, stream.width = one.size
    stream.pix_fmt = one.pix_fmt
    if one.codec not in ("mpeg4", "mpeg2video", "gif"):
        stream.codec_context.time_base = Fraction(1, 1000)
    for name, value in one.colours.items():
        setattr(stream.codec_context, name, value)
    if one.rotation:
        stream.set_display_rotation(one.rotation)
    return stream


def pictures(video):
    """Yield the frames of a video stream."""
    stamps = video.stamps or [k / video.rate_hz for k in range(video.num_frames)]
    height, width = video.size
    for k, time_s in enumerate(stamps):
        level = video.levels[k] if video.levels else brightness(k % 10)
        picture = np.full((height, width, 3), level, np.uint8)
        picture[: height // 2, : width // 2, 0] = 255
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if video.colours:
            frame = frame.reformat(
                format=video.pix_fmt,
                dst_colorspace={1: "ITU709", 9: "BT2020"}.get(
                    video.colours.get("colorspace"), "ITU601"
                ),
                dst_color_range=video.colours.get("color_range", 1),
            )
            for name, value in video.colours.items():
                setattr(frame, name, value)
        frame.pts = round(1000 * (time_s + video.begin_s))
        frame.time_base = Fraction(1, 1000)
        if video.codec in ("mpeg4", "mpeg2video", "gif"):
            frame.pts = k
            frame.time_base = Fraction(1, video.rate_hz)
        yield frame


def sweep(seconds, rate_hz):
    """Return a sound of which every place is different."""
    time_N = np.arange(round(seconds * rate_hz)) / rate_hz
    phase_N = 2 * np.pi * (200 * time_N + 1400 * time_N**2 / 2)
    return (0.5 * np.sin(phase_N)).astype(np.float32)


def sounds(sound):
    """Yield the frames of a sound stream."""
    wave_N = sweep(sound.seconds, sound.rate_hz)
    layout = av.AudioLayout(sound.layout)
    sound_CN = np.stack([wave_N] * layout.nb_channels)
    frame = av.AudioFrame.from_ndarray(sound_CN, format="fltp", layout=sound.layout)
    frame.sample_rate = sound.rate_hz
    frame.pts = round(sound.begin_s * sound.rate_hz)
    frame.time_base = Fraction(1, sound.rate_hz)
    yield frame


def reference_frames(content, num_frames, *, start_s=None, end_s=None):
    """Return what a reader sees that decodes every frame and picks by its time."""
    with av.open(io.BytesIO(content)) as container:
        stream = next(
            s for s in container.streams.video if not s.disposition & Disposition.attached_pic
        )
        frames = [f for f in container.decode(stream) if f.pts is not None]
        base = float(stream.time_base)
        origin_s = (container.start_time or 0) / av.time_base
        begins = np.array([f.pts * base - origin_s for f in frames])
        if container.format.name == "avi":
            begins = np.sort(begins)  # only the order of the frames is known
        lengths = [(f.duration or 0) * base for f in frames]
    first_s = max(begins[0], 0.0) if start_s is None else start_s
    last_s = max(b + n for b, n in zip(begins, lengths, strict=True))
    last_s = last_s if end_s is None else min(last_s, end_s)
    times = [first_s + (k + 0.5) / num_frames * (last_s - first_s) for k in range(num_frames)]
    chosen = [max([0, *np.flatnonzero(begins <= time + 1e-6)]) for time in times]
    return np.stack([_upright(frames[place]) for place in chosen])


def _upright(frame):
    turns = round(frame.rotation / 90) % 4
    small = frame.reformat(SIDE, SIDE, "rgb24", interpolation="AREA", threads=1)
    return np.rot90(small.to_ndarray(), turns)


def lag_of(sound_N, rate_hz, seconds):
    """Return by how many samples a sound comes after the sweep that it should be."""
    wanted_N = sweep(seconds, rate_hz)
    length = min(len(wanted_N), len(sound_N))
    product = np.correlate(sound_N[:length], wanted_N[:length], mode="full")
    return int(product.argmax()) - (length - 1)


def box(name, *parts):
    """Return a box of an MP4 file."""
    content = b"".join(parts)
    return (8 + len(content)).to_bytes(4, "big") + name + content


def patched(content, name, offset, value, *, number=0):
    """Return a file with some bytes of its n-th box of a name replaced.

    Args:
        content: The file.
        name: Name of the box.
        offset: Where in the box, after its name.
        value: The new bytes.
        number: Which box of this name.
    """
    place = -1
    for _ in range(number + 1):
        place = content.index(name, place + 1)
    begin = place + len(name) + offset
    return content[:begin] + value + content[begin + len(value) :]
