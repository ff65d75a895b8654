"""What a worker does with a unit: fetch, decode, store, label what is stored."""

# B samples, X any.

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from mke_ray.config import build
from mke_ray.data.manifest import UnitRef
from mke_ray.data.sources import Reader
from mke_ray.labels.counts import count_rows, reasons_of
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.isolation import IsolatedDecoder
from mke_ray.labels.rows import StoredRow, decode_row
from mke_ray.labels.teaching import PRESENT, Teaching
from mke_ray.schema import (
    SIGNATURE_SUFFIX,
    DecodeSpec,
    ManifestRow,
    StatusCounts,
)
from mke_ray.storage import Root

if TYPE_CHECKING:
    from mke_ray.labels.plan import LabelPlan


@dataclass(slots=True)
class UnitReport:
    """What came of one unit.

    Args:
        unit: Id of the unit.
        counts: How many of its samples ended in each status.
        seconds: Time by stage: ``decode`` (with fetching and encoding), ``read``, ``unpack``
            (samples as the teacher reads them), ``teacher``, ``write``.
        num_bytes_read: Bytes fetched from the source; 0 where the samples were stored already.
        num_bytes_needed: Bytes of those that hold the samples.
        duration_s: Seconds of media that were decoded.
    """

    unit: str
    counts: StatusCounts
    seconds: dict[str, float] = field(default_factory=dict)
    num_bytes_read: int = 0
    num_bytes_needed: int = 0
    duration_s: float = 0.0

    def to_json(self) -> str:
        """Return text that ``from_json`` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "UnitReport":
        """Read what ``to_json`` wrote."""
        plain = json.loads(text)
        return cls(**(plain | {"counts": StatusCounts(**plain["counts"])}))


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

    @property
    def units_at_once(self) -> int:
        """Units that a worker works on at once, in a thread each."""
        ...

    @property
    def decodes(self) -> bool:
        """Whether units are decoded."""
        ...

    @property
    def computes(self) -> bool:
        """Whether networks look at units."""
        ...

    def worker(self) -> Worker:
        """Return a worker; cheap, it opens nothing yet."""
        ...


class UnitWorker:
    """Works on units; the source and the teachers are built once, when needed.

    Several threads may work on a unit each: one of them decodes, one unpacks what is stored and
    one is with a teacher at a time, any number reads and writes stores.

    Args:
        plan: What to do.
    """

    def __init__(self, plan: "LabelPlan") -> None:
        self._plan = plan
        self._decode: DecodeSpec = plan.decode
        self._reader: Reader | None = None
        self._decoder: IsolatedDecoder | None = None
        self._decoding = threading.Lock()
        locks = {"unpacking": threading.Lock(), "predicting": threading.Lock()}
        self._teachings = [Teaching(plan, teacher, **locks) for teacher in plan.teachers]

    def run(self, ref: UnitRef) -> UnitReport:
        """Bring one unit to its end: samples stored and every teacher's logits stored.

        What is stored already is not done again.

        Raises:
            StoreError: A store is damaged, or a teacher does not fit it.
        """
        table, report = self.decode(ref)
        self.label(ref, table, report)
        return report

    def decode(self, ref: UnitRef) -> tuple[pa.Table, UnitReport]:
        """Return the samples of a unit as they are stored now, and a report that counts them.

        Raises:
            StoreError: A store is damaged.
        """
        report = UnitReport(ref.unit, StatusCounts())
        table = self._samples(ref, report)
        report.counts = count_rows(table, self._plan.manifest.marks(ref.unit))
        return table, report

    def label(self, ref: UnitRef, samples: pa.Table, report: UnitReport) -> None:
        """Store the logits of every teacher that has none for a unit yet.

        Args:
            ref: The unit.
            samples: Its stored samples; those columns that ``columns_to_label`` names will do.
            report: What came of it so far; what this takes is added.

        Raises:
            StoreError: A store is damaged, or a teacher does not fit it.
        """
        for number in self._unlabelled(ref):
            self._label(ref, number, samples, report)

    def columns_to_label(self, ref: UnitRef) -> list[str]:
        """Return the columns of the samples of a unit that its missing labels are made from."""
        teachers = [self._plan.teachers[number] for number in self._unlabelled(ref)]
        modalities = dict.fromkeys(teacher.modality for teacher in teachers)
        return ["sample_id", "status", *(c for m in modalities for c in (m, f"{m}_status"))]

    def _unlabelled(self, ref: UnitRef) -> list[int]:
        """Return the numbers of the teachers that have no labels of a unit."""
        teachers = enumerate(self._plan.teachers)
        return [number for number, one in teachers if one.labels.find(ref.unit) is None]

    def _samples(self, ref: UnitRef, report: UnitReport) -> pa.Table:
        """Return the stored samples of a unit; decode and store them where there are none."""
        store = self._plan.samples
        location = store.find(ref.unit)
        if location is None:
            table, facts = self._decode_unit(ref, report)
            with _timed(report, "write"):
                if store.commit(ref.unit, table, facts):
                    return table
        # Somebody else was first: labels are computed from what is stored, so read theirs.
        with _timed(report, "read"):
            return store.read(ref.unit, location=location)

    def _decode_unit(self, ref: UnitRef, report: UnitReport) -> tuple[pa.Table, dict[str, Any]]:
        """Fetch, decode and encode every sample of a unit."""
        manifest_rows = self._plan.manifest.read_unit(ref)
        with self._decoding, _timed(report, "decode"):
            rows = self._decode_rows(manifest_rows)
        report.num_bytes_read = sum(row.num_bytes_read for row in rows)
        report.num_bytes_needed = sum(row.num_bytes_needed for row in rows)
        report.duration_s = sum(row.duration_s for row in rows)
        table = self._samples_table(manifest_rows, rows)
        facts = {
            "split": ref.split,
            **reasons_of(table),
            "seconds": round(report.seconds["decode"], 4),
            "num_bytes_read": report.num_bytes_read,
            "num_bytes_needed": report.num_bytes_needed,
            "decoders": dict(Counter(row.decoder for row in rows if row.decoder)),
            "duration_s": round(report.duration_s, 3),
        }
        return table, facts

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

    def _label(self, ref: UnitRef, number: int, samples: pa.Table, report: UnitReport) -> None:
        """Store one teacher's logits for a unit; other units are read or written meanwhile."""
        teaching = self._teachings[number]
        rows = teaching.present(samples)
        with teaching.unpacking, _timed(report, "unpack"):
            arrays_BX = teaching.unpacked(samples, rows)
        with teaching.predicting, _timed(report, "teacher"):
            logits_BC = teaching.predicted(arrays_BX)
        with _timed(report, "write"):
            table = teaching.table(ref, samples, rows, logits_BC)
            teaching.teacher.labels.commit(ref.unit, table, {"split": ref.split})


@contextmanager
def _timed(report: UnitReport, stage: str) -> Iterator[None]:
    """Add the time of a block to a stage of the report."""
    start_s = time.perf_counter()
    try:
        yield
    finally:
        elapsed_s = time.perf_counter() - start_s
        report.seconds[stage] = report.seconds.get(stage, 0.0) + elapsed_s
