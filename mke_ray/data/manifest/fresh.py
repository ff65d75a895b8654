"""Which marks say something that a manifest does not say yet, and what that changes in it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from mke_ray.data.manifest.files import UnitRef
from mke_ray.data.manifest.marks import MarkTable, by_unit, outranks
from mke_ray.errors import StoreError
from mke_ray.schema import fingerprint


@dataclass(slots=True)
class FreshMarks:
    """Marks that a manifest does not have yet.

    Args:
        table: The marks, with the number of rows of each unit.
        taken: Per split how many rows were in use until now.
        reasons: How many rows have each reason now.
        replaced: How many rows had each reason until now.
        changed: Per split a digest of the rows that were in use until now.
    """

    table: pa.Table
    taken: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    changed: dict[str, str] = field(default_factory=dict)

    def count(self, split: str, marks: pa.Table, before: Mapping[int, str]) -> None:
        """Count the marks of one unit, of which some rows were marked before."""
        rows = marks.column("row").to_pylist()
        taken = [row for row in rows if row not in before]
        self.taken[split] += len(taken)
        self.reasons.update(marks.column("reason").to_pylist())
        self.replaced.update(before[row] for row in rows if row in before)
        if taken:
            ids = marks.column("sample_id").to_pylist()
            self.changed[split] = fingerprint([self.changed.get(split, ""), ids, rows])


def fresh_marks(known: MarkTable, marks: pa.Table, refs: Mapping[str, UnitRef]) -> FreshMarks:
    """Return the marks that say something new, unit by unit.

    Args:
        known: The marks of the manifest.
        marks: Marks as ``marks_table`` makes them.
        refs: Where their units are.

    Raises:
        StoreError: A mark is of no row of the manifest.
    """
    fresh, tables = FreshMarks(marks.slice(0, 0)), []
    for unit, some in by_unit(marks):
        if not unit:
            tables.append(_without_rows(some, known))
            continue
        ref = refs.get(unit)
        rows = some.column("row").to_pylist()
        if ref is None or min(rows) < 0 or max(rows) >= ref.num_rows:
            raise StoreError(f"a mark is of row {max(rows)} of unit {unit}, which has no such row")
        before = known.reasons(unit)
        kept = _outranking(some, before)
        if kept.num_rows:
            tables.append(_with_num_rows(kept, ref.num_rows))
            fresh.count(ref.split, kept, before)
    fresh.table = pa.concat_tables([fresh.table, *tables])
    return fresh


def _outranking(marks: pa.Table, before: Mapping[int, str]) -> pa.Table:
    """Return the marks of one unit that take the place of what is there, one per row."""
    best, position_of = dict(before), {}
    pairs = zip(marks.column("row").to_pylist(), marks.column("reason").to_pylist(), strict=True)
    for position, (row, reason) in enumerate(pairs):
        if outranks(reason, best.get(row, "")):
            best[row], position_of[row] = reason, position
    return marks.take(pa.array(sorted(position_of.values()), pa.int64()))


def _without_rows(marks: pa.Table, known: MarkTable) -> pa.Table:
    """Return the marks of samples without a row that are not known yet."""
    is_new = [one not in known.forgotten for one in marks.column("sample_id").to_pylist()]
    return marks.filter(pa.array(is_new, pa.bool_()))


def _with_num_rows(marks: pa.Table, num_rows: int) -> pa.Table:
    """Return marks of one unit with the number of its rows."""
    position = marks.schema.get_field_index("num_rows")
    column = pa.array([num_rows] * marks.num_rows, pa.int32())
    return marks.set_column(position, marks.schema.field(position), column)
