"""The samples of a unit as they are encoded: from the store, or again from their source.

A store that keeps no media has a digest in the place of each sample's pieces. What is read again
must have the same one, so that whoever reads gets the bytes that were labelled, or an error.
"""

# B samples of a unit.

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.data.manifest.marks import NOT_CURRENT
from mke_ray.errors import StoreError
from mke_ray.labels.files import STATUS_SUFFIX
from mke_ray.labels.index import Location
from mke_ray.labels.origin import Origin, RowDecoder
from mke_ray.labels.rows import GONE, StoredRow
from mke_ray.labels.store import UnitStore
from mke_ray.schema import (
    DIGEST_SUFFIX,
    SIGNATURE_SUFFIX,
    ManifestRow,
    Status,
    decode_spec_from_dict,
)
from mke_ray.storage import Root

PRESENT = "ok"

_DIGEST_BYTES = 16
_MEDIA_TYPE = pa.list_(pa.binary())

ReadRows = Callable[[Sequence[ManifestRow]], list[StoredRow]]


def keeps_media(samples: UnitStore) -> bool:
    """Return whether a sample store keeps the media that were decoded."""
    return bool(samples.spec.get("media", True))


def as_stored(table: pa.Table, samples: UnitStore) -> pa.Table:
    """Return decoded samples as a store keeps them.

    Args:
        table: Samples with their media, of ``samples_schema``.
        samples: The sample store.
    """
    without = () if keeps_media(samples) else samples.spec["decode"]
    for modality in without:
        digests = [_digest(pieces) for pieces in table.column(modality).to_pylist()]
        table = table.append_column(
            pa.field(modality + DIGEST_SUFFIX, pa.binary()), [pa.array(digests, pa.binary())]
        )
    return table.select(samples.schema.names)


