"""The samples of a unit: fetched, decoded, encoded and stored once; some of them read again."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.counts import reasons_of
from mke_ray.labels.origin import RowDecoder
from mke_ray.labels.revisions import rows_to_retry, with_rows
from mke_ray.labels.rows import StoredRow, fetch_share
from mke_ray.labels.sample_reader import PRESENT, SampleReader, as_stored, keeps_media
from mke_ray.labels.store import location_of
from mke_ray.labels.unit_report import UnitReport
from mke_ray.schema import SIGNATURE_SUFFIX, DecodeSpec, ManifestRow, samples_schema

if TYPE_CHECKING:
    from mke_ray.labels.plan import LabelPlan


@dataclass(frozen=True, slots=True)
class StoredSamples:
    """The samples of a unit as they are stored.

    Args:
        table: Its rows.
        revision: How often some of them were read again.
        has_media: Whether the rows hold their media.
    """

    table: pa.Table
    revision: int
    has_media: bool


class Storing:
    """Brings the samples of units to their store; the source is opened once, when needed.

    Args:
        plan: What to do.
    """

    def __init__(self, plan: "LabelPlan") -> None:
        self._plan = plan
        self._decode: DecodeSpec = plan.decode
        self._decoder = RowDecoder(plan.origin, self._decode)
        self._media = SampleReader(plan.samples, plan.manifest, self._decoder.read)

    def samples(self, ref: UnitRef, report: UnitReport) -> StoredSamples:
        """Return the samples of a unit as they are stored now; store those that are not there.

        Args:
            ref: The unit.
            report: What came of it; what this takes is added.

        Raises:
            StoreError: The store is damaged.
        """
        store = self._plan.samples
        record = store.find_record(ref.unit)
        if record is None:
            table, facts = self._decode_unit(ref, report)
            with report.timed("write"):
                if store.commit(ref.unit, as_stored(table, store), facts):
                    return StoredSamples(table, 0, has_media=True)
            # Somebody else was first: labels are computed from what is stored, so read theirs.
            record = store.record(ref.unit)
        samples = self._read(ref, record, report)
        again = rows_to_retry(samples.table, self._plan.retry_of(ref.split))
        return self._retry(ref, record, samples, again, report) if again else samples

    def with_media(
        self, ref: UnitRef, samples: StoredSamples, modalities: Collection[str], report: UnitReport
    ) -> StoredSamples:
        """Return samples with the media of some modalities, read again where none are kept.

        Raises:
            StoreError: They cannot be read again as they were.
        """
        if samples.has_media or not modalities:
            return samples
        with self._decoder.turn, report.timed("decode"):
            table = self._media.with_media(ref.unit, samples.table, sorted(modalities))
        return replace(samples, table=table, has_media=True)

    def _read(self, ref: UnitRef, record: dict[str, Any], report: UnitReport) -> StoredSamples:
        """Return what a commit record names."""
        store = self._plan.samples
        with report.timed("read"):
            table = store.read(ref.unit, location=location_of(record))
        return StoredSamples(table, record.get("revision", 0), has_media=keeps_media(store))

    def _retry(
        self,
        ref: UnitRef,
        record: dict[str, Any],
        samples: StoredSamples,
        again: list[int],
        report: UnitReport,
    ) -> StoredSamples:
        """Read some rows of a unit again, and put those that changed in the place of the old."""
        store, manifest_rows = self._plan.samples, self._plan.manifest.read_unit(ref)
        new, _ = self._read_rows([manifest_rows[row] for row in again], report)
        table = with_rows(samples.table, again, as_stored(new, store))
        if table.equals(samples.table):
            return samples
        facts = {**reasons_of(table), "revision": samples.revision + 1}
        with report.timed("write"):
            is_ours = store.supersede(ref.unit, table, facts, of=record)
        if not is_ours:
            return self._read(ref, store.record(ref.unit), report)
        return replace(samples, table=table, revision=samples.revision + 1)

    def _decode_unit(self, ref: UnitRef, report: UnitReport) -> tuple[pa.Table, dict[str, Any]]:
        """Fetch, decode and encode every sample of a unit."""
        table, decoders = self._read_rows(self._plan.manifest.read_unit(ref), report)
        spent_s = report.seconds["decode"] + report.seconds.get("fetch", 0.0)
        facts = {
            "split": ref.split,
            **reasons_of(table),
            "seconds": round(spent_s, 4),
            "num_bytes_read": report.num_bytes_read,
            "num_bytes_needed": report.num_bytes_needed,
            "decoders": decoders,
            "duration_s": round(report.duration_s, 3),
        }
        return table, facts

    def _read_rows(
        self, manifest_rows: list[ManifestRow], report: UnitReport
    ) -> tuple[pa.Table, dict[str, int]]:
        """Fetch, decode and encode some samples of a unit, and count what decoded them."""
        with self._decoder.turn, report.timed("decode"):
            rows = self._decoder.read(manifest_rows)
        spent_s = report.seconds["decode"]
        if fetch_s := spent_s * fetch_share(rows):
            report.seconds |= {"fetch": fetch_s, "decode": spent_s - fetch_s}
        report.num_decoded = sum(not row.mark for row in manifest_rows)
        report.num_bytes_read = sum(row.num_bytes_read for row in rows)
        report.num_bytes_needed = sum(row.num_bytes_needed for row in rows)
        report.duration_s = sum(row.duration_s for row in rows)
        decoders = Counter(row.decoder for row in rows if row.decoder)
        return self._table(manifest_rows, rows), dict(decoders)

    def _table(self, manifest_rows: list[ManifestRow], rows: list[StoredRow]) -> pa.Table:
        """Return the table of some samples with their media; every input has its row."""
        columns: dict[str, list[Any]] = {
            "sample_id": [row.sample_id for row in manifest_rows],
            "status": [str(row.status) for row in rows],
            "error": [row.error for row in rows],
        }
        for modality in self._decode:
            columns[modality] = [row.pieces.get(modality) for row in rows]
            columns[f"{modality}_status"] = [row.missing.get(modality, PRESENT) for row in rows]
            columns[modality + SIGNATURE_SUFFIX] = [row.signatures.get(modality) for row in rows]
        return pa.table(columns, schema=samples_schema(self._decode))
