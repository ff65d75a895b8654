"""Tests of reading a span of a long file: the same result from a part of the bytes."""

import functools
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_media import SIDE, Sound, Video, write

from mke_ray.data import media
from mke_ray.data.media import decode_clip
from mke_ray.data.places import Places
from mke_ray.data.ranges import RangeFile
from mke_ray.data.video_reader import WHOLE_BYTES, VideoReader
from mke_ray.errors import MediaError
from mke_ray.schema import AudioSpec, ManifestRow, VideoSpec
from mke_ray.storage import Root

SPEC = {"video": VideoSpec(6, SIDE, SIDE), "audio": AudioSpec(8000, 2.0)}
SECONDS = 60
GROUPS = {"preset": "ultrafast", "g": "20", "bf": "2"}
NOISY = {"preset": "ultrafast", "g": "20", "crf": "1"}


def row_of(content, start_s, end_s, key="clip.mp4"):
    return ManifestRow(7, "u", key, len(content), "", start_s, end_s, "g", "unlabeled", None)


@functools.cache
def long_clip(container="mp4", faststart=True):
    """Return a minute of video with sound."""
    options = {"movflags": "faststart"} if faststart and container == "mp4" else {}
    video = Video(SECONDS * 10, options=GROUPS)
    if container == "avi":
        video = Video(SECONDS * 10, "mpeg4", {"g": "20"})
    codec = {"avi": "libmp3lame", "webm": "libopus"}.get(container, "aac")
    rate_hz = 48000 if codec == "libopus" else 44100
    return write(
        video, Sound(SECONDS, codec=codec, rate_hz=rate_hz), container=container, options=options
    )


@pytest.fixture(scope="module")
def noisy_clip():
    """Return a minute of video that does not compress."""
    rng = np.random.default_rng(0)
    levels = tuple(rng.integers(0, 255, (SECONDS * 10, 48, 64, 3), np.uint8))
    return write(Video(SECONDS * 10, options=NOISY, levels=levels), Sound(SECONDS))


def same(left, right):
    return all(np.array_equal(left.arrays[name], right.arrays[name]) for name in SPEC)


@pytest.mark.parametrize(
    ("container", "faststart"),
    [
        ("mp4", True),
        ("mp4", False),
        ("matroska", True),
        ("mpegts", True),
        ("avi", True),
        ("mov", True),
    ],
)
@pytest.mark.parametrize(
    ("start_s", "end_s"), [(0.5, 2.5), (31.05, 33.05), (58.0, 60.0), (20.0, 21.3)]
)
def test_a_span_is_the_same_read_from_before_it_or_from_the_beginning(
    container, faststart, start_s, end_s, monkeypatch
):
    content = long_clip(container, faststart)
    part = decode_clip(content, SPEC, start_s=start_s, end_s=end_s)
    monkeypatch.setattr(media, "leads_s", lambda span: [None])
    whole = decode_clip(content, SPEC, start_s=start_s, end_s=end_s)
    assert same(part, whole)
    assert part.num_valid == whole.num_valid


def test_a_late_span_is_not_read_from_the_beginning():
    part = decode_clip(long_clip(), SPEC, start_s=50.0, end_s=52.0)
    whole = decode_clip(long_clip(), SPEC)
    assert part.num_bytes_needed < 0.15 * whole.num_bytes_needed
    assert whole.num_bytes_needed <= len(long_clip())


def test_a_reader_fetches_a_part_of_a_long_file(noisy_clip, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(noisy_clip)
    assert len(noisy_clip) > 2 * WHOLE_BYTES
    reader = VideoReader(Places(str(tmp_path)), SPEC)
    part = reader.read(row_of(noisy_clip, 30.0, 32.0))
    assert same(part, decode_clip(noisy_clip, SPEC, start_s=30.0, end_s=32.0))
    assert part.num_bytes_needed < part.num_bytes_read < len(noisy_clip) / 4


def test_a_reader_fetches_all_where_most_is_wanted(noisy_clip, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(noisy_clip)
    reader = VideoReader(Places(str(tmp_path)), SPEC)
    assert reader.read(row_of(noisy_clip, None, None)).num_bytes_read == len(noisy_clip)
    most = reader.read(row_of(noisy_clip, 5.0, 55.0))
    assert len(noisy_clip) <= most.num_bytes_read < 1.1 * len(noisy_clip)


def test_a_store_that_fails_in_the_middle_is_no_bad_clip(noisy_clip, tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(noisy_clip)
    fetched = []

    def failing(self, name, begin, end):
        fetched.append((begin, end))
        if len(fetched) > 2:
            raise ConnectionError("the store went away")
        return noisy_clip[begin:end]

    monkeypatch.setattr(Root, "read_range", failing)
    reader = VideoReader(Places(str(tmp_path)), SPEC)
    with pytest.raises(ConnectionError, match="went away"):
        reader.read(row_of(noisy_clip, 30.0, 32.0))


def test_a_missing_file_is_named(noisy_clip, tmp_path):
    reader = VideoReader(Places(str(tmp_path)), SPEC)
    for span in ((None, None), (30.0, 32.0)):
        with pytest.raises(MediaError, match=r"missing_file.*gone\.mp4"):
            reader.read(row_of(noisy_clip, *span, key="gone.mp4"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 200_000)), max_size=12))
def test_a_range_file_reads_like_a_file_in_memory(reads):
    content = np.random.default_rng(0).integers(0, 256, 345_678, np.uint8).tobytes()
    plain = io.BytesIO(content)
    part = RangeFile(lambda begin, end: content[begin:end], len(content), max_bytes=1 << 30)
    for offset, size in reads:
        assert part.seek(offset) == plain.seek(offset)
        assert part.read(size) == plain.read(size)
        assert part.tell() >= min(plain.tell(), len(content))
    assert part.seek(-5, io.SEEK_END) == plain.seek(-5, io.SEEK_END)
    assert part.read() == plain.read()
    assert part.num_bytes_read <= len(content)


def test_reading_on_takes_few_requests():
    requests = []

    def fetch(begin, end):
        requests.append(end - begin)
        return bytes(end - begin)

    file = RangeFile(fetch, 16 << 20, max_bytes=1 << 30)
    while file.read(32768):
        pass
    assert len(requests) < 16
    assert sum(requests) == 16 << 20


def test_a_range_file_has_an_end_to_what_it_fetches():
    file = RangeFile(lambda begin, end: bytes(end - begin), 16 << 20, max_bytes=1 << 20)
    with pytest.raises(MediaError, match="too_large"):
        file.read()
