"""Tests of listing by ranges: always what one page after another gives, with fewer waits."""

import bisect
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mke_ray.data import key_ranges
from mke_ray.data.key_ranges import Entry, KeySpace, Page, list_in_order


def whole_key(key):
    return key


def folder_by_folder(key):
    return key.replace("/", "\0")  # as SeaweedFS sorts


class Store:
    """Keys in pages, as a store gives them; counts what it is asked."""

    def __init__(self, keys, *, order=whole_key, page_keys=1000, latency_s=0.0):
        self.keys = sorted(keys, key=order)
        self.order, self.page_keys, self.latency_s = order, page_keys, latency_s
        self.num_calls = self.num_at_once = self.most_at_once = 0
        self._ranks = [order(key) for key in self.keys]
        self._lock = threading.Lock()

    def page(self, after):
        with self._lock:
            self.num_calls += 1
            self.num_at_once += 1
            self.most_at_once = max(self.most_at_once, self.num_at_once)
        time.sleep(self.latency_s)
        with self._lock:
            self.num_at_once -= 1
        begin = bisect.bisect_right(self._ranks, self.order(after)) if after else 0
        end = begin + self.page_keys
        return Page([Entry(key, 1, "") for key in self.keys[begin:end]], end >= len(self.keys))

    def listed(self, after="", **keys):
        return [entry.key for entry in list_in_order(self.page, after, **keys)]


LAYOUTS = {
    "numbers": [f"v/clip-{number:08d}.mp4" for number in range(40_000)],
    "numbers without zeros": [f"v/{number}.mp4" for number in range(40_000)],
    "hashes": [f"v/{number * 2654435761 % 2**32:08x}.mp4" for number in range(40_000)],
    "a folder each": [f"v/{number:06d}/{name}" for number in range(20_000) for name in "ab"],
    "dates": [
        f"v/2024/{month:02d}/{day:02d}/{number:04d}.mp4"
        for month in range(1, 11)
        for day in range(1, 29)
        for number in range(140)
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_are_asked_for_side_by_side_and_few_in_vain(layout):
    store = Store(LAYOUTS[layout], latency_s=0.002)
    assert store.listed() == store.keys
    assert store.most_at_once >= 4
    assert store.num_calls < 3 * len(store.keys) / 1000


@settings(max_examples=150, deadline=None)
@given(
    keys=st.sets(st.text("ab01/-.é", min_size=1, max_size=6), max_size=120),
    order=st.sampled_from([whole_key, folder_by_folder]),
    page_keys=st.integers(1, 7),
    resumed_at=st.floats(0, 1),
)
def test_the_order_is_the_store_s_whatever_is_guessed(keys, order, page_keys, resumed_at):
    store = Store(keys, order=order, page_keys=page_keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_ranges, "PAGE_KEYS", page_keys)
        assert store.listed(num_threads=3) == store.keys
        if store.keys:
            done = int(resumed_at * (len(store.keys) - 1))
            assert store.listed(store.keys[done], num_threads=3) == store.keys[done + 1 :]


def test_nothing_is_lost_where_a_folder_hides_behind_its_own_name():
    class Odd(Store):
        """A store in which StartAfter with the name of a folder skips the folder (SeaweedFS)."""

        def page(self, after):
            return super().page(f"{after}/\U0010ffff" if f"{after}/a" in names else after)

    names = {f"v/{number:05d}/a" for number in range(30_000)}
    store = Odd(names, order=folder_by_folder)
    assert store.listed() == store.keys


def test_one_reader_that_pauses_makes_nobody_list_on():
    store = Store(LAYOUTS["numbers"] + [f"w/{number:08d}" for number in range(200_000)])
    listing = list_in_order(store.page, num_threads=2)
    for _ in range(30_000):
        next(listing)
    for _ in range(100):
        before = store.num_calls
        time.sleep(0.02)
        if store.num_calls == before:
            break
    assert store.num_calls < 30 + 3 * 2 * key_ranges.PAGES_PER_RANGE
    listing.close()


def test_an_error_of_the_store_reaches_the_reader():
    store = Store(LAYOUTS["numbers"])

    def page(after):
        if after > "v/clip-00020000":
            raise OSError("no answer")
        return store.page(after)

    with pytest.raises(OSError, match="no answer"):
        list(list_in_order(page))


def test_a_space_of_keys_counts_in_the_characters_that_are_there():
    space = KeySpace.of([f"v/{number:06d}.mp4" for number in range(1000)])
    assert space.key(space.number("v/000999.mp4") + 1) == "v/001000"
    assert space.key(space.number("v/999999.mp4") + 1) is None
