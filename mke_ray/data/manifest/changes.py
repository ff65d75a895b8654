"""What changed in a source since its manifest was written, found in flat memory."""

# N rows of a unit or a batch, M records of a bucket.

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mke_ray.data.manifest.buckets import DiskBuckets, first_repeated
from mke_ray.data.manifest.files import refs_of_part
from mke_ray.data.manifest.marks import (
    CHANGED,
    DELETED,
    MARKS_SCHEMA,
    MarkTable,
    marks_of_rows,
)
from mke_ray.data.manifest.parts import (
    PartWriter,
    UnitCutter,
    digest_of,
    row_digest,
)
from mke_ray.data.manifest.reading import Added, Manifest, next_generation
from mke_ray.data.manifest.spool import RowSpool
from mke_ray.data.sources import Source, SourceRow
from mke_ray.errors import StoreError
from mke_ray.schema import sample_id

_ROWS_AT_ONCE = 8192
_COMPARED = ["sample_id", "size", "etag", "split", "labels", "group"]
_KNOWN = np.dtype(
    [
        ("sample_id", "<i8"),
        ("digest", "<u8"),
        ("unit", "S16"),
        ("row", "<i4"),
        ("has_object", "?"),
    ]
)
_SEEN = np.dtype([("sample_id", "<i8"), ("digest", "<u8"), ("ordinal", "<i8"), ("has_object", "?")])
_MOST_LOST = 0.5

_logger = logging.getLogger(__name__)


def refreshed(
    manifest: Manifest, source: Source, units_per_part: int, *, accept_loss: bool = False
) -> Manifest:
    """Return the manifest as its source is now, in a new generation where anything changed.

    Rows that are not known get new units; rows that changed too, and their old row is marked; rows
    that are gone are marked. A row that is still named but whose object is not there stays as
    it is. A forgotten sample is never added again.

    Args:
        manifest: The newest generation.
        source: Its source.
        units_per_part: Units per file.
        accept_loss: Go on with a source that lost more than half of the known samples.

    Raises:
        StoreError: The source has none of the known samples any more, lost most of them, or has
            one twice.
    """
    with contextlib.ExitStack() as files:
        known, seen = DiskBuckets(_KNOWN, files), DiskBuckets(_SEEN, files)
        spool = RowSpool(files)
        for some in _known_rows(manifest):
            known.add(some)
        for some in _seen_rows(source, spool, manifest.mark_table().forgotten):
            seen.add(some)
        changes = _compare(known, seen, spool)
        changes.check(manifest, accept_loss=accept_loss)
        if not changes.is_any:
            return manifest
        added = _write_new(manifest, spool.rows(changes.is_new), units_per_part)
    _logger.info("the source changed: %s", changes.summary())
    return next_generation(manifest, changes.marks(), added)


@dataclass(slots=True)
class _Changes:
    """What differs between a manifest and its source.

    Args:
        is_new: Whether each row of the source needs a new row, by its ordinal; packed bits.
        changed: Known rows of which there is a new version.
        deleted: Known rows that are gone.
        num_new: Rows that need a new row, new versions among them.
        num_known: Known rows, those that are not in the source any more left out.
        num_absent: Known rows that the source still names, but whose object is not there.
    """

    is_new: np.ndarray
    changed: list[np.ndarray] = field(default_factory=list)
    deleted: list[np.ndarray] = field(default_factory=list)
    num_new: int = 0
    num_known: int = 0
    num_absent: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything differs."""
        return bool(self.num_new or self.num_deleted)

    @property
    def num_changed(self) -> int:
        """Number of known rows of which there is a new version."""
        return sum(map(len, self.changed))

    @property
    def num_deleted(self) -> int:
        """Number of known rows that are gone."""
        return sum(map(len, self.deleted))

    def check(self, manifest: Manifest, *, accept_loss: bool) -> None:
        """Refuse a source that lost most samples: more likely it is not the one that was meant.

        Args:
            manifest: The manifest it is compared with.
            accept_loss: Refuse only one that lost everything.

        Raises:
            StoreError: It did.
        """
        num_lost = self.num_deleted + self.num_absent
        if not num_lost or (num_lost < self.num_known and accept_loss):
            return
        look = (
            "give another source another root; if it is the same one, look at source.root (is it "
            "mounted, is it the right bucket?), set refresh=false to work with what is stored"
        )
        if num_lost == self.num_known:
            raise StoreError(
                f"the source has none of the {self.num_known} samples of {manifest.root.uri} any "
                f"more; {look}"
            )
        if num_lost > _MOST_LOST * self.num_known:
            raise StoreError(
                f"the source lost {num_lost} of the {self.num_known} samples of "
                f"{manifest.root.uri}: {self.num_deleted} are not listed any more, the files of "
                f"{self.num_absent} are not there; {look}, or accept_loss=true if they are gone "
                "for good"
            )

    def marks(self) -> pa.Table:
        """Return the marks that follow."""
        tables = [marks_of_rows(some, CHANGED) for some in self.changed if len(some)]
        tables += [marks_of_rows(some, DELETED) for some in self.deleted if len(some)]
        return pa.concat_tables([MARKS_SCHEMA.empty_table(), *tables])

    def summary(self) -> str:
        """Return the numbers for a person."""
        num_new = self.num_new - self.num_changed
        return f"{num_new} new samples, {self.num_changed} changed, {self.num_deleted} deleted"


def _known_rows(manifest: Manifest) -> Iterator[np.ndarray]:
    """Yield a record per row that the source had last, part by part."""
    marks = manifest.mark_table()
    for part in manifest.parts():
        file = manifest.open_part(part)
        is_current_N, unit_N, row_N = _places(list(refs_of_part(file.metadata, part)), marks)
        start = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=_COMPARED):
            some = slice(start, start + batch.num_rows)
            record_N = np.empty(batch.num_rows, _KNOWN)
            record_N["sample_id"] = batch.column("sample_id").to_numpy()
            record_N["digest"] = _digests(batch)
            record_N["unit"], record_N["row"] = unit_N[some], row_N[some]
            record_N["has_object"] = batch.column("size").to_numpy() >= 0
            yield record_N[is_current_N[some]]
            start = some.stop


def _places(refs: list, marks: MarkTable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of every row of a part whether the source had it last, its unit, and its number."""
    num_U = np.array([ref.num_rows for ref in refs])
    first_U = np.cumsum(num_U) - num_U
    unit_N = np.repeat(np.array([ref.unit for ref in refs], dtype="S16"), num_U)
    row_N = np.arange(num_U.sum()) - np.repeat(first_U, num_U)
    is_current_N = np.ones(len(unit_N), dtype=bool)
    for ref, first in zip(refs, first_U, strict=True):
        is_gone = marks.not_current(ref.unit)
        if is_gone is not None:
            is_current_N[first : first + ref.num_rows] = ~is_gone
    return is_current_N, unit_N, row_N


