"""Items that a thread takes ahead from a generator that may never give one."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

_READY = 2
_CLOSING_S = 10.0

_Item = TypeVar("_Item")
_Jobs = SimpleQueue["tuple[Future[Any], Callable[[], Any]] | None"]


class TakenAhead(Generic[_Item]):
    """Takes items ahead, in order; who wants one waits for a bounded time.

    Args:
        made: The items.
        interrupt: Makes ``made`` end where it waits; called when no more items are wanted.
    """

    def __init__(self, made: Generator[_Item, None, None], interrupt: Callable[[], None]) -> None:
        self._made = made
        self._interrupt = interrupt
        self._jobs: _Jobs = SimpleQueue()
        # The interpreter waits at its exit for threads of pools, and never for this one.
        threading.Thread(target=_work, args=(self._jobs,), name="feed", daemon=True).start()
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
        closed = self._submit(self._made.close)
        self._jobs.put(None)
        with contextlib.suppress(TimeoutError):
            closed.result(_CLOSING_S)

    def _take(self) -> Future[_Item | None]:
        """Have one more item taken."""
        return self._submit(lambda: next(self._made, None))

    def _submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Have the thread call something after all that it was given before."""
        future: Future[Any] = Future()
        self._jobs.put((future, call))
        return future


def _work(jobs: _Jobs) -> None:
    """Do jobs one after the other, until there is None."""
    while (job := jobs.get()) is not None:
        _do(*job)
        del job  # it holds an item


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    """Do a job that nobody took back."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001  # it is of who wants the item
        future.set_exception(error)
