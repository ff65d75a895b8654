"""Where every unit of a store lies and what became of its rows, compact in memory."""

# N rows of a unit.

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mke_ray.batching import batched
from mke_ray.errors import StoreError
from mke_ray.labels.file_names import is_part
from mke_ray.schema import Status, StatusCounts

STATUS_CODES: tuple[Status, ...] = (Status.OK, Status.PARTIAL, Status.BAD, Status.RETRY)
NUM_USABLE_CODES = 2  # ok and partial come first
PRESENT_PREFIX = "present_"

_RECORDS_AT_ONCE = 4096
_REASONS = ("reasons", "partial_reasons")
_REVISIONS = ("revision", "of_revision")
_PLACE = ("file", "row_group", "num_rows")

_DIGIT_TO_BYTE = bytes((code - ord("0")) % 256 for code in range(256))
_CODE_OF_STATUS = {str(status): str(code) for code, status in enumerate(STATUS_CODES)}


@dataclass(frozen=True, slots=True)
class Location:
    """Where the rows of a unit lie.

    Args:
        file: Name of the Parquet file below the store.
        row_group: The row group of the unit.
        num_rows: Rows of the unit N.
        offset: Where the unit begins in a part; it is a Parquet file of its own there.
        num_bytes: Its bytes in a part; 0 for a unit in a file of its own, which is fetched whole.
    """

    file: str
    row_group: int
    num_rows: int
    offset: int = 0
    num_bytes: int = 0

    def within(self, *, offset: int, num_bytes: int) -> "Location":
        """Return the place of a unit that is a range of its file."""
        return replace(self, offset=offset, num_bytes=num_bytes)


