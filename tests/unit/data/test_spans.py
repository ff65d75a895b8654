"""Tests of cutting long videos into clips by what their headers say."""

import errno
import os
import signal

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from media_files import write_clip

from mke_ray.data import header_process, headers
from mke_ray.data.packets import Span
from mke_ray.data.places import Places
from mke_ray.data.spans import ClipCutter
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError, MediaError


def cutter(clip_s, stride_s=None):
    return ClipCutter(Places("/nowhere"), clip_s, stride_s or clip_s)


@pytest.mark.parametrize(
    ("clip_s", "stride_s", "duration_s", "spans"),
    [
        (10, None, 30, [(0, 10), (10, 20), (20, 30)]),
        (10, None, 24, [(0, 10), (10, 20)]),
        (10, None, 25, [(0, 10), (10, 20), (20, 25)]),
        (10, None, 3, [(0, 3)]),
        (10, 5, 22, [(0, 10), (5, 15), (10, 20), (15, 22)]),
        (10, 5, 20, [(0, 10), (5, 15), (10, 20)]),
        (2, 20, 45, [(0, 2), (20, 22), (40, 42)]),
        (0.1, None, 0.3, [(0, 0.1), (0.1, 0.2), (0.2, 0.3)]),
    ],
)
def test_spans_follow_the_stride_and_a_short_rest_is_dropped(clip_s, stride_s, duration_s, spans):
    assert cutter(clip_s, stride_s).spans(duration_s) == [Span(*one) for one in spans]


@given(clip_s=st.floats(0.1, 50), stride_s=st.floats(0.1, 50), duration_s=st.floats(0.001, 500))
def test_every_span_lies_in_the_video_and_none_but_the_only_one_is_short(
    clip_s, stride_s, duration_s
):
    spans = cutter(clip_s, stride_s).spans(duration_s)
    assert spans and spans[0].start_s == 0
    for span in spans:
        assert span.start_s <= span.end_s <= duration_s + 1e-3
        assert len(spans) == 1 or span.length_s >= clip_s / 2 - 1e-3


@pytest.fixture(autouse=True)
def few_processes(monkeypatch):
    monkeypatch.setattr("mke_ray.data.videos._NUM_HEADER_THREADS", 1)


def folder_of_videos(tmp_path):
    folder = tmp_path / "unlabeled"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(write_clip(num_frames=9, rate_hz=2, sound_s=4.5))
    (folder / "b.mp4").write_bytes(b"no video")
    (folder / "c.mp4").write_bytes(write_clip(num_frames=4, rate_hz=2, sound_s=2.0))
    return VideosSource(str(tmp_path), ["x", "y"], clip_seconds=2.0)


def test_long_videos_become_rows_of_one_group_and_unreadable_ones_stay_whole(tmp_path):
    rows = list(folder_of_videos(tmp_path).rows())
    assert [(row.key[-5], row.start_s) for row in rows] == [
        ("a", 0.0),
        ("a", 2.0),
        ("b", None),
        ("c", 0.0),
    ]
    assert [row.end_s for row in rows] == [2.0, 4.0, None, pytest.approx(2.0, abs=0.1)]
    assert {row.group for row in rows[:2]} == {"unlabeled/a.mp4"}
    assert rows[0].size == rows[1].size > 0 and rows[0].etag == rows[1].etag


def test_cutting_goes_on_in_the_middle_of_a_video_also_when_it_is_gone(tmp_path):
    source = folder_of_videos(tmp_path)
    rows = list(source.rows())
    for done, row in enumerate(rows, start=1):
        assert list(source.rows(after=row.cursor)) == rows[done:]
    (tmp_path / "unlabeled/a.mp4").unlink()
    again = source.rows(after=rows[0].cursor)
    assert [(row.key, row.start_s) for row in again] == [(row.key, row.start_s) for row in rows[2:]]


def test_a_span_of_the_table_is_kept_and_whole_files_are_cut(tmp_path):
    folder_of_videos(tmp_path)
    table = "uri,start_s,end_s\nunlabeled/a.mp4,0.5,4.2\nunlabeled/a.mp4,,\nunlabeled/gone.mp4,,\n"
    (tmp_path / "clips.csv").write_text(table)
    source = VideosSource(str(tmp_path), ["x", "y"], table="clips.csv", clip_seconds=2.0)
    spans = [(row.start_s, row.end_s) for row in source.rows()]
    assert spans == [(0.5, 4.2), (0.0, 2.0), (2.0, 4.0), (None, None)]


def test_numbers_that_make_no_sense_are_named(tmp_path):
    for keys, name in (
        ({"clip_seconds": 0.0}, "clip_seconds=0.0"),
        ({"clip_seconds": 2.0, "stride_seconds": -1.0}, "stride_seconds=-1.0"),
        ({"stride_seconds": 1.0}, r"stride_seconds=1.0 needs source\.clip_seconds"),
    ):
        with pytest.raises(ConfigError, match=name):
            VideosSource(str(tmp_path), ["x", "y"], **keys).prepare()


def hostile_open(file, limits):
    """Stand for a library that a header brings to its end; it lives in the header process."""
    content = file.read(8)
    if content == b"crash---":
        os.kill(os.getpid(), signal.SIGSEGV)
    while content == b"spin----":
        pass
    raise MediaError("unsupported", "no video")


def serve_hostile():
    """Serve as the header process whose library is hostile; its patience is short."""
    headers._MAX_BUSY_S = 0.5
    headers.open_container = hostile_open
    headers.main()


@pytest.mark.parametrize("content", [b"crash---", b"spin----"])
def test_a_header_that_ends_its_reader_leaves_that_file_whole(
    tmp_path, monkeypatch, caplog, content
):
    folder = tmp_path / "unlabeled"
    folder.mkdir()
    for name, one in (("a", content), ("b", b"no video")):
        (folder / f"{name}.mp4").write_bytes(one)
    command = "from test_spans import serve_hostile; serve_hostile()"
    monkeypatch.setattr(header_process, "_COMMAND", command)
    rows = list(VideosSource(str(tmp_path), ["x", "y"], clip_seconds=2.0).rows())
    assert [(row.key[-5], row.start_s, row.end_s) for row in rows] == [
        ("a", None, None),
        ("b", None, None),
    ]
    assert "2 files are not cut" in caplog.text and "unlabeled/a.mp4: it ended" in caplog.text


class Answers:
    """Reads headers that say one thing."""

    def __init__(self, header):
        self._header = header

    def read(self, places, key, size):
        return self._header


def test_a_header_declares_no_more_time_than_its_bytes_can_hold():
    long = ClipCutter(Places("/nowhere"), 10, 10, Answers(headers.Header(1e6)))
    assert long.cut("a.mp4", 25_000) == [Span(0, 10), Span(10, 20), Span(20, 25)]


def client_error(status):
    error = OSError(errno.EIO, "the store says no")
    error.__cause__ = ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")
    return error


@pytest.mark.parametrize(
    ("error", "is_of_store"),
    [
        (PermissionError("archived"), False),
        (client_error(403), False),
        (client_error(429), True),
        (client_error(503), True),
        (TimeoutError("silent"), True),
    ],
)
def test_an_error_of_one_object_leaves_it_whole_and_one_of_the_store_stops(
    monkeypatch, error, is_of_store
):
    def refuse(*_):
        raise error

    monkeypatch.setattr(headers, "_declared_duration_s", refuse)
    header = headers.read_header(Places("/nowhere"), "a.mp4", 9)
    assert header.duration_s is None and (header.failure is not None) == is_of_store
    assert "Error" in header.why
