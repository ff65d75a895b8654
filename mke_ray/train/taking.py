"""Items that a thread takes ahead from a generator that may never give one."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

_READY = 2
_CLOSING_S = 10.0

_Item = TypeVar("_Item")


class TakenAhead(Generic[_Item]):
    """Takes items ahead, in order; who wants one waits for a bounded time.

    Args:
        made: The items.
        interrupt: Makes ``made`` end where it waits; called when no more items are wanted.
    """

    def __init__(self, made: Generator[_Item, None, None], interrupt: Callable[[], None]) -> None:
        self._made = made
        self._interrupt = interrupt
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._taking: deque[Future[_Item | None]] = deque(self._take() for _ in range(_READY))

    def next(self, timeout_s: float) -> _Item | None:
        """Return the next item, None after the last one.

        Raises:
            TimeoutError: There was none in time.
        """
        item = self._taking[0].result(timeout_s)
        self._taking.popleft()
        self._taking.append(self._take())
        return item

    def close(self) -> None:
        """End what makes the items; a thread that cannot be ended is left behind."""
        for one in self._taking:
            one.cancel()
        self._interrupt()
        closed = self._pool.submit(self._made.close)
        with contextlib.suppress(TimeoutError):
            closed.result(_CLOSING_S)
        self._pool.shutdown(wait=False)

    def _take(self) -> Future[_Item | None]:
        """Have one more item taken."""
        return self._pool.submit(next, self._made, None)
