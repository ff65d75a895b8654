"""Samples are fetched while others are decoded, and no more are decoded than there are CPUs."""

import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from mke_ray.data.cpu_slots import waiting
from mke_ray.data.sources import Decoded, FetchesApart
from mke_ray.data.video_reader import VideoReader
from mke_ray.errors import MediaError
from mke_ray.labels import row_pool
from mke_ray.labels.row_pool import RowPool
from mke_ray.schema import decode_spec_from_dict

SPEC = decode_spec_from_dict({"x": {"kind": "features", "num_features": 1}})
WAIT_S = 10.0


def row(number, size=1):
    return SimpleNamespace(
        key=str(number), mark="", size=size, sample_id=number, start_s=None, end_s=None
    )


def decoded(number):
    return Decoded({"x": np.array([number], np.float32)}, {})


@dataclass
class Reading:
    """Counts who is at what; a subclass reads."""

    num_decoding: int = 0
    most_decoding: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def decode(self, number):
        with self.lock:
            self.num_decoding += 1
            self.most_decoding = max(self.most_decoding, self.num_decoding)
        time.sleep(0.002)
        with self.lock:
            self.num_decoding -= 1
        return decoded(number)


class FetchingReader(Reading):
    """A reader that decodes nothing before some samples were fetched.

    Args:
        num_first: So many of them.
    """

    fetches_apart = True

    def __init__(self, num_first=4):
        super().__init__()
        self.num_fetched = 0
        self.num_first = num_first
        self.is_enough = threading.Event()

    def read(self, row):
        with waiting(), self.lock:
            self.num_fetched += 1
            if self.num_fetched == self.num_first:
                self.is_enough.set()
        assert self.is_enough.wait(WAIT_S)
        return self.decode(int(row.key))


class WholeReader(Reading):
    def read(self, row):
        with waiting():
            return self.decode(int(row.key))


def read_all(reader, num_rows, *, num_threads=1, size=1):
    pool = RowPool(reader, SPEC, num_threads)
    found = [pool.submit(row(number, size)) for number in range(num_rows)]
    return [one.result(WAIT_S) for one in found]


def test_the_next_samples_are_fetched_while_one_is_decoded():
    reader = FetchingReader()
    rows = read_all(reader, 12)
    assert [np.frombuffer(one.pieces["x"][0], "<f4")[0] for one in rows] == list(range(12))
    assert reader.most_decoding == 1


def test_as_many_are_decoded_at_once_as_there_are_cpus():
    reader = FetchingReader(12)
    read_all(reader, 40, num_threads=3)
    assert 1 < reader.most_decoding <= 3


def test_a_reader_that_says_nothing_is_called_in_no_more_threads_than_ever():
    reader = WholeReader()
    read_all(reader, 8)
    assert reader.most_decoding == 1
    assert not isinstance(reader, FetchesApart)
    assert "fetches_apart" in VideoReader.__dataclass_fields__


def test_a_broken_sample_leaves_its_cpu_to_the_next():
    class Broken:
        fetches_apart = True

        def read(self, row):
            with waiting():
                raise MediaError("truncated", row.key)

    assert [one.error for one in read_all(Broken(), 3)] == [f"truncated: {n}" for n in range(3)]


def test_large_objects_are_not_held_ahead(monkeypatch):
    monkeypatch.setattr("test_row_pool.WAIT_S", 0.3)
    monkeypatch.setattr(row_pool, "_AHEAD_BYTES", 16)
    assert len(read_all(FetchingReader(2), 4, size=8)) == 4
    with pytest.raises((AssertionError, TimeoutError)):
        read_all(FetchingReader(3), 4, size=8)
