"""Cutting long videos by their headers, which are read in processes of their own."""

import os
import signal

import pytest
from media_files import write_clip

from mke_ray.data import header_process, headers
from mke_ray.data.videos import VideosSource
from mke_ray.errors import MediaError


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
    command = "from test_cutting_long_videos import serve_hostile; serve_hostile()"
    monkeypatch.setattr(header_process, "_COMMAND", command)
    rows = list(VideosSource(str(tmp_path), ["x", "y"], clip_seconds=2.0).rows())
    assert [(row.key[-5], row.start_s, row.end_s) for row in rows] == [
        ("a", None, None),
        ("b", None, None),
    ]
    assert "2 files are not cut" in caplog.text and "unlabeled/a.mp4: it ended" in caplog.text
