"""The index of a store of units: made of the commit records by the driver, read by the others."""

import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mke_ray.batching import batched
from mke_ray.errors import StoreError
from mke_ray.labels.file_names import (
    ATTEMPTS,
    COMMITS,
    PARTS,
    commit_name,
    index_name,
    index_number,
    parse_commit_name,
    unit_of_file,
)
from mke_ray.labels.index import Index
from mke_ray.storage import Root

_NUM_READ_THREADS = 16
_RECORDS_PER_ROUND = 1024


@dataclass(frozen=True, slots=True)
class Survey:
    """What a store holds now.

    Args:
        number: Number of the newest index file, -1 where there is none.
        index: Index of all committed units.
        is_written: Whether that file says the same.
    """

    number: int
    index: Index
    is_written: bool = False


def read_index(root: Root) -> Index:
    """Return the index that was written last, and look at nothing else.

    Raises:
        StoreError: None was written yet.
    """
    index = _index_file(root, _newest_number(root))
    if index is None:
        raise StoreError(
            f"{root.uri} has no index, since no pass over it is finished; start the pass again, "
            "it goes on where it stopped"
        )
    return index


def newest_index(root: Root) -> Index:
    """Return the index that was written last, an empty one where there is none yet."""
    return _index_file(root, _newest_number(root)) or Index.from_records([])


def survey(root: Root, known: Index | None = None, *, needs_sizes: bool = False) -> Survey:
    """Return what a store holds: what is known is used as far as it goes, the rest is looked up.

    Args:
        root: The folder of the store.
        known: An index of earlier, None for the one in the newest index file.
        needs_sizes: Look up units as well of which the file, of an earlier version, has no size.
    """
    number = _newest_number(root)
    written = None if known is not None else _index_file(root, number)
    known = known or written or Index.from_records([])
    committed = committed_generations(root)
    is_current = _current_units(root, known, committed)
    if needs_sizes:
        is_current = set(is_current).difference(known.units_without_size())
    new = {unit: one for unit, one in sorted(committed.items()) if unit not in is_current}
    if not new and len(is_current) == len(known):
        return Survey(number, known, is_written=known is written)
    kept = known.select(unit for unit in known.units() if unit in is_current)
    return Survey(number, kept.merged(Index.from_records(_records(root, new))))


def write_index(root: Root, found: Survey) -> None:
    """Write an index unless the newest index file says the same.

    Where another driver was quicker, the index is made anew: what this one knows may be older.

    Args:
        root: The folder of the store.
        found: What the store holds.
    """
    if found.is_written:
        return
    known = _index_file(root, found.number)
    while known is None or not known.table.equals(found.index.table):
        if root.create(index_name(found.number + 1), found.index.to_bytes()):
            return
        found = survey(root)
        known = _index_file(root, found.number)


def outdated_indexes(root: Root) -> list[str]:
    """Return the names of the index files that a newer one replaces."""
    found = {index_number(name): name for name in root.names(recursive=False)}
    numbers = sorted(one for one in found if one is not None)
    return [found[one] for one in numbers[:-1]]


def committed_generations(root: Root) -> dict[str, int]:
    """Return the newest generation of every committed unit, by listing alone."""
    newest: dict[str, int] = {}
    for name in root.names(COMMITS):
        unit, generation = parse_commit_name(name)
        newest[unit] = max(newest.get(unit, 0), generation)
    return newest


def _current_units(root: Root, known: Index, committed: Mapping[str, int]) -> Collection[str]:
    """Return the units that an index knows as they are committed, by listing alone.

    A unit was committed anew in the same generation where its record was deleted: then the
    known file is not the only one of the unit, or is not there.
    """
    files = {
        unit: file
        for unit, generation, file in known.entries()
        if committed.get(unit) == generation
    }
    if not files:
        return set()
    parts = set(root.names(PARTS))
    there = {unit for unit, file in files.items() if file in parts}
    doubtful: set[str] = set()
    for name in root.names(ATTEMPTS):
        unit = unit_of_file(name)
        if unit in files:
            (there if files[unit] == name else doubtful).add(unit)
    return there - doubtful


def _records(root: Root, generations: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the commit records of some generations of units, read by several threads."""
    names = itertools.starmap(commit_name, generations.items())
    with ThreadPoolExecutor(_NUM_READ_THREADS) as pool:
        for some in batched(names, _RECORDS_PER_ROUND):
            yield from map(json.loads, pool.map(root.read, some))


def _newest_number(root: Root) -> int:
    """Return the number of the newest index file, -1 where there is none."""
    numbers = (index_number(name) for name in root.names(recursive=False))
    return max((one for one in numbers if one is not None), default=-1)


def _index_file(root: Root, number: int) -> Index | None:
    """Return an index file as it is, None where there is none yet."""
    return None if number < 0 else Index.from_bytes(root.read(index_name(number)))
