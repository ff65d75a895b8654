"""What one sample took, and how long it is."""

from types import SimpleNamespace

import numpy as np
import pytest
from label_fakes import DECODE

from mke_ray.data.sources import Decoded
from mke_ray.errors import MediaError
from mke_ray.labels import rows
from mke_ray.labels.rows import StoredRow, decode_row, fetch_share
from mke_ray.schema import ManifestRow, Status, decode_spec_from_dict
from mke_ray.storage import TRAFFIC

SPEC = decode_spec_from_dict(DECODE)
ARRAYS = {"x": np.zeros(2, np.float32), "y": np.zeros(1, np.float32)}


def row(start_s=None, end_s=None):
    return ManifestRow(1, "u", "k", -1, "", start_s, end_s, "g", "unlabeled", None)


class Slow:
    """A reader that waits 3 s of 10 for its files, on a clock of its own."""

    def __init__(self, monkeypatch, *, is_bad=False, duration_s=60.0):
        self._now_s, self._is_bad, self._duration_s = 0.0, is_bad, duration_s
        monkeypatch.setattr(rows, "time", SimpleNamespace(perf_counter=lambda: self._now_s))

    def read(self, row):
        self._now_s += 10.0
        TRAFFIC.reading_s += 3.0
        if self._is_bad:
            raise MediaError("truncated", "it ends")
        return Decoded(ARRAYS, {}, 10, self._duration_s)


@pytest.mark.parametrize("is_bad", [False, True])
def test_fetching_is_told_from_the_rest_also_of_a_bad_sample(monkeypatch, is_bad):
    stored = decode_row(Slow(monkeypatch, is_bad=is_bad), row(), SPEC)
    assert (stored.status == Status.BAD) == is_bad
    assert (stored.fetch_s, stored.spent_s) == (3.0, 10.0)


@pytest.mark.parametrize(
    ("start_s", "end_s", "length_s"),
    [(None, None, 60), (10.0, 25.0, 15), (50.0, 70.0, 10), (80.0, 90.0, 0), (5.0, None, 55)],
)
def test_a_span_is_as_long_as_its_part_of_the_file(monkeypatch, start_s, end_s, length_s):
    stored = decode_row(Slow(monkeypatch), row(start_s, end_s), SPEC)
    assert stored.duration_s == length_s


def test_the_share_of_fetching_counts_seconds_and_not_samples():
    def spent(fetch_s, spent_s):
        return StoredRow(Status.OK, None, {}, {}, fetch_s=fetch_s, spent_s=spent_s)

    assert fetch_share([spent(1.0, 2.0), spent(0.0, 8.0)]) == pytest.approx(0.1)
    assert fetch_share([]) == fetch_share([spent(0.0, 0.0)]) == 0.0
