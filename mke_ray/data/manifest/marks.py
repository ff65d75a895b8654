"""Marks: rows of a manifest that must no longer be used, and why."""

# N rows of a unit, M marks, U units.

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.errors import StoreError

COPY_OF_TEST = "copy_of_test"
COPY_OF_PROBE = "copy_of_probe"
DOUBLE = "double"
CHANGED = "changed"
DELETED = "deleted"
FORGOTTEN = "forgotten"

REASONS = (DOUBLE, COPY_OF_PROBE, COPY_OF_TEST, CHANGED, DELETED, FORGOTTEN)
NOT_CURRENT = (CHANGED, DELETED, FORGOTTEN)

MARKS_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("num_rows", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

_RANK = {reason: rank for rank, reason in enumerate(REASONS)}
_FIRST_NOT_CURRENT = _RANK[CHANGED]


@dataclass(frozen=True, slots=True)
class Mark:
    """One row that must no longer be used.

    Args:
        sample_id: The sample.
        unit: Unit of the row; "" for a sample that has no row and shall never get one.
        row: Number of the row in its unit; -1 where there is none.
        reason: One of ``REASONS``; a later one of them takes the place of an earlier one.
    """

    sample_id: int
    unit: str
    row: int
    reason: str

    def __post_init__(self) -> None:
        """Check the reason."""
        if self.reason not in _RANK:
            raise StoreError(f"a mark has reason {self.reason!r}; choose one of {list(REASONS)}")


class MarkTable:
    """The marks of all generations, by unit, as arrays.

    Args:
        tables: Marks of each generation, of ``MARKS_SCHEMA``.
    """

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        table = pa.concat_tables([MARKS_SCHEMA.empty_table(), *tables])
        unit_M = np.asarray(table.column("unit").to_pylist(), dtype="S16")
        row_M = table.column("row").to_numpy()
        rank_M = np.asarray([_RANK[one] for one in table.column("reason").to_pylist()], np.uint8)
        order_M = np.lexsort((rank_M, row_M, unit_M))
        last_M = _is_last(unit_M[order_M], row_M[order_M])
        kept_M = order_M[last_M]
        self._unit_M, self._row_M, self._rank_M = unit_M[kept_M], row_M[kept_M], rank_M[kept_M]
        self._num_rows_M = table.column("num_rows").to_numpy()[kept_M]
        is_forgotten_M = rank_M == _RANK[FORGOTTEN]
        self.forgotten = frozenset(table.column("sample_id").to_numpy()[is_forgotten_M].tolist())

    def __len__(self) -> int:
        """Return the number of marked rows and of samples that shall never get one."""
        return len(self._unit_M)

    def reasons(self, unit: str) -> dict[int, str]:
        """Return the reason of every marked row of a unit."""
        some = self._slice(unit)
        rows, ranks = self._row_M[some].tolist(), self._rank_M[some].tolist()
        return {row: REASONS[rank] for row, rank in zip(rows, ranks, strict=True)}

    def forgotten_rows(self) -> dict[str, list[int]]:
        """Return the rows of forgotten samples by unit."""
        is_row_M = (self._rank_M == _RANK[FORGOTTEN]) & (self._row_M >= 0)
        found: dict[str, list[int]] = {}
        for unit, row in zip(
            self._unit_M[is_row_M].astype(str).tolist(), self._row_M[is_row_M].tolist(), strict=True
        ):
            found.setdefault(unit, []).append(row)
        return found

    def mask(self, unit: str) -> np.ndarray | None:
        """Return which rows of a unit are marked, bool [N]; None where none is."""
        return self._mask(self._slice(unit))

    def not_current(self, unit: str) -> np.ndarray | None:
        """Return which rows of a unit the source has no more, bool [N]; None where it has all."""
        some = self._slice(unit)
        chosen_M = np.arange(some.start, some.stop)[self._rank_M[some] >= _FIRST_NOT_CURRENT]
        return self._mask(chosen_M)

    def _slice(self, unit: str) -> slice:
        """Return where the marks of a unit are."""
        name = unit.encode()
        start = int(np.searchsorted(self._unit_M, name, side="left"))
        return slice(start, int(np.searchsorted(self._unit_M, name, side="right")))

    def _mask(self, some: slice | np.ndarray) -> np.ndarray | None:
        """Return which rows some marks of one unit are of, None where there are no marks."""
        row_M = self._row_M[some]
        if not len(row_M):
            return None
        mask_N = np.zeros(int(self._num_rows_M[some][0]), dtype=bool)
        mask_N[row_M] = True
        return mask_N


def outranks(reason: str, other: str) -> bool:
    """Return whether a reason takes the place of another; "" is a row that is not marked."""
    return not other or _RANK[reason] > _RANK[other]


def marks_table(marks: Iterable[Mark]) -> pa.Table:
    """Return marks as a table of ``MARKS_SCHEMA``; how many rows the units have is not known."""
    rows = [asdict(mark) | {"num_rows": 0} for mark in marks]
    return pa.Table.from_pylist(rows, schema=MARKS_SCHEMA)


def marks_of_rows(columns: np.ndarray, reason: str) -> pa.Table:
    """Return marks of one reason as a table of ``MARKS_SCHEMA``.

    Args:
        columns: Structured array [M] with ``sample_id``, ``unit`` and ``row``.
        reason: One of ``REASONS``.
    """
    num = len(columns)
    arrays = {
        "sample_id": columns["sample_id"],
        "unit": columns["unit"].astype("U16").tolist(),
        "row": columns["row"],
        "num_rows": np.zeros(num, np.int32),
        "reason": [reason] * num,
    }
    return pa.table(arrays, schema=MARKS_SCHEMA)


def table_to_bytes(marks: pa.Table) -> bytes:
    """Return a table of marks as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(marks, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def table_from_bytes(content: bytes) -> pa.Table:
    """Read what ``table_to_bytes`` wrote."""
    return pq.read_table(pa.BufferReader(content))


def by_unit(marks: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield the marks of one unit after the other, in order of units and rows."""
    ordered = marks.sort_by([("unit", "ascending"), ("row", "ascending")])
    unit_M = np.asarray(ordered.column("unit").to_pylist(), dtype="S16")
    unit_U, start_U = np.unique(unit_M, return_index=True)
    for unit, start, stop in zip(unit_U, start_U, np.append(start_U, len(unit_M))[1:], strict=True):
        yield unit.decode(), ordered.slice(start, stop - start)


def _is_last(unit_M: np.ndarray, row_M: np.ndarray) -> np.ndarray:
    """Return which of sorted marks is the last one of its row, bool [M].

    Samples without a row are all kept.
    """
    is_last_M = np.ones(len(unit_M), dtype=bool)
    is_same = (unit_M[1:] == unit_M[:-1]) & (row_M[1:] == row_M[:-1]) & (row_M[1:] >= 0)
    is_last_M[:-1] = ~is_same
    return is_last_M
