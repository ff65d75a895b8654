"""Units are cut from the rows of a source and gathered into the parts of a manifest."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.manifest.files import new_attempt, part_name
from mke_ray.data.sources import SourceRow
from mke_ray.schema import (
    MANIFEST_SCHEMA,
    ManifestRow,
    Split,
    fingerprint,
    sample_id,
    unit_id,
)
from mke_ray.storage import Root


@dataclass(slots=True)
class UnitCutter:
    """Cuts rows into units of one split each, holding one open unit per split.

    Args:
        unit_size: Rows per unit; the last unit of a split may have fewer.
        generation: Generation of the manifest that the units belong to.
        open_rows: Rows of the unit of each split that is not full yet.
    """

    unit_size: int
    generation: int
    open_rows: dict[str, list[SourceRow]] = field(default_factory=dict)

    def add(self, row: SourceRow) -> list[ManifestRow] | None:
        """Add a row and return the unit that it fills, None where it fills none."""
        rows = self.open_rows.setdefault(row.split, [])
        rows.append(row)
        if len(rows) < self.unit_size:
            return None
        del self.open_rows[row.split]
        return _unit_of(rows, self.generation)

    def close(self) -> Iterator[list[ManifestRow]]:
        """Yield the units that are not full."""
        for split in Split:
            rows = self.open_rows.pop(split, None)
            if rows:
                yield _unit_of(rows, self.generation)


@dataclass(slots=True)
class PartWriter:
    """Gathers units into Parquet files of a fixed number of row groups.

    Args:
        root: Folder of the manifest.
        generation: Generation of the manifest that the parts belong to.
        units_per_part: Units per file.
        parts: Names of the parts of the generation that are written.
        num_units: Units in them, and in those of earlier generations.
        counts: Rows of each split in them, and those in use of earlier generations.
        digests: Digest of each split over them, and over earlier generations.
        attempt: What tells the parts from those that another driver writes at the same time.
    """

    root: Root
    generation: int
    units_per_part: int
    parts: list[str] = field(default_factory=list)
    num_units: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(map(str, Split), 0))
    digests: dict[str, str] = field(default_factory=lambda: dict.fromkeys(map(str, Split), ""))
    attempt: str = field(default_factory=new_attempt)
    _sink: pa.BufferOutputStream | None = None
    _writer: pq.ParquetWriter | None = None
    _num_open: int = 0

    def add(self, unit: list[ManifestRow]) -> bool:
        """Add a unit.

        Returns:
            Whether it filled a part, which is written then.
        """
        writer = self._writer or self._open()
        writer.write_table(unit_table(unit), row_group_size=len(unit))
        split = unit[0].split
        self.counts[split] += len(unit)
        rows = [[row.sample_id, digest_of(row)] for row in unit]
        self.digests[split] = fingerprint([self.digests[split], rows])
        self.num_units += 1
        self._num_open += 1
        if self._num_open == self.units_per_part:
            self.flush()
            return True
        return False

    def flush(self) -> None:
        """Write the part that is open, if any."""
        if self._writer is None or self._sink is None:
            return
        self._writer.close()
        content = self._sink.getvalue()
        name = part_name(self.generation, len(self.parts), self.attempt)
        self.root.write(name, content.to_pybytes())
        self.parts.append(name)
        self._writer, self._sink, self._num_open = None, None, 0

    def _open(self) -> pq.ParquetWriter:
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, MANIFEST_SCHEMA, compression="zstd")
        return self._writer


def unit_table(unit: list[ManifestRow]) -> pa.Table:
    """Return the rows of a unit as they are stored."""
    names = MANIFEST_SCHEMA.names
    columns = {name: [getattr(row, name) for row in unit] for name in names}
    return pa.table(columns, schema=MANIFEST_SCHEMA)


def manifest_row(row: SourceRow) -> ManifestRow:
    """Return the row of a sample that is in no unit yet."""
    return _row_in_unit(row, sample_id(row.key, row.start_s, row.end_s), "")


def _row_in_unit(row: SourceRow, id_of_row: int, unit: str) -> ManifestRow:
    """Return the row of a sample in a unit."""
    return ManifestRow(
        sample_id=id_of_row,
        unit=unit,
        key=row.key,
        size=row.size,
        etag=row.etag,
        start_s=row.start_s,
        end_s=row.end_s,
        group=row.group,
        split=row.split,
        labels=row.labels,
    )


def digest_of(row: SourceRow | ManifestRow) -> int:
    """Return 64 bits that change with everything of a row but its sample id."""
    return row_digest(row.size, row.etag, row.split, row.labels, row.group)


def row_digest(*fields: object) -> int:
    """Return 64 bits over size, etag, split, labels and group of a row, in this order."""
    text = json.dumps(fields)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _unit_of(rows: list[SourceRow], generation: int) -> list[ManifestRow]:
    """Return a unit."""
    ids = [sample_id(row.key, row.start_s, row.end_s) for row in rows]
    name = unit_id(ids, generation=generation)
    return [_row_in_unit(row, one, name) for row, one in zip(rows, ids, strict=True)]
