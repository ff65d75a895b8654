"""Work done in threads some steps ahead of whoever takes the results, which keep their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_ahead(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    num_threads: int,
    outlives: bool = True,
) -> Iterator[_Result]:
    """Yield the results of a function in the order of its items.

    At most two items per thread are taken ahead, so memory does not grow with their number. What
    the function raises is raised where its result would have been yielded.

    Args:
        function: What to do with one item; called in several threads.
        items: The items; taken in the thread of the caller.
        num_threads: Number of threads.
        outlives: Whether work that was begun may go on behind the back of a caller that takes no
            more results; otherwise the end of this waits for it.
    """
    remaining = iter(items)
    pool = ThreadPoolExecutor(num_threads)
    try:
        pending: deque[Future[_Result]] = deque(
            pool.submit(function, item) for item in islice(remaining, 2 * num_threads)
        )
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(wait=not outlives, cancel_futures=True)
