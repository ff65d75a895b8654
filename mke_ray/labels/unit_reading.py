"""Units read by several threads and handed on in their order, some of them at a time."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mke_ray.batching import batched
from mke_ray.data.manifest import UnitRef

_Read = TypeVar("_Read")


def read_in_order(
    refs: Iterable[UnitRef],
    read: Callable[[UnitRef], _Read],
    *,
    num_threads: int = 8,
    units_at_once: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Iterator[_Read]:
    """Yield what is read of every unit; memory does not grow with their number.

    Args:
        refs: The units.
        read: Reads one; called by any of the threads.
        num_threads: Threads.
        units_at_once: Units that are held at a time.
        progress: Called with the number of units handed on so far.
    """
    num_read = 0
    with ThreadPoolExecutor(num_threads) as pool:
        for some in batched(refs, units_at_once):
            yield from pool.map(read, some)
            num_read += len(some)
            if progress is not None:
                progress(num_read)
