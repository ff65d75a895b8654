"""What a worker does with a unit: fetch, decode, store, label what is stored."""

# B samples, C classes, X any.

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from mke_ray.config import build
from mke_ray.data.codec import decode_modality
from mke_ray.data.manifest import UnitRef
from mke_ray.data.sources import Reader
from mke_ray.errors import StoreError
from mke_ray.labels.counts import count_rows, reasons_of
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.isolation import IsolatedDecoder
from mke_ray.labels.revisions import commit_derived, rows_to_retry, with_rows
from mke_ray.labels.rows import StoredRow, decode_row, fetch_share
from mke_ray.labels.store import location_of
from mke_ray.models.teachers import Teacher
from mke_ray.schema import (
    LABELS_SCHEMA,
    SIGNATURE_SUFFIX,
    DecodeSpec,
    ManifestRow,
    Status,
    StatusCounts,
)
from mke_ray.storage import TRAFFIC, Root

if TYPE_CHECKING:
    from mke_ray.labels.plan import LabelPlan, TeacherPlan

PRESENT = "ok"


@dataclass(slots=True)
class UnitReport:
    """What came of one unit.

    Args:
        unit: Id of the unit.
        counts: How many of its samples ended in each status.
        seconds: Time by stage: ``fetch``, ``decode`` (with encoding), ``teacher``, ``write``, and
            ``read`` where the samples were stored already.
        num_bytes_read: Bytes fetched from the source; 0 where the samples were stored already.
        num_bytes_needed: Bytes of those that hold the samples.
        duration_s: Seconds of media that were decoded.
        num_bytes_written: Bytes written to the stores.
    """

    unit: str
    counts: StatusCounts
    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes_read: int = 0
    num_bytes_needed: int = 0
    duration_s: float = 0.0
    num_bytes_written: int = 0

    def to_json(self) -> str:
        """Return text that ``from_json`` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "UnitReport":
        """Read what ``to_json`` wrote."""
        plain = json.loads(text)
        return cls(**(plain | {"counts": StatusCounts(**plain["counts"])}))


@dataclass(frozen=True, slots=True)
class StoredSamples:
    """The samples of a unit as they are stored.

    Args:
        table: Its rows.
        revision: How often some of them were read again.
    """

    table: pa.Table
    revision: int


class Worker(Protocol):
    """Works on one unit after the other, in whatever process it is made."""

    def run(self, ref: UnitRef) -> UnitReport:
        """Bring one unit to its end."""
        ...


class WorkPlan(Protocol):
    """Plain data from which every process makes its worker."""

    @property
    def root(self) -> Root:
        """Root of the run."""
        ...

    @property
    def num_threads(self) -> int:
        """Threads per worker."""
        ...

    def worker(self) -> Worker:
        """Return a worker; cheap, it opens nothing yet."""
        ...


class UnitWorker:
    """Works on one unit after the other; the source and the teachers are built once, when needed.

    Args:
        plan: What to do.
    """

    def __init__(self, plan: "LabelPlan") -> None:
        self._plan = plan
        self._decode: DecodeSpec = plan.decode
        self._reader: Reader | None = None
        self._decoder: IsolatedDecoder | None = None
        self._teachers: dict[int, Teacher] = {}

    def run(self, ref: UnitRef) -> UnitReport:
        """Bring one unit to its end: samples stored and every teacher's logits stored.

        What is stored already is not done again.

        Raises:
            StoreError: A store is damaged, or a teacher does not fit it.
        """
        report = UnitReport(ref.unit, StatusCounts())
        samples = self._samples(ref, report)
        report.counts = count_rows(samples.table, self._plan.manifest.marks(ref.unit))
        for number, teacher_plan in enumerate(self._plan.teachers):
            known = teacher_plan.labels.find_record(ref.unit)
            if known is None or known.get("of_revision", 0) < samples.revision:
                self._label(ref, number, samples, report)
        return report

    def _samples(self, ref: UnitRef, report: UnitReport) -> "StoredSamples":
        """Return the stored samples of a unit; decode and store what is not there."""
        store = self._plan.samples
        record = store.find_record(ref.unit)
        if record is None:
            table, facts = self._decode_unit(ref, report)
            with _timed(report, "write"):
                if store.commit(ref.unit, table, facts):
                    return StoredSamples(table, 0)
            # Somebody else was first: labels are computed from what is stored, so read theirs.
            record = store.record(ref.unit)
        with _timed(report, "read"):
            table = store.read(ref.unit, location=location_of(record))
        samples = StoredSamples(table, record.get("revision", 0))
        again = rows_to_retry(table, self._plan.retry)
        return self._retry(ref, samples, again, report) if again else samples

    def _retry(
        self, ref: UnitRef, samples: "StoredSamples", again: list[int], report: UnitReport
    ) -> "StoredSamples":
        """Read some rows of a unit again, and put those that changed in the place of the old."""
        manifest_rows = self._plan.manifest.read_unit(ref)
        new, _ = self._read_rows(ref, [manifest_rows[row] for row in again], report)
        table = with_rows(samples.table, again, new)
        if table.equals(samples.table):
            return samples
        store, revision = self._plan.samples, samples.revision + 1
        with _timed(report, "write"):
            if store.supersede(ref.unit, table, {**reasons_of(table), "revision": revision}):
                return StoredSamples(table, revision)
            record = store.record(ref.unit)
            return StoredSamples(store.read(ref.unit), record.get("revision", 0))

    def _decode_unit(self, ref: UnitRef, report: UnitReport) -> tuple[pa.Table, dict[str, Any]]:
        """Fetch, decode and encode every sample of a unit."""
        table, decoders = self._read_rows(ref, self._plan.manifest.read_unit(ref), report)
        facts = {
            "split": ref.split,
            **reasons_of(table),
            "seconds": round(report.seconds["decode"] + report.seconds.get("fetch", 0.0), 4),
            "num_bytes_read": report.num_bytes_read,
            "num_bytes_needed": report.num_bytes_needed,
            "decoders": decoders,
            "duration_s": round(report.duration_s, 3),
        }
        return table, facts

    def _read_rows(
        self, ref: UnitRef, manifest_rows: list[ManifestRow], report: UnitReport
    ) -> tuple[pa.Table, dict[str, int]]:
        """Fetch, decode and encode some samples of a unit, and count what decoded them."""
        with _timed(report, "decode"):
            rows = self._decode_rows(manifest_rows)
        spent_s = report.seconds["decode"]
        if fetch_s := spent_s * fetch_share(rows):
            report.seconds |= {"fetch": fetch_s, "decode": spent_s - fetch_s}
        report.num_bytes_read = sum(row.num_bytes_read for row in rows)
        report.num_bytes_needed = sum(row.num_bytes_needed for row in rows)
        report.duration_s = sum(row.duration_s for row in rows)
        decoders = Counter(row.decoder for row in rows if row.decoder)
        return self._samples_table(manifest_rows, rows), dict(decoders)

    def _decode_rows(self, rows: list[ManifestRow]) -> list[StoredRow]:
        """Decode the samples of a unit, side by side where the plan gives more threads."""
        if self._plan.limits is not None:
            return self._isolated(self._plan.limits).read(rows)
        reader = self._reader or build(self._plan.source).reader(self._decode)
        self._reader = reader
        if self._plan.num_threads == 1:
            return [decode_row(reader, row, self._decode) for row in rows]
        with ThreadPoolExecutor(self._plan.num_threads) as pool:
            return list(pool.map(lambda row: decode_row(reader, row, self._decode), rows))

    def _isolated(self, limits: SampleLimits) -> IsolatedDecoder:
        """Return what reads samples in a process of their own."""
        if self._decoder is None:
            plan = self._plan
            self._decoder = IsolatedDecoder(plan.source, self._decode, plan.num_threads, limits)
        return self._decoder

    def _samples_table(self, manifest_rows: list[ManifestRow], rows: list[StoredRow]) -> pa.Table:
        """Return the table of a unit's samples; every input has its row."""
        columns: dict[str, list[Any]] = {
            "sample_id": [row.sample_id for row in manifest_rows],
            "status": [str(row.status) for row in rows],
            "error": [row.error for row in rows],
        }
        for modality in self._decode:
            columns[modality] = [row.pieces.get(modality) for row in rows]
            columns[f"{modality}_status"] = [row.missing.get(modality, PRESENT) for row in rows]
            columns[modality + SIGNATURE_SUFFIX] = [row.signatures.get(modality) for row in rows]
        return pa.table(columns, schema=self._plan.samples.schema)

    def _label(
        self, ref: UnitRef, number: int, samples: "StoredSamples", report: UnitReport
    ) -> None:
        """Store one teacher's logits for a unit."""
        plan = self._plan.teachers[number]
        with _timed(report, "teacher"):
            teacher = self._teacher(number, plan)
            table = self._labels_table(ref, teacher, samples.table)
        with _timed(report, "write"):
            commit_derived(plan.labels, ref, table, of_revision=samples.revision)

    def _teacher(self, number: int, plan: "TeacherPlan") -> Teacher:
        """Return a teacher, built once, and the same that the driver saw."""
        if number not in self._teachers:
            teacher: Teacher = build(plan.spec)
            if teacher.fingerprint() != plan.fingerprint:
                raise StoreError(
                    f"the teacher {plan.spec.get('_target_')} has fingerprint "
                    f"{teacher.fingerprint()} on this worker and {plan.fingerprint} on the "
                    "driver; give all nodes the same weights"
                )
            self._teachers[number] = teacher
        return self._teachers[number]

    def _labels_table(self, ref: UnitRef, teacher: Teacher, samples: pa.Table) -> pa.Table:
        """Return the logits of a unit, null where the teacher's modality is missing."""
        status = samples.column("status").to_pylist()
        logits: list[np.ndarray | None] = [None] * len(status)
        modality_status = samples.column(f"{teacher.modality}_status").to_pylist()
        present = [row for row, one in enumerate(modality_status) if one == PRESENT]
        if present:
            arrays_BX = self._stored_arrays(teacher.modality, samples, present)
            logits_BC = _predict(teacher, arrays_BX)
            self._check_logits(ref, logits_BC, present)
            for row, logits_C in zip(present, logits_BC, strict=True):
                logits[row], status[row] = logits_C, str(Status.OK)
        columns = {
            "sample_id": samples.column("sample_id"),
            "status": status,
            "logits": logits,
        }
        return pa.table(columns, schema=LABELS_SCHEMA)

    def _stored_arrays(self, modality: str, samples: pa.Table, rows: list[int]) -> np.ndarray:
        """Return the arrays of one modality as they are stored, [B, ...]."""
        column = samples.column(modality)
        spec = self._decode[modality]
        return np.stack([decode_modality(column[row].as_py(), spec) for row in rows])

    def _check_logits(self, ref: UnitRef, logits_BC: np.ndarray, rows: list[int]) -> None:
        """Refuse logits of another shape, or that are not finite."""
        wanted = (len(rows), self._plan.label_space.num_classes)
        if logits_BC.shape != wanted:
            raise StoreError(
                f"the teacher gave logits of shape {logits_BC.shape} for unit {ref.unit}, "
                f"expected {wanted}: its classes are not those of the source, "
                f"{list(self._plan.label_space.classes)}"
            )
        is_finite_B = np.isfinite(logits_BC).all(axis=1)
        if not is_finite_B.all():
            place = int(np.flatnonzero(~is_finite_B)[0])
            key = self._plan.manifest.read_unit(ref)[rows[place]].key
            raise StoreError(
                f"the teacher gave logits that are not finite for {int((~is_finite_B).sum())} of "
                f"{len(rows)} samples of unit {ref.unit}, for example {key}: "
                f"{logits_BC[place].tolist()[:5]}; look at its predict and its weights"
            )


def _predict(teacher: Teacher, arrays_BX: np.ndarray) -> np.ndarray:
    """Return float32 logits [B, C] of one unit, the whole unit as one batch."""
    with torch.inference_mode():
        logits_BC = torch.as_tensor(teacher.predict(arrays_BX))
    return logits_BC.to(device="cpu", dtype=torch.float32).numpy()


@contextmanager
def _timed(report: UnitReport, stage: str) -> Iterator[None]:
    """Add the time of a block to a stage of the report, and what it wrote to what was written."""
    start_s, num_written = time.perf_counter(), TRAFFIC.num_bytes_written
    try:
        yield
    finally:
        elapsed_s = time.perf_counter() - start_s
        report.seconds[stage] = report.seconds.get(stage, 0.0) + elapsed_s
        report.num_bytes_written += TRAFFIC.num_bytes_written - num_written