class Index:
    """One entry per unit, sorted by unit id, so that it does not depend on who wrote when.

    Args:
        table: Columns ``unit, generation, split, file, row_group, num_rows, status, reasons,
            partial_reasons, revision, of_revision, offset, num_bytes, part_bytes, digest`` and one
            ``present_<modality>`` per modality; ``status`` and ``present_*`` hold one byte per
            row. Indexes of earlier versions lack the revisions, which are 0, and what follows;
            their units lie in no part.
    """

    __slots__ = ("_columns", "_table", "_units")

    def __init__(self, table: pa.Table) -> None:
        self._table = _with_revisions(table).sort_by("unit").combine_chunks()
        self._units = np.asarray(self._table.column("unit").to_pylist(), dtype="S")
        self._columns = {name: self._table.column(name) for name in self._table.column_names}

    def __reduce__(self) -> tuple[type["Index"], tuple[pa.Table]]:
        """Pickle by the table."""
        return (Index, (self._table,))

    def __len__(self) -> int:
        """Return the number of units."""
        return self._table.num_rows

    def __contains__(self, unit: str) -> bool:
        """Return whether the store holds a unit."""
        position = int(np.searchsorted(self._units, unit.encode()))
        return position < len(self._units) and self._units[position] == unit.encode()

    @property
    def table(self) -> pa.Table:
        """The index as a table, sorted by unit."""
        return self._table

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities whose presence is known per row."""
        names = self._table.column_names
        return tuple(n.removeprefix(PRESENT_PREFIX) for n in names if n.startswith(PRESENT_PREFIX))

    def units(self, split: str | None = None) -> list[str]:
        """Return the unit ids, sorted; of one split where given."""
        names = self._columns["unit"].to_pylist()
        if split is None:
            return names
        splits = self._columns["split"].to_pylist()
        return [name for name, other in zip(names, splits, strict=True) if other == split]

    def entries(self) -> Iterator[tuple[str, int, str]]:
        """Yield every unit with the generation and the file that the index knows of it."""
        columns = (self._columns[name].to_pylist() for name in ("unit", "generation", "file"))
        return zip(*columns, strict=True)

    def select(self, units: Iterable[str]) -> "Index":
        """Return the index of some units only.

        Raises:
            StoreError: A unit is not in the store.
        """
        positions = [self.position(unit) for unit in units]
        return Index(self._table.take(pa.array(positions, pa.int64())))

    def location(self, unit: str) -> Location:
        """Return where a unit lies."""
        row = self.position(unit)
        place = Location(*(self._columns[one][row].as_py() for one in _PLACE))
        if not is_part(place.file):
            return place
        offset, num_bytes = (self._columns[one][row].as_py() for one in ("offset", "num_bytes"))
        return place.within(offset=offset, num_bytes=num_bytes)

    def content_id(self, unit: str) -> str:
        """Return what changes with the content of a unit, and not with its place."""
        row = self.position(unit)
        digest = self._columns["digest"][row].as_py() if "digest" in self._columns else None
        return digest or self._columns["file"][row].as_py()

    def units_without_size(self) -> list[str]:
        """Return the units of which an index of an earlier version does not know the size."""
        if "num_bytes" not in self._columns:
            return self.units()
        return self._columns["unit"].filter(self._columns["num_bytes"].is_null()).to_pylist()

    def num_rows(self, unit: str) -> int:
        """Return the rows of a unit N."""
        return self._columns["num_rows"][self.position(unit)].as_py()

    def split(self, unit: str) -> str:
        """Return the split of a unit, "" where the store does not know splits."""
        return self._columns["split"][self.position(unit)].as_py()

    def status(self, unit: str) -> np.ndarray:
        """Return one code per row, uint8 [N]: 0 ok, 1 partial, 2 bad, 3 retry."""
        return self._bytes("status", unit)

    def revision(self, unit: str) -> int:
        """Return how often rows of a unit were read again and put in the place of others."""
        return self._columns["revision"][self.position(unit)].as_py()

    def of_revision(self, unit: str) -> int:
        """Return the revision of the samples from which the rows of a unit were computed."""
        return self._columns["of_revision"][self.position(unit)].as_py()

    def revisions(self, splits: Iterable[str]) -> dict[str, int]:
        """Return the revision of every unit of some splits that is not as it was first."""
        wanted, names = set(splits), ("unit", "split", "revision")
        rows = self._table.filter(pc.field("revision") > 0).select(names).to_pylist()
        return {row["unit"]: row["revision"] for row in rows if row["split"] in wanted}

    def reasons(self, unit: str) -> dict[str, int]:
        """Return how many rows of a unit could not be read, by reason."""
        return json.loads(self._columns["reasons"][self.position(unit)].as_py() or "{}")

    def usable(self, unit: str) -> np.ndarray:
        """Return whether each row can be trained on, bool [N]: ok or partial."""
        return self.status(unit) < NUM_USABLE_CODES

    def present(self, unit: str, modality: str) -> np.ndarray:
        """Return whether each row has a modality, bool [N].

        Raises:
            StoreError: The store has no such modality.
        """
        name = PRESENT_PREFIX + modality
        if name not in self._columns:
            raise StoreError(
                f"modality {modality!r} is not in this store; it has {list(self.modalities)}"
            )
        return self._bytes(name, unit).astype(bool)

    def counts(self) -> StatusCounts:
        """Return how many rows ended in each status, with the reasons."""
        total = StatusCounts()
        names = [name for name in _REASONS if name in self._columns]
        for row in self._table.select(["status", *names]).to_pylist():
            reasons = {name: json.loads(row[name] or "{}") for name in names}
            total.add(counts_of(row["status"], reasons))
        return total

    def to_bytes(self) -> bytes:
        """Return the index as a Parquet file."""
        buffer = io.BytesIO()
        pq.write_table(self._table, buffer, compression="zstd")
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Index":
        """Read what ``to_bytes`` wrote."""
        return cls(pq.read_table(pa.BufferReader(content)))

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> "Index":
        """Build the index from commit records, some thousands of them at a time as Python knows."""
        tables = [
            pa.Table.from_pylist(rows, schema=_schema(rows))
            for rows in batched(map(_row, records), _RECORDS_AT_ONCE)
        ]
        whole = pa.concat_tables(tables or [_schema([]).empty_table()], promote_options="default")
        present = (name for name in whole.column_names if name.startswith(PRESENT_PREFIX))
        return cls(whole.select([*_schema([]).names, *sorted(present)]))

    def merged(self, other: "Index") -> "Index":
        """Return both indexes as one; where both have a unit, the other's entry counts."""
        keep = [unit not in other for unit in self._columns["unit"].to_pylist()]
        mine = self._table.filter(pa.array(keep, pa.bool_()))
        tables = [table for table in (mine, other.table) if table.num_rows]
        return Index(pa.concat_tables(tables, promote_options="default")) if tables else self

    def position(self, unit: str) -> int:
        """Return the row of a unit in the table."""
        position = int(np.searchsorted(self._units, unit.encode()))
        if position == len(self._units) or self._units[position] != unit.encode():
            raise StoreError(f"unit {unit} is not in the store; run the labelling pass to the end")
        return position

    def _bytes(self, column: str, unit: str) -> np.ndarray:
        """Return one byte per row of a unit."""
        return np.frombuffer(self._columns[column][self.position(unit)].as_py(), dtype=np.uint8)


