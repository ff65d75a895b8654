"""Rows of a manifest are found by key or sample id, and scrubbed until a tombstone is left."""

# N rows of a part, U units of a part.

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.manifest.files import UnitRef, drop_held, refs_of_part
from mke_ray.data.manifest.reading import Manifest
from mke_ray.schema import MANIFEST_SCHEMA, ManifestRow

_SCRUBBED: Mapping[str, Any] = {
    "key": "",
    "size": -1,
    "etag": "",
    "start_s": None,
    "end_s": None,
    "group": "",
    "labels": None,
}


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One row of a manifest.

    Args:
        ref: Its unit.
        number: Its number in the unit.
        row: What it says.
    """

    ref: UnitRef
    number: int
    row: ManifestRow


def find_rows(
    manifest: Manifest, *, keys: Collection[str] = (), sample_ids: Collection[int] = ()
) -> list[FoundRow]:
    """Return the rows of some keys and samples, those of all generations, marked ones among them.

    Args:
        manifest: The manifest.
        keys: Keys in the source; each may have several rows.
        sample_ids: Samples.
    """
    keys, found = frozenset(keys), []
    for part in manifest.parts():
        file = manifest.open_part(part)
        for ref, number in _places(file, part, keys=keys, sample_ids=sample_ids):
            found.append(FoundRow(ref, number, manifest.read_unit(ref)[number]))
    return found


def scrub_rows(manifest: Manifest, found: Iterable[FoundRow]) -> None:
    """Write the parts that hold some rows anew, with nothing left of these but sample id and split.

    Args:
        manifest: The manifest.
        found: The rows.
    """
    by_part: dict[str, dict[int, set[int]]] = {}
    for one in found:
        by_part.setdefault(one.ref.part, {}).setdefault(one.ref.row_group, set()).add(one.number)
    for part, groups in by_part.items():
        manifest.root.write(part, _scrubbed_part(manifest.open_part(part), groups))
    drop_held()


def _places(
    file: pq.ParquetFile, part: str, *, keys: Collection[str], sample_ids: Collection[int]
) -> Iterator[tuple[UnitRef, int]]:
    """Yield the unit of each wanted row of a part and the number of the row in it."""
    table = file.read(columns=["sample_id", "key"])
    is_key_N = np.array([key in keys for key in table.column("key").to_pylist()], dtype=bool)
    wanted_N = is_key_N | np.isin(table.column("sample_id").to_numpy(), list(sample_ids))
    refs = list(refs_of_part(file.metadata, part))
    end_U = np.cumsum([ref.num_rows for ref in refs])
    for row in np.flatnonzero(wanted_N).tolist():
        unit = int(np.searchsorted(end_U, row, side="right"))
        yield refs[unit], row - int(end_U[unit]) + refs[unit].num_rows


def _scrubbed_part(file: pq.ParquetFile, groups: Mapping[int, set[int]]) -> bytes:
    """Return a part in which some rows of some row groups are scrubbed."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, MANIFEST_SCHEMA, compression="zstd") as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            if group in groups:
                rows = enumerate(table.to_pylist())
                scrubbed = [r | _SCRUBBED if n in groups[group] else r for n, r in rows]
                table = pa.Table.from_pylist(scrubbed, schema=MANIFEST_SCHEMA)
            writer.write_table(table, row_group_size=table.num_rows)
    return sink.getvalue().to_pybytes()
