"""The manifest of a run: one row per sample, cut into units that are worked on as a whole."""

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.sources import Source, SourceRow
from mke_ray.errors import StoreError
from mke_ray.schema import (
    FORMAT_VERSION,
    MANIFEST_SCHEMA,
    LabelSpace,
    ManifestRow,
    Split,
    fingerprint,
    sample_id,
    unit_id,
)
from mke_ray.storage import Root

META = "meta.json"

_NUM_BUCKETS = 64
_BUCKET_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class UnitRef:
    """Where a unit's rows are in the manifest.

    Args:
        unit: Id of the unit.
        part: File that holds it.
        row_group: Its row group in that file.
        split: Split of all its rows.
        num_rows: Number of its rows.
    """

    unit: str
    part: str
    row_group: int
    split: str
    num_rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A finished manifest; cheap to send to workers.

    Args:
        root: Folder of the manifest itself.
        meta: Format version, identity, label space, unit size, counts per split, numbers of parts
            and units.
    """

    root: Root
    meta: dict[str, Any]

    @classmethod
    def open(cls, root: Root) -> "Manifest":
        """Open a finished manifest.

        Raises:
            StoreError: There is none, it is unfinished, or it is of another format version.
        """
        try:
            meta = json.loads(root.read(META))
        except FileNotFoundError:
            raise StoreError(f"{root.uri} holds no finished manifest; write one first") from None
        if meta["format_version"] != FORMAT_VERSION:
            raise StoreError(
                f"{root.uri} has format version {meta['format_version']}, this program reads "
                f"{FORMAT_VERSION}; use another root"
            )
        return cls(root, meta)

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        return LabelSpace.from_dict(self.meta["label_space"])

    def unit_refs(self, splits: Iterable[str] | None = None) -> Iterator[UnitRef]:
        """Yield the units in order, from the footers of the parts alone.

        Args:
            splits: Splits to take, None for all.
        """
        wanted = None if splits is None else {str(split) for split in splits}
        for number in range(self.meta["num_parts"]):
            part = _part_name(number)
            for ref in _refs_of_part(_footer(self, part), part):
                if wanted is None or ref.split in wanted:
                    yield ref

    def read_unit(self, ref: UnitRef) -> list[ManifestRow]:
        """Return the rows of a unit in order.

        Raises:
            StoreError: The file holds another unit there.
        """
        footer = _footer(self, ref.part)
        with self.root.filesystem().open(self.root.path(ref.part), "rb") as file:
            table = pq.ParquetFile(file, metadata=footer).read_row_group(ref.row_group)
        rows = [_stored_row(row) for row in table.to_pylist()]
        if len(rows) != ref.num_rows or rows[0].unit != ref.unit:
            raise StoreError(
                f"{self.root.uri}/{ref.part}: row group {ref.row_group} holds unit "
                f"{rows[0].unit} with {len(rows)} rows, expected {ref.unit} with {ref.num_rows}"
            )
        return rows


def write_manifest(
    root: Root, source: Source, *, unit_size: int, units_per_part: int = 4096
) -> Manifest:
    """Write the manifest of a source, or open the one that is there.

    Args:
        root: Folder of the manifest.
        source: Where the rows come from; its rows are streamed.
        unit_size: Rows per unit; the last unit of a split may have fewer.
        units_per_part: Units per file.

    Raises:
        StoreError: The folder holds a manifest of something else, or a sample occurs twice.
    """
    expected = _description(source, unit_size)
    if root.exists(META):
        return _same(Manifest.open(root), expected)
    writer = _PartWriter(root, units_per_part)
    with contextlib.ExitStack() as files:
        ids = _IdCheck(files)
        for unit in _cut_units(source.rows(), unit_size):
            ids.add([row.sample_id for row in unit])
            writer.add(unit)
        num_parts = writer.close()
        _refuse_duplicates(root, num_parts, ids.duplicate())
    meta = expected | {
        "counts": writer.counts,
        "num_parts": num_parts,
        "num_units": writer.num_units,
    }
    root.create(META, json.dumps(meta, indent=1, sort_keys=True).encode())
    return _same(Manifest.open(root), expected)


def manifest_row(row: SourceRow) -> ManifestRow:
    """Return the row of a sample that is in no unit yet."""
    return ManifestRow(
        sample_id=sample_id(row.key, row.start_s, row.end_s),
        unit="",
        key=row.key,
        size=row.size,
        etag=row.etag,
        start_s=row.start_s,
        end_s=row.end_s,
        group=row.group,
        split=row.split,
        labels=row.labels,
    )


def _description(source: Source, unit_size: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "identity": json.loads(json.dumps(source.identity())),
        "label_space": source.label_space.to_dict(),
        "unit_size": unit_size,
    }


def _same(manifest: Manifest, expected: dict[str, Any]) -> Manifest:
    """Return the manifest if it describes the expected source."""
    for key, value in expected.items():
        found = manifest.meta.get(key)
        if found != value:
            raise StoreError(
                f"{manifest.root.uri} was made with {key}={found}, this run has {value}; "
                "use another root, or the source that this one was made from"
            )
    return manifest


def _cut_units(rows: Iterable[SourceRow], unit_size: int) -> Iterator[list[ManifestRow]]:
    """Yield units of one split each, holding one open unit per split."""
    open_units: dict[str, list[SourceRow]] = {split.value: [] for split in Split}
    for row in rows:
        unit = open_units[row.split]
        unit.append(row)
        if len(unit) == unit_size:
            yield _close_unit(unit)
            open_units[row.split] = []
    for unit in open_units.values():
        if unit:
            yield _close_unit(unit)


def _close_unit(rows: list[SourceRow]) -> list[ManifestRow]:
    found = [manifest_row(row) for row in rows]
    unit = unit_id(row.sample_id for row in found)
    return [replace(row, unit=unit) for row in found]


@dataclass(slots=True)
class _PartWriter:
    """Gathers units into Parquet files of a fixed number of row groups."""

    root: Root
    units_per_part: int
    counts: dict[str, int] = field(default_factory=lambda: {split.value: 0 for split in Split})
    num_units: int = 0
    _sink: pa.BufferOutputStream | None = None
    _writer: pq.ParquetWriter | None = None

    def add(self, unit: list[ManifestRow]) -> None:
        writer = self._writer or self._open()
        writer.write_table(_unit_table(unit), row_group_size=len(unit))
        self.counts[unit[0].split] += len(unit)
        self.num_units += 1
        if self.num_units % self.units_per_part == 0:
            self._flush()

    def close(self) -> int:
        """Write what is open and return the number of parts."""
        self._flush()
        return -(-self.num_units // self.units_per_part)

    def _open(self) -> pq.ParquetWriter:
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, MANIFEST_SCHEMA, compression="zstd")
        return self._writer

    def _flush(self) -> None:
        if self._writer is None or self._sink is None:
            return
        self._writer.close()
        part = _part_name((self.num_units - 1) // self.units_per_part)
        self.root.write(part, self._sink.getvalue().to_pybytes())
        self._writer = self._sink = None


class _IdCheck:
    """Finds a sample id that occurs twice, in memory that does not grow with the data set."""

    def __init__(self, files: contextlib.ExitStack) -> None:
        self._buckets: list[IO[bytes]] = []
        for _ in range(_NUM_BUCKETS):
            bucket = tempfile.SpooledTemporaryFile(max_size=_BUCKET_BYTES)  # noqa: SIM115
            self._buckets.append(files.enter_context(bucket))

    def add(self, sample_ids: list[int]) -> None:
        ids = np.array(sample_ids, dtype=np.int64)
        bucket_of = ids % _NUM_BUCKETS
        for number in np.unique(bucket_of):
            self._buckets[number].write(ids[bucket_of == number].tobytes())

    def duplicate(self) -> int | None:
        for bucket in self._buckets:
            bucket.seek(0)
            ids, times = np.unique(np.frombuffer(bucket.read(), np.int64), return_counts=True)
            if (times > 1).any():
                return int(ids[times > 1][0])
        return None


def _refuse_duplicates(root: Root, num_parts: int, duplicate: int | None) -> None:
    if duplicate is None:
        return
    keys = []
    for number in range(num_parts):
        table = pq.read_table(pa.BufferReader(root.read(_part_name(number))))
        keys += [row["key"] for row in table.to_pylist() if row["sample_id"] == duplicate]
    raise StoreError(
        f"sample {duplicate} occurs {len(keys)} times in the source: {keys[:4]}; "
        "every file (or span of a file) may have one row"
    )


def _part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _unit_table(unit: list[ManifestRow]) -> pa.Table:
    names = MANIFEST_SCHEMA.names
    columns = {name: [getattr(row, name) for row in unit] for name in names}
    return pa.table(columns, schema=MANIFEST_SCHEMA)


def _stored_row(row: dict[str, Any]) -> ManifestRow:
    labels = row["labels"]
    row["labels"] = None if labels is None else tuple(labels)
    return ManifestRow(**row)


def _footer(manifest: Manifest, part: str) -> pq.FileMetaData:
    root = manifest.root
    options = json.dumps(dict(root.options), sort_keys=True)
    return _read_footer(root.uri, options, part, fingerprint(manifest.meta))


@lru_cache(maxsize=8)
def _read_footer(uri: str, options: str, part: str, _version: str) -> pq.FileMetaData:
    """Read the footer of a part once per process and version of the manifest."""
    root = Root(uri, json.loads(options))
    with root.filesystem().open(root.path(part), "rb") as file:
        return pq.ParquetFile(file).metadata


def _refs_of_part(footer: pq.FileMetaData, part: str) -> Iterator[UnitRef]:
    """Read unit and split from the statistics, which are exact as each is constant in a unit."""
    unit_column = MANIFEST_SCHEMA.names.index("unit")
    split_column = MANIFEST_SCHEMA.names.index("split")
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        yield UnitRef(
            unit=str(group.column(unit_column).statistics.min),
            part=part,
            row_group=number,
            split=str(group.column(split_column).statistics.min),
            num_rows=group.num_rows,
        )
