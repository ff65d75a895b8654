"""What a worker does with a unit: samples to their store, and every teacher's labels to theirs."""

# B samples, C classes, X any.

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import torch

from mke_ray.config import build
from mke_ray.data.codec import decode_modality
from mke_ray.data.manifest import UnitRef
from mke_ray.errors import StoreError
from mke_ray.labels.counts import count_rows
from mke_ray.labels.revisions import commit_derived
from mke_ray.labels.sample_reader import PRESENT
from mke_ray.labels.storing import StoredSamples, Storing
from mke_ray.labels.unit_report import UnitReport
from mke_ray.models.teachers import Teacher
from mke_ray.schema import LABELS_SCHEMA, DecodeSpec, Status, StatusCounts
from mke_ray.storage import Root

if TYPE_CHECKING:
    from mke_ray.labels.plan import LabelPlan, TeacherPlan


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
        self._storing = Storing(plan)
        self._teachers: dict[int, Teacher] = {}

    def run(self, ref: UnitRef) -> UnitReport:
        """Bring one unit to its end: samples stored and every teacher's logits stored.

        What is stored already is not done again.

        Raises:
            StoreError: A store is damaged, or a teacher does not fit it.
        """
        report = UnitReport(ref.unit, StatusCounts())
        samples = self._storing.samples(ref, report)
        report.counts = count_rows(samples.table, self._plan.manifest.marks(ref.unit))
        lacking = self._lacking(ref, samples.revision)
        samples = self._storing.with_media(ref, samples, self._modalities(lacking), report)
        for number in lacking:
            self._label(ref, number, samples, report)
        return report

    def _lacking(self, ref: UnitRef, revision: int) -> list[int]:
        """Return the numbers of the teachers whose labels of a unit are missing or older."""
        records = (teacher.labels.find_record(ref.unit) for teacher in self._plan.teachers)
        return [
            number
            for number, one in enumerate(records)
            if one is None or one.get("of_revision", 0) < revision
        ]

    def _modalities(self, teachers: Sequence[int]) -> set[str]:
        """Return the modalities that some teachers read."""
        return {self._plan.teachers[number].labels.spec["modality"] for number in teachers}

    def _label(self, ref: UnitRef, number: int, samples: StoredSamples, report: UnitReport) -> None:
        """Store one teacher's logits for a unit."""
        plan = self._plan.teachers[number]
        with report.timed("teacher"):
            teacher = self._teacher(number, plan)
            table = self._labels_table(ref, teacher, samples.table)
        with report.timed("write"):
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
