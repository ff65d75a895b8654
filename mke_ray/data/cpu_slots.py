"""CPUs for threads that decode; one that waits for its store leaves its CPU to another."""

import contextlib
import threading
from collections.abc import Iterator

_of_thread = threading.local()


class CpuSlots:
    """As many threads compute at once as there are slots; further ones wait.

    Args:
        number: Number of slots.
    """

    def __init__(self, number: int) -> None:
        self._slots = threading.Semaphore(number)

    @contextlib.contextmanager
    def used(self, *, fetches_first: bool) -> Iterator[None]:
        """Hold a slot for a block, but for the blocks of ``waiting`` in it.

        Args:
            fetches_first: Whether the block begins with a request to a store, so that it needs no
                slot before the answer.
        """
        slot = _Slot(self._slots)
        if not fetches_first:
            slot.take()
        _of_thread.slot = slot
        try:
            yield
        finally:
            _of_thread.slot = None
            slot.leave()


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Leave the slot of this thread, if it has one, to another thread for a block.

    For a reader around each request to its store; see ``FetchesApart``.
    """
    slot: _Slot | None = getattr(_of_thread, "slot", None)
    if slot is None:
        yield
        return
    slot.leave()
    try:
        yield
    finally:
        slot.take()


class _Slot:
    """The slot of one thread."""

    def __init__(self, slots: threading.Semaphore) -> None:
        self._slots = slots
        self._is_taken = False

    def take(self) -> None:
        self._slots.acquire()
        self._is_taken = True

    def leave(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._slots.release()
