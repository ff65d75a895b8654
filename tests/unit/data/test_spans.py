"""Tests of cutting long videos into clips by what their headers say."""

import errno

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from mke_ray.data import headers
from mke_ray.data.packets import Span
from mke_ray.data.places import Places
from mke_ray.data.spans import ClipCutter
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError


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


def test_numbers_that_make_no_sense_are_named(tmp_path):
    for keys, name in (
        ({"clip_seconds": 0.0}, "clip_seconds=0.0"),
        ({"clip_seconds": 2.0, "stride_seconds": -1.0}, "stride_seconds=-1.0"),
        ({"stride_seconds": 1.0}, r"stride_seconds=1.0 needs source\.clip_seconds"),
    ):
        with pytest.raises(ConfigError, match=name):
            VideosSource(str(tmp_path), ["x", "y"], **keys).prepare()


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
