"""Label stores that are computed from other stores, unit by unit: nothing is decoded for them."""

# B samples of a unit, M witnesses, F folds, C classes, S scores, N pixels of a sample.

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import log_softmax

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.errors import StoreError
from mke_ray.labels.dense import DenseForm, Packed, dense_columns, labels_schema, packed_rows
from mke_ray.labels.dense_pixels import (
    form_of_answers,
    from_stored,
    packed_pixels,
    pixel_logs,
)
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.labelling import LocalRunner, Runner
from mke_ray.labels.openset import Tilt, open_set_scores
from mke_ray.labels.posterior import Posterior
from mke_ray.labels.revisions import commit_derived
from mke_ray.labels.store import UnitStore
from mke_ray.labels.todo import is_behind
from mke_ray.labels.unit_report import UnitReport
from mke_ray.schema import (
    LABELS_SCHEMA,
    WEIGHED_LABELS_SCHEMA,
    WEIGHT,
    LabelKind,
    ManifestRow,
    Split,
    StatusCounts,
    fingerprint,
)
from mke_ray.storage import Root


class Derivation(Protocol):
    """Makes labels of a unit from the teacher's and from what other networks said."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns that are read of what other networks said."""
        ...

    @property
    def num_answers(self) -> int:
        """Answers in each column of a sample, where labels are dense."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, of which the name of the store is made."""
        ...

    def labels(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return logits [B, C], NaN where there are none.

        Args:
            rows: Rows of the unit in the manifest.
            teacher_BC: Logits of the teacher, NaN where there are none.
            said: Per column the logits, NaN where there are none [B, X].
        """
        ...

    def pixels(self, teacher_NC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return logits of every pixel of a sample [N, C], where labels are dense.

        Args:
            teacher_NC: Log-probabilities of the teacher.
            said: Per column the log-probabilities of its answers [M, N, C], NaN where there are
                none.
        """
        ...

    def weights(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray | None:
        """Return how much each sample counts [B], None where all do alike.

        The arguments are those of ``labels``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Refinement:
    """The posterior of the teacher and the witnesses, for each sample those of its own fold.

    Samples outside the unlabeled split are new to all folds, whose mean log-probability counts.

    Args:
        witness: Column of what the witnesses said: [M * F * C] per sample.
        folds: The folds.
        posterior: How they become one.
        tilt: How unlabeled samples differ from those of known classes; one counts by how likely it
            is of one. None counts all alike.
    """

    witness: str
    folds: FoldDivision
    posterior: Posterior
    tilt: Tilt | None = None

    @property
    def columns(self) -> tuple[str]:
        """The witnesses alone."""
        return (self.witness,)

    @property
    def num_answers(self) -> int:
        """One of each witness."""
        return len(self.posterior.witnesses)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        made_of = {"folds": self.folds.to_dict(), "posterior": self.posterior.to_dict()}
        tilt = {} if self.tilt is None else {"tilt": self.tilt.to_dict()}
        return {"witness": self.witness, **made_of, **tilt}

    def labels(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return refined logits [B, C]."""
        of_folds_MFBC = self._said(teacher_BC, said)
        if any(row.split != Split.UNLABELED for row in rows):
            is_multi = self.posterior.kind == LabelKind.MULTI
            logs_MFBC = of_folds_MFBC if is_multi else log_softmax(of_folds_MFBC, axis=3)
            return self.posterior.logits(teacher_BC, logs_MFBC.mean(axis=1))
        return self.posterior.logits(teacher_BC, self._own(rows, of_folds_MFBC))

    def weights(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray | None:
        """Return how likely each unlabeled sample is of a known class [B]; 1 of other splits."""
        if self.tilt is None:
            return None
        if any(row.split != Split.UNLABELED for row in rows):
            return np.ones(len(rows))
        return self.tilt.weights(self.scores(rows, teacher_BC, said))

    def scores(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return what tells unlabeled samples of known classes, NaN where nothing does [B, S]."""
        own_MBC = self._own(rows, self._said(teacher_BC, said))
        return open_set_scores(self.posterior, teacher_BC, own_MBC)

    def _said(self, teacher_BC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return what the witnesses of every fold said [M, F, B, C]."""
        num_classes = teacher_BC.shape[1]
        width = len(self.posterior.witnesses) * self.folds.num_folds * num_classes
        return unflattened(_of_width(said[self.witness], width), self.folds.num_folds, num_classes)

    def _own(self, rows: Sequence[ManifestRow], of_folds_MFBC: NDArray) -> NDArray:
        """Return what the witnesses of the own fold of every sample said [M, B, C]."""
        fold_B = np.asarray([self.folds.fold_of(row.group) for row in rows])
        return of_folds_MFBC[:, fold_B, np.arange(len(rows))]

    def pixels(self, teacher_NC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return refined logits [N, C]; what witnesses said is that of the fold that counts."""
        return self.posterior.logits(teacher_NC, said[self.witness])


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The mean of what several networks say, where the teacher says anything.

    Of one class per sample the mean of log-probabilities, of many that of the log-odds.

    Args:
        members: Columns of the networks.
        kind: ``single`` or ``multi``.
    """

    members: tuple[str, ...]
    kind: str = LabelKind.SINGLE

    @property
    def columns(self) -> tuple[str, ...]:
        """The members."""
        return self.members

    @property
    def num_answers(self) -> int:
        """One of each member."""
        return 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"members": list(self.members), "kind": str(self.kind)}

    def labels(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> NDArray:
        """Return the mean [B, C]."""
        del rows
        members = np.stack([_of_width(said[name], teacher_BC.shape[1]) for name in self.members])
        logs = members if self.kind == LabelKind.MULTI else log_softmax(members, axis=2)
        return np.where(np.isnan(teacher_BC), np.nan, logs.mean(axis=0))

    def pixels(self, teacher_NC: NDArray, said: Mapping[str, NDArray]) -> NDArray:
        """Return the mean of the log-probabilities [N, C]."""
        members = np.concatenate([said[name] for name in self.members])
        return np.where(np.isnan(teacher_NC), np.nan, members.mean(axis=0))

    def weights(
        self, rows: Sequence[ManifestRow], teacher_BC: NDArray, said: Mapping[str, NDArray]
    ) -> None:
        """Return nothing: networks of both modalities tell none."""


def unflattened(said_BX: NDArray, num_folds: int, num_classes: int) -> NDArray:
    """Return what a ``WitnessBank`` said [B, M * F * C] by witness and fold [M, F, B, C]."""
    of_all_BMFC = said_BX.reshape(len(said_BX), -1, num_folds, num_classes)
    return of_all_BMFC.transpose(1, 2, 0, 3)


@dataclass(frozen=True, slots=True)
class DerivedPlan:
    """Which labels are derived from which; cheap to send to workers.

    Args:
        root: Root of the run.
        manifest: The manifest of the run.
        teacher: Label store of the teacher.
        said: Store of what other networks said.
        derivation: What is made of both.
        num_threads: Threads per worker.
        weighed: Label store whose weights are taken over; None takes those of the derivation.
    """

    root: Root
    manifest: Manifest
    teacher: UnitStore
    said: UnitStore
    derivation: Derivation
    num_threads: int = 1
    weighed: UnitStore | None = None

    units_at_once = 1
    units_per_call = 8
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
            "parent": _name_of(self.teacher),
            "said": _name_of(self.said),
            "derivation": {
                "type": type(self.derivation).__name__.lower(),
                **self.derivation.to_dict(),
            },
            **({} if self.weighed is None else {"weighed": _name_of(self.weighed)}),
        }

    @property
    def name(self) -> str:
        """Name of the store below ``labels/``."""
        return fingerprint(self.spec)

    def store(self) -> UnitStore:
        """Return the store that is written, made if absent."""
        is_weighed = self.weighed is not None or "tilt" in self.derivation.to_dict()
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
        said = plan.said.read(ref.unit, columns=["sample_id", *plan.derivation.columns])
        _check_same(ref, rows, teacher, plan.teacher)
        _check_same(ref, rows, said, plan.said)
        kept = {name: teacher.column(name) for name in ("sample_id", "status")}
        labels = self._labels(ref, rows, teacher, said)
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
        _check_same(ref, rows, table, plan.weighed)
        return table.column(WEIGHT).to_numpy()

    def _labels(
        self, ref: UnitRef, rows: Sequence[ManifestRow], teacher: pa.Table, said: pa.Table
    ) -> dict[str, Sequence[Any]]:
        """Return the columns of the labels of a unit."""
        plan, form = self._plan, self._form
        if form is not None:
            return dense_columns(
                [
                    self._dense_label(form, packed, answers)
                    for packed, answers in zip(
                        packed_rows(teacher),
                        said.select(list(plan.derivation.columns)).to_pylist(),
                        strict=True,
                    )
                ]
            )
        num_classes = plan.manifest.label_space.num_classes
        teacher_BC = logits_of(teacher, "logits", num_classes)
        told = {name: logits_of(said, name, 0) for name in plan.derivation.columns}
        found = plan.derivation.labels(rows, teacher_BC, told).astype(np.float32)
        logits = [None if np.isnan(row).any() else row for row in found]
        if WEIGHT not in self._store.schema.names:
            return {"logits": logits}
        return {"logits": logits, WEIGHT: self._weights(ref, rows, teacher_BC, told).tolist()}

    def _dense_label(
        self, form: DenseForm, packed: Packed | None, answers: Mapping[str, Any]
    ) -> Packed | None:
        """Return the label of one sample; None where the teacher gives none."""
        if packed is None:
            return None
        derivation, said_form = self._plan.derivation, form_of_answers(self._plan.said.spec, form)
        told = {
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


def _of_width(said_BX: NDArray, width: int) -> NDArray:
    """Return logits, of a unit without any as wide as those of others."""
    return said_BX if said_BX.shape[1] else np.full((len(said_BX), width), np.nan)


def _check_same(
    ref: UnitRef, rows: Sequence[ManifestRow], table: pa.Table, store: UnitStore
) -> None:
    """Refuse a table of other rows than the manifest's.

    Raises:
        StoreError: It is one.
    """
    if not np.array_equal(table.column("sample_id").to_numpy(), [row.sample_id for row in rows]):
        raise StoreError(
            f"{store.root.uri}: unit {ref.unit} holds other samples than the manifest; it was "
            "made from another source, use another root"
        )


def _name_of(store: UnitStore) -> str:
    return store.root.uri.rstrip("/").rpartition("/")[2]
