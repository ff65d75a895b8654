"""Label stores that are computed from other stores, unit by unit: nothing is decoded for them."""

# B samples of a unit, C classes, N pixels of a sample, X any.

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.dense import DenseForm, Packed, dense_columns, labels_schema, packed_rows
from mke_ray.labels.dense_pixels import (
    form_of_answers,
    from_stored,
    packed_pixels,
    pixel_logs,
)
from mke_ray.labels.derivations import Derivation
from mke_ray.labels.labelling import LocalRunner, Runner
from mke_ray.labels.revisions import commit_derived
from mke_ray.labels.same_rows import check_rows
from mke_ray.labels.store import UnitStore
from mke_ray.labels.todo import is_behind
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.worker import UNITS_PER_CALL
from mke_ray.schema import (
    LABELS_SCHEMA,
    WEIGHED_LABELS_SCHEMA,
    WEIGHT,
    ManifestRow,
    StatusCounts,
    fingerprint,
)
from mke_ray.storage import Root


@dataclass(frozen=True, slots=True)
class DerivedPlan:
    """Which labels are derived from which; cheap to send to workers.

    Args:
        root: Root of the run.
        manifest: The manifest of the run.
        teacher: Label store of the teacher.
        said: Store of what other networks said; None where none was asked.
        derivation: What is made of both.
        num_threads: Threads per worker.
        weighed: Label store whose weights are taken over; None takes those of the derivation.
        more: Label stores of further teachers by the names of their folders, those that the
            derivation reads at least.
    """

    root: Root
    manifest: Manifest
    teacher: UnitStore
    said: UnitStore | None
    derivation: Derivation
    num_threads: int = 1
    weighed: UnitStore | None = None
    more: Mapping[str, UnitStore] = field(default_factory=dict)

    units_at_once = 1
    units_per_call = UNITS_PER_CALL
    decodes = True  # by the workers that decode, which need no GPU
    computes = False

    @property
    def spec(self) -> dict[str, Any]:
        """What the labels are made from."""
        parent = self.teacher.spec
        names = ("samples", "modality", "label_space", "dense")
        kept = {name: parent[name] for name in names if name in parent}
        return {
            **kept,
            "parent": self.teacher.name,
            **({} if self.said is None else {"said": self.said.name}),
            "derivation": {
                "type": type(self.derivation).__name__.lower(),
                **self.derivation.to_dict(),
            },
            **({} if self.weighed is None else {"weighed": self.weighed.name}),
        }

    @property
    def name(self) -> str:
        """Name of the store below ``labels/``."""
        return fingerprint(self.spec)

    def store(self) -> UnitStore:
        """Return the store that is written, made if absent."""
        is_weighed = self.weighed is not None or self.derivation.is_weighed
        plain = WEIGHED_LABELS_SCHEMA if is_weighed else LABELS_SCHEMA
        return UnitStore.open_or_create(
            self.root.child("labels", self.name),
            spec=self.spec,
            schema=labels_schema(DenseForm.of_spec(self.teacher.spec), plain),
        )

    def worker(self) -> "DeriveWorker":
        """Return what works on the units of this plan."""
        return DeriveWorker(self)


