"""Units of the batches to come, fetched into memory while earlier batches are decoded."""

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from mke_ray.train.batches import BatchMaker

_SHARE_AHEAD = 4  # this part of the memory for units may hold what is not wanted yet


class UnitsAhead:
    """Fetches the units of coming batches, no more than a quarter of the memory for units.

    It never fails: a unit that cannot be fetched is asked for again by whoever wants its rows, who
    then meets the error. Until that went well nothing more is fetched, so that nobody waits for a
    dead store a second time.

    Args:
        maker: Makes the batches.
        start: First batch to come.
        stop: The batch to stop before.
        num_threads: Units fetched at a time.
        most_batches: How far to look ahead, so that the plan's windows need no second computing.
    """

    def __init__(
        self, maker: BatchMaker, start: int, stop: int, *, num_threads: int, most_batches: int
    ) -> None:
        self._maker = maker
        self._cursors = range(start, stop)
        self._num_threads = num_threads
        self._most_batches = most_batches
        self._most_bytes = maker.reader.cache_bytes // _SHARE_AHEAD
        self._ahead: deque[tuple[int, int]] = deque()  # first batch that wants a unit, its bytes
        self._changed = threading.Condition()
        self._num_pending = 0
        self._reached = start - 1
        self._is_closed = False
        self._has_failed = False
        self._pool = ThreadPoolExecutor(num_threads + 1, thread_name_prefix="feed-fetch")
        self._pool.submit(self._scout)

    def reached(self, cursor: int) -> None:
        """Take note that the batches up to one are no longer to come."""
        with self._changed:
            self._reached, self._has_failed = cursor, False
            while self._ahead and self._ahead[0][0] <= cursor:
                self._ahead.popleft()
            self._changed.notify_all()

    def close(self) -> None:
        """Stop fetching."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)

    def _scout(self) -> None:
        """Go through the batches to come, and have units fetched that are not in memory.

        After an epoch of which every unit was in memory there is nothing left to look for.
        """
        in_memory = 0
        for cursor in self._cursors:
            missing = [one for one in self._maker.units(cursor) if self._is_missing(one[0])]
            in_memory = 0 if missing else in_memory + 1
            if in_memory > self._maker.plan.batches_per_epoch or not self._may_look(cursor):
                return
            for unit, targets in missing:
                if not self._may_fetch():
                    return
                self._pool.submit(self._fetch, cursor, unit, targets)

    def _is_missing(self, unit: str) -> bool:
        """Return whether a unit is not in memory."""
        return not self._maker.reader.holds(unit)

    def _may_look(self, cursor: int) -> bool:
        """Wait until a batch is near enough; False when all is over."""
        with self._changed:
            while not self._is_closed and cursor > self._reached + self._most_batches:
                self._changed.wait()
            return not self._is_closed

    def _may_fetch(self) -> bool:
        """Wait until there is room for one more unit, and take it; False when all is over."""
        with self._changed:
            while not self._is_closed and (self._has_failed or self._is_full()):
                self._changed.wait()
            self._num_pending += 1
            return not self._is_closed

    def _is_full(self) -> bool:
        """Return whether one more unit like those ahead would be too much."""
        num_bytes = [size for _, size in self._ahead]
        coming = (self._num_pending + 1) * max(num_bytes, default=0)
        return self._num_pending >= self._num_threads or sum(num_bytes) + coming > self._most_bytes

    def _fetch(self, cursor: int, unit: str, targets: str) -> None:
        """Fetch one unit."""
        size, has_failed = 0, not self._is_closed
        try:
            if not self._is_closed:
                size = self._maker.reader.fetch(unit, targets)
                has_failed = False
        finally:
            with self._changed:
                self._num_pending -= 1
                self._has_failed |= has_failed
                if cursor > self._reached:
                    self._ahead.append((cursor, size))
                self._changed.notify_all()
