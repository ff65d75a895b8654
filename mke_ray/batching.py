"""Items some at a time, as itertools.batched gives them from Python 3.12 on."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Yield lists of items in their order; the last list may be shorter, none is empty.

    Args:
        items: The items; no more of them are taken than the list needs that is asked for.
        size: Items per list, at least 1.
    """
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some
