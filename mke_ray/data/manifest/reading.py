"""A finished manifest: its units, their rows with their marks, and its next generation."""

# N rows of a unit, M marks.

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.manifest.files import (
    PartOfFile,
    UnitRef,
    held_footer,
    held_marks,
    marks_name,
    meta_name,
    new_attempt,
    newest_generation,
    range_of_row_group,
    refs_of_part,
    remove_unnamed,
)
from mke_ray.data.manifest.fresh import fresh_marks
from mke_ray.data.manifest.marks import Mark, MarkTable, marks_table, table_to_bytes
from mke_ray.errors import StoreError
from mke_ray.schema import LabelSpace, ManifestRow, fingerprint
from mke_ray.storage import Root

MANIFEST_VERSION = 3


@dataclass(frozen=True, slots=True)
class Added:
    """What the parts of one generation hold, all parts before them included where they count.

    Args:
        parts: Names of the parts of this generation alone.
        num_units: Units of all generations.
        counts: Rows of all generations per split, marked ones taken away but for those marked now.
        digests: Digest per split over the rows of all generations.
    """

    parts: Sequence[str]
    num_units: int
    counts: Mapping[str, int]
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation of a manifest; cheap to send to workers.

    A later generation adds parts, with units of new and changed samples, and marks on rows of
    earlier ones; it never takes a unit away.

    Args:
        root: Folder of the manifest itself.
        meta: Format version, identity, label space, unit size, generation, the attempt that
            finished it, names of the parts and of the files of marks of all generations, counts of
            unmarked rows per split, counts of marked rows per reason, number of units, digest of
            each split.
    """

    root: Root
    meta: dict[str, Any]

    @classmethod
    def open(cls, root: Root) -> "Manifest":
        """Open the newest generation of a finished manifest.

        Raises:
            StoreError: There is none, it is unfinished, or it is of another format version.
        """
        generation = newest_generation(root)
        if generation is None:
            raise StoreError(f"{root.uri} holds no finished manifest; write one first")
        return cls.open_generation(root, generation)

    @classmethod
    def open_generation(cls, root: Root, generation: int) -> "Manifest":
        """Open one generation.

        Raises:
            StoreError: It is of another format version.
        """
        meta = json.loads(root.read(meta_name(generation)))
        if meta["format_version"] != MANIFEST_VERSION:
            raise StoreError(
                f"{root.uri} has format version {meta['format_version']}, this program reads "
                f"{MANIFEST_VERSION}; use another root"
            )
        return cls(root, meta)

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        return LabelSpace.from_dict(self.meta["label_space"])

    @property
    def generation(self) -> int:
        """How often the manifest was changed."""
        return self.meta["generation"]

    def digest(self, splits: Iterable[str]) -> str:
        """Return 16 hex digits that change whenever the usable rows of some splits could."""
        return fingerprint({str(split): self.meta["digests"][str(split)] for split in splits})

    def parts(self) -> Iterator[str]:
        """Yield the names of the parts in order."""
        yield from self.meta["parts"]

    def unit_refs(self, splits: Iterable[str] | None = None) -> Iterator[UnitRef]:
        """Yield the units in order, from the footers of the parts alone.

        Args:
            splits: Splits to take, None for all.
        """
        wanted = None if splits is None else {str(split) for split in splits}
        for part in self.parts():
            for ref in refs_of_part(self._footer(part), part):
                if wanted is None or ref.split in wanted:
                    yield ref

    def read_unit(self, ref: UnitRef) -> list[ManifestRow]:
        """Return the rows of a unit in order, with their marks.

        Raises:
            StoreError: The file holds another unit there.
        """
        table = self._read_row_group(ref)
        reasons = self.mark_table().reasons(ref.unit)
        rows = [
            _manifest_row(row, reasons.get(number, ""))
            for number, row in enumerate(table.to_pylist())
        ]
        if len(rows) != ref.num_rows or rows[0].unit != ref.unit:
            raise StoreError(
                f"{self.root.uri}/{ref.part}: row group {ref.row_group} holds unit "
                f"{rows[0].unit} with {len(rows)} rows, expected {ref.unit} with {ref.num_rows}"
            )
        return rows

    def open_part(self, part: str) -> pq.ParquetFile:
        """Return a part as a whole in memory, for a look at many of its rows."""
        return pq.ParquetFile(pa.BufferReader(self.root.read(part)))

    def marks(self, unit: str) -> np.ndarray | None:
        """Return which rows of a unit must not be used, bool [N]; None where all may be."""
        return self.mark_table().mask(unit)

    def mark_table(self) -> MarkTable:
        """Return the marks of all generations, read once per process."""
        return held_marks(self.root, tuple(self.meta["marks"]))

    def add_marks(self, marks: Iterable[Mark]) -> "Manifest":
        """Mark rows in a new generation.

        Args:
            marks: The marks; those that the manifest has already change nothing.

        Returns:
            The new generation, or this one where nothing is new.

        Raises:
            StoreError: A mark is of no row of the manifest, or another driver was faster.
        """
        return next_generation(self, marks_table(marks))

    @property
    def _version(self) -> str:
        """What tells this generation of this manifest from all others at its place."""
        return self.meta["attempt"]

    def _read_row_group(self, ref: UnitRef) -> pa.Table:
        """Fetch the bytes of a row group by one request, and nothing around them."""
        footer = self._footer(ref.part)
        begin, end = range_of_row_group(footer, ref.row_group)
        content = self.root.read_range(ref.part, begin, end)
        opened = pq.ParquetFile(PartOfFile(content, begin), metadata=footer)
        return opened.read_row_group(ref.row_group, use_threads=False)

    def _footer(self, part: str) -> pq.FileMetaData:
        return held_footer(self.root, part, version=self._version)


def next_generation(manifest: Manifest, marks: pa.Table, added: Added | None = None) -> Manifest:
    """Finish the next generation of a manifest.

    Args:
        manifest: The newest generation.
        marks: Marks as ``marks_table`` makes them.
        added: What the parts hold that were written for the generation, None where there are none.

    Returns:
        The new generation, or the given one where nothing is new.

    Raises:
        StoreError: A mark is of no row of the manifest, or another driver was faster.
    """
    fresh = fresh_marks(manifest.mark_table(), marks, _refs_by_unit(manifest, marks))
    if added is None and not fresh.table.num_rows:
        return manifest
    if newest_generation(manifest.root) != manifest.generation:
        raise _other_driver(manifest.root, manifest.generation + 1)
    old, generation = manifest.meta, manifest.generation + 1
    marks_file = marks_name(generation, new_attempt())
    base = added or Added((), old["num_units"], old["counts"], old["digests"])
    meta = old | {
        "generation": generation,
        "parts": [*old["parts"], *base.parts],
        "marks": [*old["marks"], *([marks_file] if fresh.table.num_rows else [])],
        "num_units": base.num_units,
        "counts": {split: base.counts[split] - fresh.taken[split] for split in base.counts},
        "marked": dict(sorted((Counter(old["marked"]) + fresh.reasons - fresh.replaced).items())),
        "digests": {
            split: fingerprint([digest, fresh.changed[split]]) if split in fresh.changed else digest
            for split, digest in base.digests.items()
        },
    }
    if fresh.table.num_rows:
        manifest.root.write(marks_file, table_to_bytes(fresh.table))
    return finish_generation(manifest.root, meta)


def finish_generation(root: Root, meta: Mapping[str, Any]) -> Manifest:
    """Create the file that makes a generation the newest one.

    Raises:
        StoreError: Another driver finished the same generation.
    """
    mine = {**meta, "attempt": new_attempt()}
    name, content = meta_name(meta["generation"]), json.dumps(mine, indent=1, sort_keys=True)
    if not root.create(name, content.encode()) and root.read(name) != content.encode():
        raise _other_driver(root, meta["generation"])
    manifest = Manifest.open_generation(root, meta["generation"])
    remove_unnamed(root, manifest.meta)
    return manifest


def _other_driver(root: Root, generation: int) -> StoreError:
    """Return the error for a generation that somebody else finished first, with ours removed."""
    remove_unnamed(root, Manifest.open_generation(root, generation).meta)
    return StoreError(
        f"{root.uri}: another driver wrote {meta_name(generation)} in the meantime; start the job "
        "again"
    )


def _refs_by_unit(manifest: Manifest, marks: pa.Table) -> dict[str, UnitRef]:
    """Return where the units of some marks are."""
    units = frozenset(marks.column("unit").to_pylist()) - {""}
    if not units:
        return {}
    return {ref.unit: ref for ref in manifest.unit_refs() if ref.unit in units}


def _manifest_row(row: dict[str, Any], mark: str) -> ManifestRow:
    """Return a row of a part with its mark."""
    labels = row["labels"]
    row["labels"] = None if labels is None else tuple(labels)
    return ManifestRow(**row, mark=mark)
