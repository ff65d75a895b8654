"""The first generation of a manifest, streamed from its source and resumable, and its refresh."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.manifest.buckets import DiskBuckets, first_repeated
from mke_ray.data.manifest.changes import refreshed, repeated_error
from mke_ray.data.manifest.files import newest_generation
from mke_ray.data.manifest.parts import PartWriter, UnitCutter
from mke_ray.data.manifest.reading import MANIFEST_VERSION, Manifest, finish_generation
from mke_ray.data.sources import Placed, Source, SourceRow
from mke_ray.errors import StoreError
from mke_ray.schema import ManifestRow
from mke_ray.storage import Root

_NONE = "nothing"  # stands for an entry that only one of two descriptions has

PROGRESS = "progress.json"

_ID = np.dtype([("sample_id", "<i8")])

_logger = logging.getLogger(__name__)


def write_manifest(
    root: Root,
    source: Source,
    *,
    unit_size: int,
    refresh: bool = True,
    accept_loss: bool = False,
    units_per_part: int = 1024,
) -> Manifest:
    """Write the manifest of a source, or bring the one that is there up to date.

    A listing that was interrupted goes on after its last part, where the source can.

    Args:
        root: Folder of the manifest.
        source: Where the rows come from; its rows are streamed.
        unit_size: Rows per unit; the last unit of a split may have fewer.
        refresh: Look for new, changed and deleted rows; without it what is there is opened.
        accept_loss: Go on with a source that lost more than half of the known samples.
        units_per_part: Units per file.

    Raises:
        StoreError: The folder holds a manifest of something else, a sample occurs twice, or the
            source lost most of its samples.
    """
    expected = _description(source, unit_size)
    if newest_generation(root) is None:
        return _write_first(root, source, expected, units_per_part)
    manifest = _same(Manifest.open(root), expected)
    if not refresh:
        return manifest
    return refreshed(manifest, source, units_per_part, accept_loss=accept_loss)


def _description(source: Source, unit_size: int) -> dict[str, Any]:
    """Return what may not change under one root."""
    return {
        "format_version": MANIFEST_VERSION,
        "identity": json.loads(json.dumps(source.identity())),
        "label_space": source.label_space.to_dict(),
        "unit_size": unit_size,
    }


def _same(manifest: Manifest, expected: Mapping[str, Any]) -> Manifest:
    """Return the manifest if it describes the expected source."""
    for key, value in expected.items():
        found = manifest.meta.get(key)
        if found != value:
            raise StoreError(
                f"{manifest.root.uri} was made from another source: {_unlike(key, found, value)}. "
                "Give the keys that it was made with (experiment=, source.*, data_seed), or "
                "another root"
            )
    return manifest


def _unlike(key: str, found: Any, wanted: Any) -> str:
    """Return what is not the same, of mappings the first of their entries."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        name = next(
            one for one in (*found, *wanted) if found.get(one, _NONE) != wanted.get(one, _NONE)
        )
        return _unlike(f"{key}.{name}", found.get(name, _NONE), wanted.get(name, _NONE))
    return f"{key} is {found!r} there and {wanted!r} here"


def _write_first(
    root: Root, source: Source, expected: Mapping[str, Any], units_per_part: int
) -> Manifest:
    """List a source from its start, or from where an earlier listing was interrupted."""
    place = source.place() if isinstance(source, Placed) else ""
    progress = _Progress.read(root, expected, place)
    cutter = UnitCutter(expected["unit_size"], 0, progress.rows())
    writer = progress.writer(root, units_per_part)
    with contextlib.ExitStack() as files:
        ids = _SampleIds(files)
        ids.add_known(root, progress)
        for row in _rows_after(source, progress.cursor):
            unit = cutter.add(row)
            if unit is None:
                continue
            ids.add_unit(unit)
            if writer.add(unit):
                progress.after(writer, cutter, row.cursor).write(root)
        for unit in cutter.close():
            ids.add_unit(unit)
            writer.add(unit)
        writer.flush()
        _refuse_repeated(root, writer.parts, ids.repeated())
    manifest = finish_generation(root, _first_meta(writer, expected))
    root.delete(PROGRESS)
    return manifest


