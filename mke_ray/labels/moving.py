"""Units of a store move into a part: written first, then claimed, then the old files go."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mke_ray.errors import StoreError
from mke_ray.labels.file_names import PARTS, commit_name, is_part, new_file_name
from mke_ray.labels.part_files import UnitFooter, joined
from mke_ray.labels.records import claim, location_of, newest_record
from mke_ray.labels.store import UnitStore
from mke_ray.labels.unit_files import check_unit_digest, read_unit_file

_NUM_THREADS = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A unit that moves.

    Args:
        record: Its commit record.
        file: The bytes of its file.
    """

    record: Mapping[str, Any]
    file: bytes

    @property
    def schema(self) -> bytes:
        """The columns, as the file's footer has them; those of a part are alike."""
        return UnitFooter.parse(self.file).head


def move_units(store: UnitStore, units: Mapping[str, int]) -> int:
    """Write units into a part, in the order given, and let their newest records name it.

    A unit that somebody else changes at the same time stays as that one leaves it. The facts of a
    record, its digest among them, are those of the record before. Killed anywhere, nothing is
    lost: until a unit is claimed its old file counts, and from then on the part, which is whole.

    Args:
        store: The store.
        units: The generation of every unit that moves; a unit of which another one counts by now
            stays where it is.

    Returns:
        Bytes written.

    Raises:
        StoreError: The file of a unit is missing or damaged.
    """
    found = [one for one in _threaded(partial(_fetch, store), units.items()) if one is not None]
    by_schema = itertools.groupby(sorted(found, key=lambda one: one.schema), lambda one: one.schema)
    return sum(_move(store, list(pieces)) for _, pieces in by_schema)


def _move(store: UnitStore, pieces: list[_Piece]) -> int:
    """Write one part and claim its units; return the bytes written."""
    name = new_file_name(PARTS, pieces[0].record["unit"])
    content = joined([one.file for one in pieces])
    store.root.write(name, content)
    records = _records_in(name, pieces)
    # The first is claimed first: whoever sweeps looks there whether a part is claimed by now.
    won = [claim(store.root, records[0]), *_threaded(partial(claim, store.root), records[1:])]
    if not store.root.exists(name):
        store.root.write(name, content)  # somebody swept it before it was claimed
    moved = [one.record for one, is_ours in zip(pieces, won, strict=True) if is_ours]
    _threaded(store.root.delete, [one["file"] for one in moved if not is_part(one["file"])])
    if len(moved) == len(pieces):
        return len(content)
    # The rows that somebody changed may be such that nothing may be left of them.
    again = {one["unit"]: one["generation"] + 1 for one in moved}
    num_bytes = move_units(store, again) if again else 0
    store.root.delete(name)
    return len(content) + num_bytes


def _fetch(store: UnitStore, unit_and_generation: tuple[str, int]) -> _Piece | None:
    """Return a unit as it was committed, None where another generation of it counts by now.

    Raises:
        StoreError: Its file is missing or damaged.
    """
    unit, generation = unit_and_generation
    try:
        record = json.loads(store.root.read(commit_name(unit, generation)))
        file = read_unit_file(store.root, unit, location_of(record))
        check_unit_digest(store.root, record, file)
    except (FileNotFoundError, StoreError):
        newest = newest_record(store.root, unit)
        if newest is None or newest["generation"] != generation:
            return None
        raise
    return _Piece(record, file)


def _records_in(name: str, pieces: list[_Piece]) -> list[dict[str, Any]]:
    """Return the next record of every unit of a part."""
    ends = list(itertools.accumulate(len(one.file) for one in pieces))
    return [
        {
            **one.record,
            "generation": one.record["generation"] + 1,
            "file": name,
            "row_group": number,
            "offset": end - len(one.file),
            "num_bytes": len(one.file),
            "part_bytes": ends[-1],
        }
        for number, (one, end) in enumerate(zip(pieces, ends, strict=True))
    ]


def _threaded(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Do some work for every item, several at a time."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(work, items))
