"""Units come in their order, whoever is first, and no more are held than allowed."""

import threading
import time

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.unit_reading import read_in_order

REFS = [UnitRef(f"u{number:02d}", "part", number, "test", 1) for number in range(10)]


def test_units_come_in_order_and_no_more_are_read_ahead_than_allowed():
    begun, said, lock = [], [], threading.Lock()

    def read(ref):
        with lock:
            begun.append(ref.unit)
        time.sleep(0.01 * (10 - ref.row_group) / 10)  # the last is the quickest
        return ref.row_group

    found = read_in_order(iter(REFS), read, num_threads=4, units_at_once=4, progress=said.append)
    assert next(found) == 0
    assert set(begun) <= {one.unit for one in REFS[:4]}
    assert list(found) == list(range(1, 10))
    assert said == [4, 8, 10]
