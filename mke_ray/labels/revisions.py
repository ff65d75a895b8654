"""Samples that are read again, and what was computed of them before: the newer one counts."""

from collections.abc import Collection, Sequence

import pyarrow as pa

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.files import status_columns
from mke_ray.labels.store import UnitStore
from mke_ray.labels.todo import TRANSIENT
from mke_ray.schema import Status


def rows_to_retry(samples: pa.Table, retry: Collection[str]) -> list[int]:
    """Return the rows of a unit that are read again.

    Args:
        samples: Rows of a sample store.
        retry: ``io`` for all that ended as ``retry``, and reasons of bad samples.
    """
    if not retry:
        return []
    names = status_columns(samples.column_names)
    reasons = zip(*(samples.column(name).to_pylist() for name in names), strict=True)
    rows = enumerate(zip(samples.column("status").to_pylist(), reasons, strict=True))
    return [row for row, (status, found) in rows if _is_wanted(status, found, retry)]


def with_rows(table: pa.Table, rows: Sequence[int], new: pa.Table) -> pa.Table:
    """Return a table in which some rows are others.

    Args:
        table: Rows of a unit.
        rows: Numbers of those to put others for, in order.
        new: The others, in the same order.
    """
    taken = list(range(table.num_rows))
    for place, row in enumerate(rows):
        taken[row] = table.num_rows + place
    return pa.concat_tables([table, new]).take(taken).combine_chunks()


def commit_derived(store: UnitStore, ref: UnitRef, table: pa.Table, *, of_revision: int) -> bool:
    """Commit what was computed of a unit's samples, in the place of what older samples gave.

    Args:
        store: A store of labels or predictions.
        ref: The unit.
        table: Its rows.
        of_revision: Revision of the samples.

    Returns:
        Whether the table is the one that is stored now.
    """
    facts = {"split": ref.split, "of_revision": of_revision}
    known = store.find_record(ref.unit) if of_revision else None
    if known is None:
        return store.commit(ref.unit, table, facts)
    if known.get("of_revision", 0) >= of_revision:
        return False
    return store.supersede(ref.unit, table, facts, of=known)


def _is_wanted(status: str, reasons: Sequence[str], retry: Collection[str]) -> bool:
    """Return whether a row is read again."""
    if status == Status.RETRY and TRANSIENT in retry:
        return True
    return status in (Status.RETRY, Status.BAD) and any(one in retry for one in reasons)
