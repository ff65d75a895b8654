"""Small clips of many containers and codecs, and ways to damage them; a seed decides all of it."""

import contextlib
import io
import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE_HZ = 12
SOUND_RATE_HZ = 48000
SECONDS = 2
NOBODY = 65534
QUIET = {"libx265": {"x265-params": "log-level=none"}}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of clip: file ending, container, codecs of its streams, options of the container."""

    ending: str
    container: str
    video: str | None
    audio: str | None
    options: dict[str, str] = field(default_factory=dict)


KINDS = (
    Kind("mp4", "mp4", "libx264", "aac"),
    Kind("mp4", "mp4", "libx265", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    Kind("mp4", "mp4", "libsvtav1", "libopus"),
    Kind("mov", "mov", "mjpeg", "pcm_s16le"),
    Kind("mkv", "matroska", "libx264", "flac"),
    Kind("mkv", "matroska", "ffv1", "pcm_s16le"),
    Kind("webm", "webm", "libvpx-vp9", "libopus"),
    Kind("webm", "webm", "libvpx", "libopus"),
    Kind("avi", "avi", "mpeg4", "libmp3lame"),
    Kind("ts", "mpegts", "libx264", "aac"),
    Kind("mpg", "mpeg", "mpeg2video", "mp2"),
    Kind("flv", "flv", "flv", "aac"),
    Kind("wmv", "asf", "wmv2", "wmav2"),
    Kind("gif", "gif", "gif", None),
    Kind("ogg", "ogg", None, "flac"),
    Kind("wav", "wav", None, "pcm_s16le"),
    Kind("mp3", "mp3", None, "libmp3lame"),
)


def write_files(folder: Path, number: int, seed: int) -> None:
    """Write mutated files; each depends on the seed and its own number alone."""
    folder.mkdir(parents=True)
    clips = [make_clip(kind, number) for number, kind in enumerate(KINDS)]
    for position in range(number):
        draw = random.Random(f"{seed}-{position}")
        choice = draw.randrange(len(KINDS))
        how = draw.choice(list(MUTATIONS))
        content = bytearray(clips[choice])
        for _ in range(draw.choice((1, 1, 2, 4))):
            content = MUTATIONS[how](content, draw, clips)
        name = f"{position:05d}-{how}-{KINDS[choice].video or KINDS[choice].audio}"
        (folder / f"{name}.{KINDS[choice].ending}").write_bytes(content)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
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


def make_clip(kind: Kind, number: int) -> bytes:
    """Return a clip of moving noise with a chord as its sound."""
    file = io.BytesIO()
    with (
        unprivileged(),
        av.open(file, "w", format=kind.container, container_options=kind.options) as container,
    ):
        streams: list[tuple[Any, list[Any]]] = []
        if kind.video:
            video: Any = container.add_stream(
                kind.video, rate=RATE_HZ, options=QUIET.get(kind.video, {})
            )
            video.width, video.height = 64, 48
            video.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(kind.video, "yuv420p")
            streams.append((video, pictures(number, video.pix_fmt)))
        if kind.audio:
            audio: Any = container.add_stream(kind.audio, rate=SOUND_RATE_HZ, layout="mono")
            audio.bit_rate = 64_000
            streams.append((audio, sounds(audio)))
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    return file.getvalue()


def pictures(number: int, pix_fmt: str) -> list[av.VideoFrame]:
    """Return frames of a noisy picture that moves."""
    noise_HW3 = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
    frames = []
    for step in range(SECONDS * RATE_HZ):
        frame = av.VideoFrame.from_ndarray(np.roll(noise_HW3, 2 * step, axis=1), format="rgb24")
        frame = frame.reformat(format=pix_fmt)
        frame.pts, frame.time_base = step, Fraction(1, RATE_HZ)
        frames.append(frame)
    return frames


def sounds(stream: Any) -> list[av.AudioFrame]:
    """Return frames of a chord in the format that the encoder takes."""
    time_N = np.arange(SECONDS * SOUND_RATE_HZ) / SOUND_RATE_HZ
    tones_KN = np.sin(2 * np.pi * np.array([[220], [277], [330]]) * time_N)
    sound_1N = tones_KN.mean(axis=0, keepdims=True)
    frame = av.AudioFrame.from_ndarray(sound_1N.astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = SOUND_RATE_HZ, 0
    codec = stream.codec_context
    resampler = av.AudioResampler(
        format=codec.format, layout="mono", rate=SOUND_RATE_HZ, frame_size=codec.frame_size or 1024
    )
    return [*resampler.resample(frame), *resampler.resample(None)]


def flip_bits(content: bytearray, draw: random.Random, __: list[bytes]) -> bytearray:
    """Flip up to 64 bits anywhere."""
    for _ in range(draw.choice((1, 4, 16, 64))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return content


def flip_header(content: bytearray, draw: random.Random, __: list[bytes]) -> bytearray:
    """Flip bits where headers are: near the beginning and the end."""
    reach = min(1024, len(content))
    for _ in range(draw.choice((1, 2, 8))):
        content[draw.randrange(-reach, reach)] ^= 1 << draw.randrange(8)
    return content


def cut(content: bytearray, draw: random.Random, _: list[bytes]) -> bytearray:
    """Keep only the first part."""
    return content[: draw.randrange(len(content)) + 1]


def splice(content: bytearray, draw: random.Random, clips: list[bytes]) -> bytearray:
    """Go on with the end of another clip."""
    other = draw.choice(clips)
    return content[: draw.randrange(len(content)) + 1] + other[draw.randrange(len(other)) :]


def zero(content: bytearray, draw: random.Random, _: list[bytes]) -> bytearray:
    """Zero a block."""
    begin, end = block(content, draw)
    content[begin:end] = bytes(end - begin)
    return content


def scramble(content: bytearray, draw: random.Random, _: list[bytes]) -> bytearray:
    """Replace a block by noise."""
    begin, end = block(content, draw)
    content[begin:end] = draw.randbytes(end - begin)
    return content


def swap(content: bytearray, draw: random.Random, _: list[bytes]) -> bytearray:
    """Let two neighbouring blocks change places."""
    first, middle, last = sorted(draw.randrange(len(content)) for _ in range(3))
    return content[:first] + content[middle:last] + content[first:middle] + content[last:]


def repeat(content: bytearray, draw: random.Random, _: list[bytes]) -> bytearray:
    """Repeat a block."""
    begin, end = block(content, draw)
    return content[:end] + content[begin:end] * draw.choice((1, 3)) + content[end:]


def exaggerate(content: bytearray, draw: random.Random, _: list[bytes]) -> bytearray:
    """Put extreme numbers where headers are."""
    extreme = draw.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFF, 0x10000))
    begin = draw.randrange(max(min(len(content) - 4, 1024), 1))
    content[begin : begin + 4] = struct.pack(draw.choice("<>") + "I", extreme)
    return content


def swap_boxes(content: bytearray, draw: random.Random, _: list[bytes]) -> bytearray:
    """Let two boxes of an MP4 file change places, of another file the halves."""
    boxes = boxes_of(content)
    if len(boxes) < 2:
        half = len(content) // 2
        return content[half:] + content[:half]
    (a, b), (c, d) = sorted(draw.sample(boxes, 2))
    if b > c:  # one lies in the other: leave only the inner one
        return content[:a] + content[c:d] + content[b:]
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def lie_about_size(content: bytearray, draw: random.Random, clips: list[bytes]) -> bytearray:
    """Change the size of a box of an MP4 file."""
    boxes = boxes_of(content)
    if not boxes:
        return exaggerate(content, draw, clips)
    begin, end = draw.choice(boxes)
    size = draw.choice((0, 1, 7, 8, 2 * (end - begin), end - begin - 1, 0x7FFFFFFF, 0xFFFFFFFF))
    content[begin : begin + 4] = struct.pack(">I", size)
    return content


def block(content: bytearray, draw: random.Random) -> tuple[int, int]:
    """Return the ends of a block of up to 4 kB."""
    begin = draw.randrange(len(content))
    return begin, min(begin + draw.choice((4, 64, 512, 4096)), len(content))


def boxes_of(content: bytearray) -> list[tuple[int, int]]:
    """Return where the boxes of an MP4 file lie that are known to hold boxes, or lie in those."""
    found, parents = [], [(0, len(content))]
    while parents:
        begin, end = parents.pop()
        while begin + 8 <= end:
            size, name = struct.unpack_from(">I4s", content, begin)
            if size < 8 or begin + size > end or not name.isalnum():
                break
            found.append((begin, begin + size))
            if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts"):
                parents.append((begin + 8, begin + size))
            begin += size
    return found


MUTATIONS = {
    "flip": flip_bits,
    "header": flip_header,
    "cut": cut,
    "splice": splice,
    "zero": zero,
    "scramble": scramble,
    "swap": swap,
    "repeat": repeat,
    "extreme": exaggerate,
    "boxes": swap_boxes,
    "size": lie_about_size,
}
