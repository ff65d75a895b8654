"""The makers of batches that a process of the pool keeps: those used last, within their memory."""

import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.cloudpickle import dumps, loads  # pyright: ignore[reportAttributeAccessIssue]

from mke_ray.errors import StoreError
from mke_ray.train.batches import BatchMaker
from mke_ray.train.blocks import UnitReader

_MOST_MAKERS = 8  # each holds a plan
_MOST_READERS = 4  # each holds the indexes of its stores
_SHARE_TO_GROW = 4  # this part of the memory for units may be new with every task


@dataclass(frozen=True, slots=True)
class Shipped:
    """A maker on its way to the processes of a pool, apart from its reader.

    Ranks and fits that read the same have one reader in a process.

    Args:
        name: Its own alone.
        identity: The same for readers that read the same.
        reader: Reference of the reader, pickled: it is opened where that can be said to fail.
        maker: Reference of what makes the maker of a reader, pickled.
    """

    name: str
    identity: str
    reader: Any
    maker: Any

    @classmethod
    def of(cls, maker: BatchMaker, put: Callable[[Any], Any] = ray.put) -> "Shipped":
        """Ship a maker.

        Args:
            maker: The maker.
            put: Returns a reference of an object.
        """
        reader, rest = (dumps(one) for one in (maker.reader, maker.without_reader()))
        return cls(uuid.uuid4().hex, maker.reader.identity(), put(reader), put(rest))


class PoolMakers:
    """Makers of one process, by what was shipped.

    Args:
        get: Returns what a reference refers to.
    """

    def __init__(self, get: Callable[[Any], Any] = ray.get) -> None:
        self._get = get
        self._readers: OrderedDict[str, UnitReader] = OrderedDict()
        self._makers: OrderedDict[str, tuple[str, BatchMaker]] = OrderedDict()

    def maker(self, shipped: Shipped, cache_bytes: int) -> BatchMaker:
        """Return a maker; what it reads stays in memory for the next that reads the same.

        Args:
            shipped: The maker.
            cache_bytes: Memory for units of all readers together.
        """
        reader = self._reader(shipped)
        if shipped.name not in self._makers:
            made = loads(self._get(shipped.maker))(reader)
            self._makers[shipped.name] = (shipped.identity, made)
        self._makers.move_to_end(shipped.name)
        self._forget()
        self._make_room(reader, cache_bytes)
        return self._makers[shipped.name][1]

    def _reader(self, shipped: Shipped) -> UnitReader:
        """Return the reader of a maker, from now on the one used last."""
        if shipped.identity not in self._readers:
            self._readers[shipped.identity] = _opened(self._get(shipped.reader))
        self._readers.move_to_end(shipped.identity)
        return self._readers[shipped.identity]

    def _forget(self) -> None:
        """Forget the readers and makers used longest ago where they are too many."""
        while len(self._readers) > _MOST_READERS:
            gone, _ = self._readers.popitem(last=False)
            for name in [name for name, one in self._makers.items() if one[0] == gone]:
                del self._makers[name]
        while len(self._makers) > _MOST_MAKERS:
            self._makers.popitem(last=False)

    def _make_room(self, reader: UnitReader, cache_bytes: int) -> None:
        """Let a reader grow, where it must at the cost of those used longest ago."""
        others = [one for one in self._readers.values() if one is not reader]
        wanted = min(reader.held_bytes + cache_bytes // _SHARE_TO_GROW, cache_bytes)
        for one in others:
            excess = sum(other.held_bytes for other in others) + wanted - cache_bytes
            if excess > 0:
                one.bound_memory(max(one.held_bytes - excess, 0))
        reader.bound_memory(cache_bytes - sum(one.held_bytes for one in others))


def _opened(pickled: bytes) -> UnitReader:
    """Return a reader, which opens its stores.

    Raises:
        StoreError: They do not answer here.
    """
    try:
        return loads(pickled)
    except OSError as error:
        raise StoreError(
            f"the pool of scaling.feed=ray could not open the stores of the fit: {error}; every "
            "node must reach them. Make the store answer, or set storage.patience_s higher, and "
            "start the job again: it goes on at its last checkpoint"
        ) from error