def _digests(batch: pa.RecordBatch) -> np.ndarray:
    """Return the digest of each row of some columns."""
    columns = [batch.column(name).to_pylist() for name in _COMPARED[1:]]
    return np.array([row_digest(*fields) for fields in zip(*columns, strict=True)], np.uint64)


def _seen_rows(source: Source, spool: RowSpool, forgotten: frozenset[int]) -> Iterator[np.ndarray]:
    """Yield a record per row of the source, in batches, and keep the rows in a spool."""
    held: list[tuple[int, int, int, bool]] = []
    for row in source.rows():
        one = sample_id(row.key, row.start_s, row.end_s)
        if forgotten and (one in forgotten or sample_id(row.key) in forgotten):
            continue
        held.append((one, digest_of(row), spool.add(row), row.size >= 0))
        if len(held) == _ROWS_AT_ONCE:
            yield np.array(held, _SEEN)
            held.clear()
    yield np.array(held, _SEEN)


def _compare(known: DiskBuckets, seen: DiskBuckets, spool: RowSpool) -> _Changes:
    """Compare the rows of a manifest with those of its source, bucket by bucket.

    Raises:
        StoreError: The source has a sample twice.
    """
    changes = _Changes(np.zeros(-(-spool.num_rows // 8), np.uint8))
    for known_M, seen_M in zip(known, seen, strict=True):
        _refuse_repeated(seen_M, spool)
        at_M = np.searchsorted(known_M["sample_id"], seen_M["sample_id"])
        is_known = _at(known_M, at_M)["sample_id"] == seen_M["sample_id"]
        is_known &= at_M < len(known_M)
        is_absent = is_known & _at(known_M, at_M)["has_object"] & ~seen_M["has_object"]
        is_same = is_known & (_at(known_M, at_M)["digest"] == seen_M["digest"]) | is_absent
        new = seen_M["ordinal"][~is_same]
        np.bitwise_or.at(changes.is_new, new >> 3, (128 >> (new & 7)).astype(np.uint8))
        is_left = np.ones(len(known_M), dtype=bool)
        is_left[at_M[is_known]] = False
        changes.num_new += len(new)
        changes.num_known += len(known_M)
        changes.num_absent += int(is_absent.sum())
        changes.changed.append(known_M[at_M[is_known & ~is_same]])
        changes.deleted.append(known_M[is_left])
    return changes


def _at(known_M: np.ndarray, at_M: np.ndarray) -> np.ndarray:
    """Return known records at some places, of which those beyond the end mean nothing."""
    if not len(known_M):
        return np.zeros(len(at_M), _KNOWN)
    return known_M[np.minimum(at_M, len(known_M) - 1)]


def _refuse_repeated(seen_M: np.ndarray, spool: RowSpool) -> None:
    """Refuse a source that names a sample twice."""
    repeated = first_repeated(seen_M)
    if repeated is None:
        return
    ordinals = seen_M["ordinal"][seen_M["sample_id"] == repeated]
    chosen = np.zeros(-(-spool.num_rows // 8), np.uint8)
    np.bitwise_or.at(chosen, ordinals >> 3, (128 >> (ordinals & 7)).astype(np.uint8))
    raise repeated_error(repeated, [row.key for row in spool.rows(chosen)])


def repeated_error(repeated: int, keys: list[str]) -> StoreError:
    """Return the error for a sample that a source names more than once."""
    return StoreError(
        f"sample {repeated} occurs {len(keys)} times in the source: {keys[:4]}; "
        "every file (or span of a file) may have one row"
    )


def _write_new(manifest: Manifest, rows: Iterator[SourceRow], units_per_part: int) -> Added | None:
    """Write the parts of the next generation; None where there is no row for them."""
    meta, generation = manifest.meta, manifest.generation + 1
    writer = PartWriter(
        manifest.root,
        generation,
        units_per_part,
        num_units=meta["num_units"],
        counts=dict(meta["counts"]),
    )
    writer.digests |= meta["digests"]
    cutter = UnitCutter(meta["unit_size"], generation)
    for row in rows:
        unit = cutter.add(row)
        if unit is not None:
            writer.add(unit)
    for unit in cutter.close():
        writer.add(unit)
    writer.flush()
    if not writer.parts:
        return None
    return Added(writer.parts, writer.num_units, writer.counts, writer.digests)