class SampleReader:
    """Reads the samples of units with their media, whether the store keeps these or not.

    Args:
        samples: The sample store.
        manifest: The manifest of its run; not looked at where the store keeps media.
        read_rows: Reads and encodes samples, as ``RowDecoder.read`` does; None where no source is
            at hand.
    """

    def __init__(
        self, samples: UnitStore, manifest: Manifest | None, read_rows: ReadRows | None
    ) -> None:
        self.samples = samples
        self._manifest = manifest
        self._read_rows = read_rows
        self._refs: dict[str, UnitRef] = {}

    @property
    def small_columns(self) -> list[str]:
        """The columns that say what a sample is and what became of it."""
        beside = (SIGNATURE_SUFFIX, DIGEST_SUFFIX)
        modalities = self.samples.spec["decode"]
        names = self.samples.schema.names
        return [one for one in names if one not in modalities and not one.endswith(beside)]

    def read(
        self,
        unit: str,
        columns: Sequence[str],
        *,
        location: Location | None = None,
        rows: Collection[int] | None = None,
    ) -> pa.Table:
        """Return columns of a unit, media among them.

        Args:
            unit: Id of the unit.
            columns: Columns wanted, as a store with media has them.
            location: Where the unit lies, from the index.
            rows: Rows whose media are wanted; where the store keeps none, others have none.

        Raises:
            StoreError: The unit is missing or damaged, or its samples cannot be read again as
                they were.
        """
        if keeps_media(self.samples):
            return self.samples.read(unit, location=location, columns=list(columns))
        modalities = [one for one in columns if one in self.samples.spec["decode"]]
        stored = self.samples.read(unit, location=location)
        return self.with_media(unit, stored, modalities, rows=rows).select(list(columns))

    def with_media(
        self,
        unit: str,
        stored: pa.Table,
        modalities: Iterable[str],
        *,
        rows: Collection[int] | None = None,
    ) -> pa.Table:
        """Return a table of a store without media together with these, read again.

        Rows that the source has no more, as the manifest knows, have none.

        Args:
            unit: Id of the unit.
            stored: Its rows, all columns.
            modalities: Modalities wanted.
            rows: Rows wanted, None for all.

        Raises:
            StoreError: A sample cannot be read again, or is not what it was.
        """
        wanted = list(modalities)
        manifest_rows = self._manifest_rows(unit)
        table = _without_gone(stored, manifest_rows)
        states = {one: table.column(one + STATUS_SUFFIX).to_pylist() for one in wanted}
        chosen = [
            place
            for place in range(table.num_rows)
            if (rows is None or place in rows) and any(s[place] == PRESENT for s in states.values())
        ]
        found = self._read_again([manifest_rows[place] for place in chosen])
        by_place = dict(zip(chosen, found, strict=True))
        for modality in wanted:
            digests = stored.column(modality + DIGEST_SUFFIX)
            for place, row in by_place.items():
                self._check(manifest_rows[place], row, modality, digests[place].as_py())
            pieces = [
                by_place[place].pieces.get(modality) if place in by_place else None
                for place in range(table.num_rows)
            ]
            field = pa.field(modality, _MEDIA_TYPE)
            table = table.append_column(field, [pa.array(pieces, _MEDIA_TYPE)])
        return table

    def _manifest_rows(self, unit: str) -> list[ManifestRow]:
        """Return the rows of a unit, and take away the marks that leave their files as they are."""
        if self._manifest is None or self._read_rows is None:
            raise StoreError(
                f"{self.samples.root.uri} keeps no media (samples=off), so its samples have to be "
                "read again, but no source was given; give it, or label with samples=on"
            )
        if not self._refs:
            self._refs = {ref.unit: ref for ref in self._manifest.unit_refs()}
        if unit not in self._refs:
            raise StoreError(
                f"unit {unit} of {self.samples.root.uri} is not in {self._manifest.root.uri}; "
                "samples and manifest must be of one run"
            )
        rows = self._manifest.read_unit(self._refs[unit])
        return [row if row.mark in NOT_CURRENT else replace(row, mark="") for row in rows]

    def _read_again(self, rows: list[ManifestRow]) -> list[StoredRow]:
        """Read and encode some samples."""
        return self._read_rows(rows) if rows and self._read_rows is not None else []

    def _check(
        self, row: ManifestRow, found: StoredRow, modality: str, digest: bytes | None
    ) -> None:
        """Refuse a sample that is not what it was when it was stored."""
        pieces = found.pieces.get(modality)
        if _digest(pieces) == digest:
            return
        said = found.error or found.missing.get(modality) or "it has other content"
        raise StoreError(
            f"{self.samples.root.uri} keeps no media (samples=off), and the {modality} of sample "
            f"{row.sample_id} ({row.key}) cannot be read again as it was labelled: "
            f"{'there was none' if digest is None else said}. Start again if the source did not "
            "answer; put the file back, or start the job with refresh=true, which leaves out files "
            "that are gone or changed; after a change of the decoder's version use another root"
        )


def sample_reader(samples: UnitStore, root: Root, origin: Origin | None) -> SampleReader:
    """Return what reads the samples of a run.

    Args:
        samples: The sample store.
        root: Root of the run.
        origin: Where samples are read again; None where the store keeps their media.
    """
    if origin is None:
        return SampleReader(samples, None, None)
    decode = decode_spec_from_dict(samples.spec["decode"])
    manifest = Manifest.open(root.child("manifest"))
    return SampleReader(samples, manifest, RowDecoder(origin, decode).read)


def _digest(pieces: list[bytes] | None) -> bytes | None:
    """Return a digest of the encoded pieces of one modality, None where it is missing."""
    if pieces is None:
        return None
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.digest()


def _without_gone(stored: pa.Table, rows: Sequence[ManifestRow]) -> pa.Table:
    """Return stored rows of which those are missing that the source has no more."""
    gone = [bool(row.mark) for row in rows]
    if not any(gone):
        return stored
    for place, field in enumerate(stored.schema):
        is_modality = field.name.endswith(STATUS_SUFFIX)
        if is_modality or field.name == "status":
            mark = GONE if is_modality else str(Status.BAD)
            kept = stored.column(place).to_pylist()
            column = [mark if no else one for one, no in zip(kept, gone, strict=True)]
            stored = stored.set_column(place, field, [pa.array(column, field.type)])
    return stored