def status_digits(statuses: Iterable[str]) -> str:
    """Return one digit per row, as a commit record holds it."""
    return "".join(_CODE_OF_STATUS[status] for status in statuses)


def digits_to_bytes(digits: str) -> bytes:
    """Return one byte per digit."""
    return digits.encode().translate(_DIGIT_TO_BYTE)


def counts_of(codes: bytes, reasons: Mapping[str, dict[str, int]]) -> StatusCounts:
    """Count the status codes of some rows, with the reasons as the fields of ``StatusCounts``."""
    ok, partial, bad, retry = (codes.count(code) for code in range(len(STATUS_CODES)))
    return StatusCounts(ok, partial, bad, retry, **reasons)


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of one unit."""
    present = record.get("present", {})
    return {
        "unit": record["unit"],
        "generation": record["generation"],
        "split": record.get("split", ""),
        "file": record["file"],
        "row_group": record["row_group"],
        "num_rows": record["num_rows"],
        "offset": record.get("offset", 0),
        "num_bytes": record.get("num_bytes"),
        "part_bytes": record.get("part_bytes", 0),
        "digest": record.get("digest", ""),
        "status": digits_to_bytes(record.get("status", "0" * record["num_rows"])),
        **{name: json.dumps(record[name]) if record.get(name) else "" for name in _REASONS},
        **{name: record.get(name, 0) for name in _REVISIONS},
        **{PRESENT_PREFIX + name: digits_to_bytes(digits) for name, digits in present.items()},
    }


def _with_revisions(table: pa.Table) -> pa.Table:
    """Return a table with the columns that an index of an earlier version lacks."""
    for name in _REVISIONS:
        if name not in table.column_names:
            table = table.append_column(name, pa.array([0] * table.num_rows, pa.int32()))
    return table


def _schema(rows: list[dict[str, Any]]) -> pa.Schema:
    """Return the columns that some entries have."""
    fields = [
        pa.field("unit", pa.string()),
        pa.field("generation", pa.int32()),
        pa.field("split", pa.string()),
        pa.field("file", pa.string()),
        pa.field("row_group", pa.int32()),
        pa.field("num_rows", pa.int32()),
        pa.field("offset", pa.int64()),
        pa.field("num_bytes", pa.int64()),
        pa.field("part_bytes", pa.int64()),
        pa.field("digest", pa.string()),
        pa.field("status", pa.binary()),
        *(pa.field(name, pa.string()) for name in _REASONS),
        *(pa.field(name, pa.int32()) for name in _REVISIONS),
    ]
    present = sorted({name for row in rows for name in row if name.startswith(PRESENT_PREFIX)})
    return pa.schema(fields + [pa.field(name, pa.binary()) for name in present])
