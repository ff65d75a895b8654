"""Keys of a store listed by several requests at once, each for a range, in the store's order.

A store lists its keys page by page, each page asked for by the last key of the page before. To
have several pages under way, the keys ahead are cut into ranges at guessed keys, by how densely
the last page filled the space of keys. A guess may be wrong at no cost but time: the first key that
a range finds must be the one at which the range before it stopped, else the guess is dropped and
the listing goes on from its last key. So the keys and their order are those of one page after
another, also on stores whose order is not that of whole keys (SeaweedFS sorts folder by folder).
"""

import re
import string
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

PAGE_KEYS = 1000
PAGES_PER_RANGE = 4
NUM_THREADS = 8

_NUM_DIGITS = 5
_MAX_EMPTY = 4
_NAME = re.compile(r"[0-9A-Za-z_-]+")


class Entry(NamedTuple):
    """One object of a listing."""

    key: str
    size: int
    etag: str


class Page(NamedTuple):
    """Some objects in the order of the store, and whether these are the last ones."""

    entries: Sequence[Entry]
    is_last: bool


ListPage = Callable[[str], Page]


@dataclass(frozen=True, slots=True)
class KeySpace:
    """Keys read as numbers: the digits at some positions, in the alphabet that the keys use there.

    Args:
        template: A key; what is at other positions is as in this one.
        positions: Where the digits are.
        alphabet: Characters of the digits, in order.
    """

    template: str
    positions: Sequence[int]
    alphabet: str

    @classmethod
    def of(cls, keys: Sequence[str]) -> "KeySpace | None":
        """Return the space that some keys of a listing span, None where there is none to see."""
        template = keys[-1]
        common = _num_common(keys[0], template)
        tails = (_NAME.match(key, common, common + _NUM_DIGITS) for key in keys)
        seen = {character for tail in tails if tail for character in tail[0]}
        alphabet = string.digits if seen <= set(string.digits) else "".join(sorted(seen))
        if len(alphabet) < 2:
            return None
        left = _digits(template, range(common - 1, -1, -1), alphabet)
        right = _digits(template, range(common, len(template)), alphabet)
        return cls(template, [*reversed(left), *right], alphabet)

    def number(self, key: str) -> int:
        """Return the number that stands for a key."""
        number = 0
        for position in self.positions:
            digit = bisect_left(self.alphabet, key[position : position + 1])
            number = number * len(self.alphabet) + min(digit, len(self.alphabet) - 1)
        return number

    def key(self, number: int) -> str | None:
        """Return the key at a number, None beyond the last one."""
        if not self.positions:
            return None
        characters = list(self.template[: self.positions[-1] + 1])
        for position in reversed(self.positions):
            number, digit = divmod(number, len(self.alphabet))
            characters[position] = self.alphabet[digit]
        return None if number else "".join(characters)


def _num_common(one: str, other: str) -> int:
    """Return how many characters two keys begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((k for k, (a, b) in pairs if a != b), min(len(one), len(other)))


def _digits(template: str, positions: Iterable[int], alphabet: str) -> list[int]:
    """Return the first positions that hold digits, passing over marks such as ``/`` and ``.``."""
    found: list[int] = []
    for position in positions:
        if template[position] in alphabet:
            found.append(position)
        elif _NAME.match(template, position):
            break
        if len(found) == _NUM_DIGITS:
            break
    return found


@dataclass(slots=True)
class _Cuts:
    """Where the ranges ahead end, a step apart, which is meant to hold some pages of keys."""

    space: KeySpace
    at: int
    step: int
    num_pages: int = 1

    @classmethod
    def after(cls, entries: Sequence[Entry]) -> "_Cuts | None":
        """Return cuts that go on at the density of a page, None where it cannot be told."""
        keys = [entry.key for entry in entries]
        if len(keys) < 2 or (space := KeySpace.of(keys)) is None:
            return None
        first, last = space.number(keys[0]), space.number(keys[-1])
        return cls(space, last, max((last - first) * PAGE_KEYS // len(keys), 1))

    def next(self) -> str | None:
        """Return the next cut, None where the space of keys ends."""
        self.at += self.step
        return self.space.key(self.at)

    def skip_to(self, key: str) -> None:
        """Go on from a key, where there is nothing before it."""
        self.at = max(self.at, self.space.number(key))

    def learn(self, step: int, num_keys: int) -> None:
        """Choose the next steps by how many keys were found in one."""
        self.num_pages = min(2 * self.num_pages, PAGES_PER_RANGE)
        self.step = max(step * self.num_pages * PAGE_KEYS // num_keys, 1)


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found behind one key up to another.

    Args:
        entries: The objects.
        first: Key that was found first, also if it lies beyond; None at the end of the listing.
        beyond: Key that was found behind the last of the objects; None where none was looked for,
            or where there is none.
        is_last: Whether the listing ends with these objects.
    """

    entries: Sequence[Entry]
    first: str | None
    beyond: str | None
    is_last: bool


