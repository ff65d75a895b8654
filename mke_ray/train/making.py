"""Batches made ahead of the loop by threads of this process, yielded in the order of the plan."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from mke_ray.train.batches import BatchMaker, FeedItem
from mke_ray.train.copying import pinned
from mke_ray.train.feeding import Ahead
from mke_ray.train.fetching import UnitsAhead

_LEAST_FETCHERS = 2


class ThreadSource:
    """Makes the batches of one rank in threads; what they raise is raised where it is wanted.

    Args:
        maker: Makes a batch.
        ahead: How much is done ahead.
    """

    def __init__(self, maker: BatchMaker, ahead: Ahead) -> None:
        self._maker = maker
        self._ahead = ahead

    def items(self, start: int, stop: int) -> Generator[FeedItem, None, None]:
        """Yield one rank's part of the global batches from start to stop, in order."""
        num_threads = self._ahead.num_threads
        units = UnitsAhead(
            self._maker,
            start,
            stop,
            num_threads=max(num_threads, _LEAST_FETCHERS),
            most_batches=self._maker.batches_per_window + num_threads,
        )
        pool = ThreadPoolExecutor(num_threads, thread_name_prefix="feed")
        try:
            for item in self._in_order(pool, start, stop):
                units.reached(item.cursor)
                yield item
        finally:
            units.close()
            pool.shutdown(cancel_futures=True)

    def _in_order(
        self, pool: ThreadPoolExecutor, start: int, stop: int
    ) -> Generator[FeedItem, None, None]:
        """Yield what threads make, in the order of the plan."""
        making: deque[Future[FeedItem]] = deque()
        failed: list[Exception] = []
        cursor, batch_bytes = start, 0
        while cursor < stop or making:
            while cursor < stop and len(making) < self._ahead.depth(batch_bytes):
                making.append(pool.submit(self._item, cursor, failed))
                cursor += 1
            item = making.popleft().result()
            batch_bytes = item.batch.num_bytes
            yield item

    def _item(self, cursor: int, failed: list[Exception]) -> FeedItem:
        """Make one batch, pinned where that is of use; none after one that failed.

        The loop may meet a batch that was not begun before the one that failed, and so raises the
        first error for either.
        """
        if failed:
            raise failed[0]
        try:
            item = self._maker.item(cursor)
        except Exception as error:  # whatever it is, the loop gets it for every later batch
            failed.append(error)
            raise
        return replace(item, batch=pinned(item.batch, self._ahead.device))
