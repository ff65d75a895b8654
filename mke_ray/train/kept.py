"""Values by key, made once and kept within a bound; several threads may use them at a time."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class _Place(Generic[_Value]):
    """Where one value is kept."""

    __slots__ = ("error", "lock", "size", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: _Value | None = None
        self.error: Exception | None = None
        self.size = 0


class Kept(Generic[_Value]):
    """The values used last, as many as fit; a thread waits only for those that use the same value.

    What a thread works with while others push it out is held by that thread alone, so that memory
    can exceed the bound by one value per thread.

    Args:
        make: Makes the value of a key.
        size_of: Its size, asked again after each use.
        most: Largest sum of sizes; the value used last is kept in any case.

    Attributes:
        size: Sum of sizes.
    """

    def __init__(
        self, make: Callable[[str], _Value], size_of: Callable[[_Value], int], most: int
    ) -> None:
        self._make = make
        self._size_of = size_of
        self.most = most
        self._places: OrderedDict[str, _Place[_Value]] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0

    def __contains__(self, key: str) -> bool:
        """Return whether a value is kept, or being made."""
        return key in self._places

    def bound(self, most: int) -> None:
        """Change the largest sum of sizes, and forget the oldest values that are too much now."""
        with self._lock:
            self.most = most
            while self.size > most and (oldest := self._oldest(None)):
                self.size -= self._places.pop(oldest).size

    def values(self) -> list[_Value]:
        """Return the values that are kept, that used longest ago first."""
        with self._lock:
            return [one.value for one in self._places.values() if one.value is not None]

    @contextlib.contextmanager
    def using(self, key: str, complete: Callable[[_Value], None] | None = None) -> Iterator[_Value]:
        """Yield the value of a key to one thread at a time.

        Args:
            key: The key.
            complete: Adds to the value what this use needs of it; a part of the making.

        Raises:
            Exception: What making it raised, to all threads that waited for it meanwhile; who asks
                after that has it made again. What using it raises is of that thread alone.
        """
        place = self._place(key)
        with place.lock:
            try:
                yield self._made(key, place, complete)
            finally:
                self._count(key, place)

    def _made(
        self, key: str, place: _Place[_Value], complete: Callable[[_Value], None] | None
    ) -> _Value:
        """Return the value of a place, made where it is not there yet."""
        if place.error is not None:
            raise place.error
        try:
            value = self._make(key) if place.value is None else place.value
            if complete is not None:
                complete(value)
        except Exception as error:  # whatever it is, those who wait for the same get it too
            place.value, place.error = None, error
            raise
        place.value = value
        return value

    def _place(self, key: str) -> _Place[_Value]:
        """Return the place of a key, from now on the one used last."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            return place

    def _count(self, key: str, place: _Place[_Value]) -> None:
        """Count the size of a value anew, and forget the oldest until all are within bounds."""
        size = 0 if place.value is None else self._size_of(place.value)
        with self._lock:
            if self._places.get(key) is not place:
                return  # pushed out meanwhile
            self.size += size - place.size
            place.size = size
            if place.value is None:
                del self._places[key]
            while self.size > self.most and (oldest := self._oldest(key)):
                self.size -= self._places.pop(oldest).size

    def _oldest(self, besides: str | None) -> str | None:
        """Return the key used longest ago whose value has a size."""
        wanted = (key for key, one in self._places.items() if one.size and key != besides)
        return next(wanted, None)
