"""What a worker does with a unit: samples to their store, and every teacher's labels to theirs."""

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.counts import count_rows
from mke_ray.labels.revisions import commit_derived
from mke_ray.labels.storing import StoredSamples, Storing
from mke_ray.labels.teaching import Teaching
from mke_ray.labels.unit_report import UnitReport
from mke_ray.schema import StatusCounts
from mke_ray.storage import Root

if TYPE_CHECKING:
    from mke_ray.labels.plan import LabelPlan


UNITS_PER_CALL = 8  # of light work: handing a unit over takes a worker and the driver some 40 ms


class WorkItem(Protocol):
    """A flat dataclass that says what is worked on at a time, a ``UnitRef`` for example."""

    @property
    def unit(self) -> str:
        """Unit by which it is known, in errors and reports."""
        ...


class Worker(Protocol):
    """Works on one item after the other, in whatever process it is made."""

    def run(self, ref: Any) -> UnitReport:
        """Bring one item, of the kind that the worker knows, to its end."""
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
    def units_per_call(self) -> int:
        """Units that a worker is given at a time, where handing them over costs as much as they."""
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
        self._storing = Storing(plan)
        locks = {"unpacking": threading.Lock(), "predicting": threading.Lock()}
        self._teachings = [Teaching(plan, teacher, **locks) for teacher in plan.teachers]

    def run(self, ref: UnitRef) -> UnitReport:
        """Bring one unit to its end: samples stored and every teacher's logits stored.

        What is stored already is not done again.

        Raises:
            StoreError: A store is damaged, or a teacher does not fit it.
        """
        samples, report = self.decode(ref)
        self.label(ref, samples, report)
        return report

    def decode(self, ref: UnitRef) -> tuple[StoredSamples, UnitReport]:
        """Return the samples of a unit as they are stored now, and a report that counts them.

        Raises:
            StoreError: A store is damaged.
        """
        report = UnitReport(ref.unit, StatusCounts())
        samples = self._storing.samples(ref, report)
        report.counts = count_rows(samples.table, self._plan.manifest.marks(ref.unit))
        return samples, report

    def label(self, ref: UnitRef, samples: StoredSamples, report: UnitReport) -> None:
        """Store the logits of every teacher that has none of these samples yet.

        Args:
            ref: The unit.
            samples: Its stored samples, or what ``to_label`` returned of them.
            report: What came of it so far; what this takes is added.

        Raises:
            StoreError: A store is damaged, or a teacher does not fit it.
        """
        lacking = self._lacking(ref, samples.revision)
        whole = self._storing.with_media(ref, samples, _modalities(lacking), report)
        for teaching in lacking:
            self._label(ref, teaching, whole, report)

    def to_label(self, ref: UnitRef, samples: StoredSamples, report: UnitReport) -> StoredSamples:
        """Return those columns of the samples of a unit that its missing labels are made from.

        Raises:
            StoreError: The samples cannot be read again where their media are not kept.
        """
        modalities = _modalities(self._lacking(ref, samples.revision))
        whole = self._storing.with_media(ref, samples, modalities, report)
        columns = ["sample_id", "status", *(c for m in modalities for c in (m, f"{m}_status"))]
        return replace(whole, table=whole.table.select(columns), has_media=True)

    def _lacking(self, ref: UnitRef, revision: int) -> list[Teaching]:
        """Return the teachers whose labels of a unit are missing, or of older samples."""
        records = (one.teacher.labels.find_record(ref.unit) for one in self._teachings)
        return [
            one
            for one, record in zip(self._teachings, records, strict=True)
            if record is None or record.get("of_revision", 0) < revision
        ]

    def _label(
        self, ref: UnitRef, teaching: Teaching, samples: StoredSamples, report: UnitReport
    ) -> None:
        """Store one teacher's logits for a unit; other units are read or written meanwhile."""
        rows = teaching.present(samples.table)
        with teaching.unpacking, report.timed("unpack"):
            shown = teaching.unpacked(samples.table, rows)
        with teaching.predicting, report.timed("teacher"):
            logits_BC = teaching.predicted(shown)
        with report.timed("write"):
            table = teaching.table(ref, samples.table, rows, logits_BC)
            commit_derived(teaching.teacher.labels, ref, table, of_revision=samples.revision)


def _modalities(teachings: Iterable[Teaching]) -> list[str]:
    """Return the modalities that some teachers read."""
    return list(dict.fromkeys(name for one in teachings for name in one.teacher.modalities))