class _Pending(NamedTuple):
    """A range that is being listed."""

    found: Future[_Found]
    step: int


def list_in_order(
    list_page: ListPage, after: str = "", *, num_threads: int = NUM_THREADS
) -> Iterator[Entry]:
    """Yield every object behind a key, in the order of the store.

    Memory is bounded by ``num_threads`` ranges of ``PAGES_PER_RANGE`` pages.

    Args:
        list_page: Returns the objects behind a key; called in several threads.
        after: Key to begin behind, "" for the first one.
        num_threads: Requests at once, 0 for one after the other.
    """
    pool = ThreadPoolExecutor(max(num_threads, 1))
    try:
        while True:
            page = list_page(after)
            yield from page.entries
            if page.is_last:
                return
            after = page.entries[-1].key
            if num_threads and (cuts := _Cuts.after(page.entries)):
                ahead = _Ahead(list_page, pool, cuts, num_threads)
                try:
                    after, is_last = yield from ahead.run(after)
                finally:
                    ahead.cancel()
                if is_last:
                    return
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Ahead:
    """The ranges ahead that are being listed, in order; the more, the more guesses were good."""

    list_page: ListPage
    pool: ThreadPoolExecutor
    cuts: _Cuts
    num_threads: int
    pending: deque[_Pending] = field(default_factory=deque)
    num_ahead: int = 2

    def run(self, after: str) -> Generator[Entry, None, tuple[str, bool]]:
        """Yield the objects behind a key for as long as the guesses are good.

        Returns:
            The last key, and whether the listing ends there.
        """
        expected, end, num_empty = None, after, 0
        while num_empty < _MAX_EMPTY:
            end = self._submit(end)
            if not self.pending:
                return after, False
            found, step = self.pending.popleft()
            result = found.result()
            if expected is not None and result.first != expected:
                return after, False
            yield from result.entries
            if result.entries:
                after = result.entries[-1].key
                self.cuts.learn(step, len(result.entries))
                self.num_ahead = min(2 * self.num_ahead, self.num_threads)
            if result.is_last or result.beyond is None:
                return after, result.is_last
            expected, num_empty = result.beyond, 0 if result.entries else num_empty + 1
            if num_empty:
                self.cuts.skip_to(expected)
        return after, False

    def cancel(self) -> None:
        """Leave what is not under way yet."""
        for one in self.pending:
            one.found.cancel()

    def _submit(self, begin: str) -> str:
        """Fill the queue with ranges from a key on and return where the last one ends."""
        while len(self.pending) < self.num_ahead:
            stop = self.cuts.next()
            if stop is None or stop <= begin:
                break
            max_pages = 2 * self.cuts.num_pages
            found = self.pool.submit(_list_range, self.list_page, begin, stop, max_pages)
            self.pending.append(_Pending(found, self.cuts.step))
            begin = stop
        return begin


def _list_range(list_page: ListPage, after: str, stop: str, max_pages: int) -> _Found:
    """List from behind one key up to another, or for as many pages as are held."""
    entries: list[Entry] = []
    first = None
    for _ in range(max_pages):
        page = list_page(after)
        if page.entries and first is None:
            first = page.entries[0].key
        for position, entry in enumerate(page.entries):
            if entry.key > stop:
                return _Found([*entries, *page.entries[:position]], first, entry.key, False)
        entries += page.entries
        if page.is_last:
            return _Found(entries, first, None, True)
        after = page.entries[-1].key
    return _Found(entries, first, None, False)