class DeriveWorker:
    """Derives the labels of one unit after the other.

    Args:
        plan: Which labels are derived from which.
    """

    def __init__(self, plan: DerivedPlan) -> None:
        self._plan = plan

    def run(self, ref: UnitRef) -> UnitReport:
        """Derive the labels of a unit and commit them."""
        started = time.perf_counter()
        plan, rows = self._plan, self._plan.manifest.read_unit(ref)
        revision = plan.teacher.record(ref.unit).get("of_revision", 0)
        teacher = plan.teacher.read(ref.unit)
        check_rows(teacher, plan.teacher.root.uri, ref, rows)
        kept = {name: teacher.column(name) for name in ("sample_id", "status")}
        labels = self._labels(ref, rows, teacher)
        table = pa.table({**kept, **labels}, schema=self._store.schema)
        commit_derived(self._store, ref, table, of_revision=revision)
        report = UnitReport(ref.unit, StatusCounts(ok=table.num_rows))
        report.seconds = {"refine": time.perf_counter() - started}
        return report

    def _weights(
        self,
        ref: UnitRef,
        rows: Sequence[ManifestRow],
        teacher_BC: NDArray,
        said: Mapping[str, NDArray],
    ) -> NDArray:
        """Return how much each sample of a unit counts [B]."""
        plan = self._plan
        if plan.weighed is None:
            weight_B = plan.derivation.weights(rows, teacher_BC, said)
            return np.ones(len(rows)) if weight_B is None else weight_B
        table = plan.weighed.read(ref.unit, columns=["sample_id", WEIGHT])
        check_rows(table, plan.weighed.root.uri, ref, rows)
        return table.column(WEIGHT).to_numpy()

    def _labels(
        self, ref: UnitRef, rows: Sequence[ManifestRow], teacher: pa.Table
    ) -> dict[str, Sequence[Any]]:
        """Return the columns of the labels of a unit."""
        plan, form = self._plan, self._form
        if form is not None:
            return dense_columns(self._dense_labels(form, ref, rows, teacher))
        num_classes = plan.manifest.label_space.num_classes
        teacher_BC = logits_of(teacher, "logits", num_classes)
        told = self._told(ref, rows, num_classes)
        found = plan.derivation.labels(rows, teacher_BC, told).astype(np.float32)
        logits = [None if np.isnan(row).any() else row for row in found]
        if WEIGHT not in self._store.schema.names:
            return {"logits": logits}
        return {"logits": logits, WEIGHT: self._weights(ref, rows, teacher_BC, told).tolist()}

    def _told(
        self, ref: UnitRef, rows: Sequence[ManifestRow], num_classes: int
    ) -> dict[str, NDArray]:
        """Return what other networks and further teachers say of a unit [B, X]."""
        said = self._said(ref, rows)
        return {name: logits_of(said, name, 0) for name in said.column_names} | {
            name: logits_of(self._further(ref, rows, name), "logits", num_classes)
            for name in self._plan.derivation.teachers
        }

    def _said(self, ref: UnitRef, rows: Sequence[ManifestRow]) -> pa.Table:
        """Return the columns of other networks that count, of a unit."""
        store, columns = self._plan.said, list(self._plan.derivation.columns)
        if store is None:
            return pa.table({})
        table = store.read(ref.unit, columns=["sample_id", *columns])
        check_rows(table, store.root.uri, ref, rows)
        return table.select(columns)

    def _further(self, ref: UnitRef, rows: Sequence[ManifestRow], name: str) -> pa.Table:
        """Return the labels of a further teacher, of a unit."""
        store = self._plan.more[name]
        table = store.read(ref.unit)
        check_rows(table, store.root.uri, ref, rows)
        return table

    def _dense_labels(
        self, form: DenseForm, ref: UnitRef, rows: Sequence[ManifestRow], teacher: pa.Table
    ) -> list[Packed | None]:
        """Return the label of every sample of a unit; None where the teacher gives none."""
        plan, packed = self._plan, packed_rows(teacher)
        said = self._said(ref, rows)
        answers = said.to_pylist() if said.num_rows else [{}] * len(rows)
        further = {
            name: packed_rows(self._further(ref, rows, name)) for name in plan.derivation.teachers
        }
        return [
            None
            if one is None
            else self._dense_label(
                form, one, answers[row], {name: labels[row] for name, labels in further.items()}
            )
            for row, one in enumerate(packed)
        ]

    def _dense_label(
        self,
        form: DenseForm,
        packed: Packed,
        answers: Mapping[str, Any],
        further: Mapping[str, Packed | None],
    ) -> Packed | None:
        """Return the label of one sample."""
        plan, derivation = self._plan, self._plan.derivation
        told = {
            name: pixel_logs(one, DenseForm.of_spec(plan.more[name].spec) or form)[None]
            for name, one in further.items()
        }
        if plan.said is not None:
            said_form = form_of_answers(plan.said.spec, form)
            told |= {
                name: np.stack(
                    [pixel_logs(one, said_form) for one in from_stored(row, derivation.num_answers)]
                )
                for name, row in answers.items()
            }
        return packed_pixels(derivation.pixels(pixel_logs(packed, form), told), form)

    @cached_property
    def _form(self) -> DenseForm | None:
        return DenseForm.of_spec(self._plan.teacher.spec)

    @cached_property
    def _store(self) -> UnitStore:
        return self._plan.store()


def derive(
    plan: DerivedPlan,
    refs: Iterable[UnitRef],
    *,
    runner: Runner | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UnitStore:
    """Bring the derived labels of some units to their end; what is there is not done again.

    Args:
        plan: Which labels are derived from which.
        refs: Units wanted.
        runner: Where the work is done; None does it in this process.
        progress: Called with samples done and samples wanted.

    Returns:
        The store, with its index written.
    """
    store, wanted = plan.store(), list(refs)
    made, of_teacher = store.index(), plan.teacher.read_index()
    todo = [ref for ref in wanted if is_behind(ref.unit, made, of_teacher.of_revision(ref.unit))]
    num_total = sum(ref.num_rows for ref in wanted)
    num_done = num_total - sum(ref.num_rows for ref in todo)
    for report in (runner or LocalRunner()).run(plan, todo) if todo else ():
        num_done += report.counts.samples
        if progress is not None:
            progress(num_done, num_total)
    store.write_index([ref.unit for ref in wanted])
    return store


def logits_of(table: pa.Table, column: str, width: int) -> NDArray:
    """Return a column of logits as float64 [B, X], NaN where there are none.

    Args:
        table: Rows of a unit.
        column: Name of the column.
        width: Width X where no row has any.
    """
    rows = table.column(column).to_pylist()
    width = next((len(row) for row in rows if row is not None), width)
    return np.asarray([[np.nan] * width if row is None else row for row in rows], np.float64)
