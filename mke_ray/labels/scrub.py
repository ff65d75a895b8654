"""Rows of a store lose what they hold: their unit gets another table, and the old file goes."""

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mke_ray.data.manifest.marks import FORGOTTEN
from mke_ray.errors import StoreError
from mke_ray.labels.counts import reasons_of
from mke_ray.labels.file_names import SPEC_FILE, is_part
from mke_ray.labels.files import STATUS_SUFFIX
from mke_ray.labels.index import STATUS_CODES, Index
from mke_ray.labels.moving import move_units
from mke_ray.labels.records import location_of, records_of
from mke_ray.labels.store import UnitStore
from mke_ray.retries import retried
from mke_ray.schema import WEIGHT, Status
from mke_ray.storage import Root


def stores_below(root: Root) -> Iterator[UnitStore]:
    """Yield the stores of units in the folders of a folder; their files are not listed."""
    for name in retried(lambda: _folders(root), f"listing {root.uri}"):
        if root.exists(f"{name}/{SPEC_FILE}"):
            yield UnitStore.open(root.child(name))


def _folders(root: Root) -> list[str]:
    """Return the names of the folders in a folder."""
    filesystem = root.filesystem()
    filesystem.invalidate_cache()
    try:
        found = filesystem.ls(root.path(), detail=True)
    except FileNotFoundError:
        return []
    paths = [str(one["name"]).rstrip("/") for one in found if one["type"] == "directory"]
    return sorted(map(posixpath.basename, paths))


def delete_half_stores(root: Root) -> None:
    """Delete the stores in the folders of a folder of which somebody deleted the beginning."""
    for name in retried(lambda: _folders(root), f"listing {root.uri}"):
        if not root.exists(f"{name}/{SPEC_FILE}"):
            for file in list(root.names(name)):
                root.delete(file)


def scrub_units(store: UnitStore, rows: Mapping[str, Collection[int]]) -> int:
    """Leave nothing of some rows but their sample id, and no file that ever held them.

    Args:
        store: A store of samples, labels or predictions.
        rows: Numbers of rows by unit; of a unit that is not committed, what killed workers left
            of it goes.

    Returns:
        How many units got another table.

    Raises:
        StoreError: Another driver works on the same units.
    """
    there = [unit for unit in sorted(rows) if store.find(unit) is not None]
    num_scrubbed = sum(_scrub_unit(store, unit, sorted(rows[unit])) for unit in there)
    _leave_parts(store, there)
    store.sweep(rows)
    return num_scrubbed


def brought_back(index: Index, forgotten: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Return the rows of forgotten samples that a store holds all the same, by unit.

    A worker that had read them before and wrote them after brought them back.

    Args:
        index: Index of the store.
        forgotten: Rows of forgotten samples by unit.
    """
    held = {
        unit: [row for row in rows if _holds(index, unit, row)]
        for unit, rows in forgotten.items()
        if unit in index
    }
    return {unit: rows for unit, rows in held.items() if rows}


def _holds(index: Index, unit: str, row: int) -> bool:
    """Return whether a store holds more of a row than its id."""
    if index.modalities:
        return any(bool(index.present(unit, one)[row]) for one in index.modalities)
    return index.status(unit)[row] == STATUS_CODES.index(Status.OK)


def _leave_parts(store: UnitStore, units: Iterable[str]) -> None:
    """Move what counts out of the parts that hold what some units were; then nothing names these.

    Raises:
        StoreError: Another driver works on the same units.
    """
    records = (record for unit in units for record in list(records_of(store.root, unit))[:-1])
    named = sorted({record["file"] for record in records if is_part(record["file"])})
    parts = [name for name in named if store.root.exists(name)]
    entries = list(store.index().entries()) if parts else []
    for part in parts:
        move_units(store, {unit: one for unit, one, file in entries if file == part})
    now = {file for _, _, file in store.index().entries()} if parts else set()
    if still := now.intersection(parts):
        raise StoreError(
            f"{store.root.uri}: another driver changed units of {sorted(still)[0]} at the same "
            "time; wait for it and start again"
        )


def _scrub_unit(store: UnitStore, unit: str, rows: list[int]) -> bool:
    """Scrub rows of one unit; a unit in which they are scrubbed stays as it is."""
    record = store.record(unit)
    table = store.read(unit, location=location_of(record))
    scrubbed = _scrubbed(table, rows)
    if scrubbed.equals(table):
        return False
    facts = reasons_of(scrubbed) if "error" in table.column_names else {}
    if not store.supersede(unit, scrubbed, facts, of=record):
        raise StoreError(
            f"{store.root.uri}: another driver changed unit {unit} at the same time; wait for it "
            "and start again"
        )
    return True


def _scrubbed(table: pa.Table, rows: list[int]) -> pa.Table:
    """Return a table in which some rows hold nothing but their sample id."""
    pieces, start = [], 0
    for row in rows:
        sample_id = table.column("sample_id")[row].as_py()
        empty = {field.name: _empty(field, sample_id) for field in table.schema}
        pieces += [table.slice(start, row - start), _one_row(empty, table.schema)]
        start = row + 1
    return pa.concat_tables([*pieces, table.slice(start)]).combine_chunks()


def _one_row(values: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Return a table of one row."""
    return pa.Table.from_pylist([dict(values)], schema=schema)


def _empty(field: pa.Field, sample_id: int) -> Any:
    """Return what a column holds of a sample that is forgotten."""
    if field.name == "sample_id":
        return sample_id
    if field.name == "status":
        return str(Status.BAD)
    if field.name == "error" or field.name.endswith(STATUS_SUFFIX):
        return FORGOTTEN
    return 0.0 if field.name == WEIGHT else None
