"""What a span of a long file costs to fetch: range reads against the whole object.

    OMP_NUM_THREADS=1 python benchmarks/ranges.py [--root s3://bucket/prefix]

A file of 60 s is written to the root in several containers, and spans of 2 s at several places of
it are read: 8 frames of 112 x 112 pixels and 16 kHz mono sound. Bytes fetched are given as a share
of the file, beside the bytes of the packets that hold the span; the time is that of the clock, of a
whole fetch and of range reads. AWS_ENDPOINT_URL and the usual variables name a bucket's server.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from mke_ray.data import video_reader
from mke_ray.data.places import Places
from mke_ray.data.video_reader import VideoReader
from mke_ray.schema import AudioSpec, ManifestRow, VideoSpec
from mke_ray.storage import open_root

SPEC = {"video": VideoSpec(8, 112, 112), "audio": AudioSpec(16000, 2.0)}
SECONDS, RATE_HZ = 60, 25
STARTS_S = (1.0, 17.3, 31.05, 44.4, 58.0)
CONTAINERS = {
    "mp4, index first": ("mp4", {"movflags": "faststart"}),
    "mp4, index last": ("mp4", {}),
    "matroska": ("matroska", {}),
    "transport stream": ("mpegts", {}),
}


def main() -> None:
    """Print shares and times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", help="by default a temporary folder, where only shares count")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "clip.mp4")
        encode(source)
        compare(options.root or folder, source)


def compare(uri: str, source: Path) -> None:
    """Print a line for every container."""
    root, reader = open_root(uri), VideoReader(Places(uri), SPEC)
    for name, (container, muxer) in CONTAINERS.items():
        content = remux(source, container, muxer)
        root.write("clip", content)
        row = ManifestRow(0, "u", "clip", len(content), "", 0.0, 0.0, "g", "unlabeled", None)
        rows = [replace(row, start_s=start_s, end_s=start_s + 2.0) for start_s in STARTS_S]
        read, needed, part_s = measure(reader, rows)
        video_reader.WHOLE_BYTES, kept = len(content), video_reader.WHOLE_BYTES
        _, _, whole_s = measure(reader, rows)
        video_reader.WHOLE_BYTES = kept
        print(
            f"{name:<18} {len(content) / 1e6:6.2f} MB  fetched {spread(read, len(content))}  "
            f"needed {spread(needed, len(content))}  "
            f"seconds {statistics.median(part_s):.3f} by ranges, "
            f"{statistics.median(whole_s):.3f} whole"
        )


def measure(
    reader: VideoReader, rows: list[ManifestRow]
) -> tuple[list[int], list[int], list[float]]:
    """Return bytes fetched, bytes needed and seconds of each span."""
    read, needed, seconds = [], [], []
    for row in rows:
        begin_s = time.perf_counter()
        decoded = reader.read(row)
        seconds.append(time.perf_counter() - begin_s)
        read.append(decoded.num_bytes_read)
        needed.append(decoded.num_bytes_needed)
    return read, needed, seconds


def encode(path: Path) -> None:
    """Write a minute of moving noise at some 2 Mbit/s, with sound."""
    with av.open(str(path), mode="w", format="mp4") as output:
        video = output.add_stream("libx264", rate=RATE_HZ)
        video.height, video.width, video.pix_fmt = 240, 320, "yuv420p"
        video.options = {"preset": "ultrafast", "g": "50", "b": "2000000", "threads": "1"}
        audio = output.add_stream("aac", rate=44100, layout="stereo")
        for picture in pictures():
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        rng = np.random.default_rng(0)
        sound_CN = rng.normal(0, 0.1, (2, SECONDS * 44100)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(sound_CN, "fltp", "stereo")
        frame.sample_rate = 44100
        output.mux([*video.encode(None), *audio.encode(frame), *audio.encode(None)])


def remux(source: Path, container: str, options: dict[str, str]) -> bytes:
    """Return the same streams in another container."""
    path = source.with_suffix(".other")
    with (
        av.open(str(source)) as content,
        av.open(str(path), mode="w", format=container, options=options) as output,
    ):
        streams = {s.index: output.add_stream_from_template(s) for s in content.streams}
        for packet in content.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                output.mux(packet)
    return path.read_bytes()


def pictures() -> Iterator[np.ndarray]:
    """Yield frames of a texture that moves."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (300, 640, 3), np.uint8)
    for k in range(SECONDS * RATE_HZ):
        left = k % 300
        yield np.ascontiguousarray(texture[k % 50 : k % 50 + 240, left : left + 320] // 4 * 4)


def spread(values: list[int], total: int) -> str:
    """Return least, median and greatest as shares."""
    least, middle, greatest = min(values), statistics.median(values), max(values)
    return f"min {least / total:.1%} median {middle / total:.1%} max {greatest / total:.1%}"


if __name__ == "__main__":
    main()
