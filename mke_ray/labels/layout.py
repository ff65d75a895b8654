"""Which units of a store should lie together in a part, from its index alone."""

# U units of the store, F files of it.

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.file_names import is_part
from mke_ray.labels.index import Index

MAX_UNITS = 4096  # of a part, so that what a worker is told and what a footer holds is bounded


@dataclass(slots=True)
class PlannedPart:
    """Units that should lie in a part of their own.

    Args:
        units: Their ids, in order.
        generations: Which generation of each of them lies elsewhere now.
        num_bytes: Bytes of them.
    """

    units: list[str] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    num_bytes: int = 0


def plan_parts(index: Index, refs: Iterable[UnitRef], *, part_bytes: int) -> Iterator[PlannedPart]:
    """Yield the parts that are to be written, each of units of one split.

    Left alone are units in a part that is at least half as large as wanted and at least half in
    use, units in a file of their own that is as large, and units that would lie together as they
    do.

    Args:
        index: Index of all committed units, with their sizes.
        refs: The units in the order in which they should lie.
        part_bytes: Bytes of a part.
    """
    layout = _Layout.of(index, part_bytes)
    open_parts: dict[str, PlannedPart] = {}
    for ref in refs:
        position = index.position(ref.unit) if ref.unit in index else -1
        if position < 0 or layout.is_well_U[position]:
            continue
        generation, num_bytes = layout.generation_U[position], int(layout.num_bytes_U[position])
        if num_bytes * 2 >= part_bytes:
            yield PlannedPart([ref.unit], [int(generation)], num_bytes)
            continue
        part = open_parts.setdefault(ref.split, PlannedPart())
        if len(part.units) == MAX_UNITS or part.num_bytes + num_bytes > part_bytes:
            if layout.gains(index, part):
                yield part
            part = open_parts[ref.split] = PlannedPart()
        part.units.append(ref.unit)
        part.generations.append(int(generation))
        part.num_bytes += num_bytes
    yield from (part for part in open_parts.values() if layout.gains(index, part))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the units of a store lie.

    Args:
        file_U: Number of the file of each unit.
        num_bytes_U: Bytes of each unit.
        generation_U: Generation of each unit.
        num_units_F: Units of each file that count.
        is_live_F: Whether at least half of each file counts.
        is_well_U: Whether each unit lies where it should.
    """

    file_U: np.ndarray
    num_bytes_U: np.ndarray
    generation_U: np.ndarray
    num_units_F: np.ndarray
    is_live_F: np.ndarray
    is_well_U: np.ndarray

    @classmethod
    def of(cls, index: Index, part_bytes: int) -> "_Layout":
        """Return the layout of a store.

        Args:
            index: Index of all its committed units.
            part_bytes: Bytes of a part.
        """
        files: Any = index.table.column("file").combine_chunks().dictionary_encode()
        file_U, num_bytes_U = files.indices.to_numpy(), _integers(index, "num_bytes")
        num_files = len(files.dictionary)
        is_part_F = np.fromiter(map(is_part, files.dictionary.to_pylist()), bool, num_files)
        num_units_F = np.bincount(file_U, minlength=num_files)
        live_bytes_F = np.bincount(file_U, num_bytes_U, minlength=num_files)
        all_bytes_F = np.zeros(num_files)
        all_bytes_F[file_U] = _integers(index, "part_bytes")
        is_live_F = live_bytes_F * 2 >= all_bytes_F
        is_large_F = (live_bytes_F * 2 >= part_bytes) | (is_part_F & (num_units_F * 2 >= MAX_UNITS))
        return cls(
            file_U=file_U,
            num_bytes_U=num_bytes_U,
            generation_U=_integers(index, "generation"),
            num_units_F=num_units_F,
            is_live_F=is_live_F,
            is_well_U=(is_large_F & is_live_F)[file_U],
        )

    def gains(self, index: Index, part: PlannedPart) -> bool:
        """Return whether units would lie better in a part of their own than they do."""
        files = {int(self.file_U[index.position(unit)]) for unit in part.units}
        if len(files) != 1:
            return bool(files)
        file = files.pop()
        return self.num_units_F[file] != len(part.units) or not self.is_live_F[file]


def _integers(index: Index, column: str) -> np.ndarray:
    """Return a column of numbers [U], 0 where the index does not know them."""
    if column not in index.table.column_names:
        return np.zeros(len(index), np.int64)
    numbers = index.table.column(column).cast(pa.int64())
    return pc.fill_null(numbers, 0).to_numpy()