def _first_meta(writer: PartWriter, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return the meta of generation 0."""
    return dict(expected) | {
        "generation": 0,
        "parts": writer.parts,
        "marks": [],
        "num_units": writer.num_units,
        "counts": writer.counts,
        "marked": {},
        "digests": writer.digests,
    }


def _rows_after(source: Source, cursor: str) -> Iterator[SourceRow]:
    """Return the rows of a source after a cursor, all of them where there is none."""
    return source.rows(after=cursor) if cursor else source.rows()


@dataclass(slots=True)
class _Progress:
    """How far an unfinished listing is, as it is written after each part.

    Args:
        expected: What the manifest is of.
        place: Where the source lies, and the version of its table; "" where it does not say so.
        cursor: Cursor of the last row that was taken; "" before the first part.
        open_rows: Rows that are in no part yet, by split.
        parts: Names of the parts that are written; each driver goes on in names of its own.
        num_units: Units in them.
        counts: Rows in them per split.
        digests: Digest of each split over them.
    """

    expected: dict[str, Any]
    place: str
    cursor: str = ""
    open_rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    num_units: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Root, expected: Mapping[str, Any], place: str) -> "_Progress":
        """Return how far an earlier listing of the same source at the same place came."""
        try:
            plain = json.loads(root.read(PROGRESS))
        except FileNotFoundError:
            return cls(dict(expected), place)
        if plain["expected"] != expected or plain["place"] != place:
            root.delete(PROGRESS)
            return cls(dict(expected), place)
        found = cls(**plain)
        _logger.info("listing goes on after %d samples", sum(found.counts.values()))
        return found

    def after(self, writer: PartWriter, cutter: UnitCutter, cursor: str) -> "_Progress":
        """Return how far the listing is that has just written a part."""
        return _Progress(
            self.expected,
            self.place,
            cursor,
            {split: [asdict(row) for row in rows] for split, rows in cutter.open_rows.items()},
            writer.parts,
            writer.num_units,
            writer.counts,
            writer.digests,
        )

    def write(self, root: Root) -> None:
        """Write it, unless the source cannot go on from a row."""
        if self.cursor:
            root.write(PROGRESS, json.dumps(asdict(self)).encode())

    def rows(self) -> dict[str, list[SourceRow]]:
        """Return the rows that are in no part yet."""
        return {
            split: [_row_from(plain) for plain in rows] for split, rows in self.open_rows.items()
        }

    def writer(self, root: Root, units_per_part: int) -> PartWriter:
        """Return a writer that goes on after the parts that are written."""
        writer = PartWriter(root, 0, units_per_part, list(self.parts), self.num_units)
        writer.counts |= self.counts
        writer.digests |= self.digests
        return writer


def _row_from(plain: dict[str, Any]) -> SourceRow:
    """Return a row from plain data."""
    labels = plain.pop("labels")
    return SourceRow(**plain, labels=None if labels is None else tuple(labels))


class _SampleIds:
    """Finds a sample id that occurs twice, in memory that does not grow with the data set."""

    def __init__(self, files: contextlib.ExitStack) -> None:
        self._buckets = DiskBuckets(_ID, files)

    def add_known(self, root: Root, progress: _Progress) -> None:
        """Add the ids of the parts that an earlier listing wrote."""
        for part in progress.parts:
            content = pa.BufferReader(root.read(part))
            table = pq.read_table(content, columns=["sample_id"])
            self._buckets.add(table.column("sample_id").to_numpy().view(_ID))

    def add_unit(self, unit: list[ManifestRow]) -> None:
        """Add the ids of a unit."""
        self._buckets.add(np.array([row.sample_id for row in unit], np.int64).view(_ID))

    def repeated(self) -> int | None:
        """Return an id that occurs twice, None where none does."""
        return next((one for one in map(first_repeated, self._buckets) if one is not None), None)


def _refuse_repeated(root: Root, parts: list[str], repeated: int | None) -> None:
    """Refuse a source that names a sample twice; the next listing begins anew."""
    if repeated is None:
        return
    keys = []
    for part in parts:
        table = pq.read_table(pa.BufferReader(root.read(part)))
        keys += [row["key"] for row in table.to_pylist() if row["sample_id"] == repeated]
    root.delete(PROGRESS)
    raise repeated_error(repeated, keys)
