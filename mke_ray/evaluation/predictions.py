"""What every student says of the samples with true labels, unit by unit, in a store of its own."""

# B samples of a unit, C classes, H height, W width.

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from mke_ray.data.codec import decode_modality, empty_modality
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.evaluation.noise import noisy
from mke_ray.evaluation.packed import Packing, packed_answers
from mke_ray.labels.counts import count_rows
from mke_ray.labels.dense_pixels import PACKED_TYPE
from mke_ray.labels.labelling import LocalRunner
from mke_ray.labels.origin import Origin
from mke_ray.labels.revisions import commit_derived
from mke_ray.labels.sample_reader import SampleReader, sample_reader
from mke_ray.labels.store import UnitStore, location_of
from mke_ray.labels.todo import is_behind
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.worker import UNITS_PER_CALL
from mke_ray.models.device import checked_device
from mke_ray.models.student import Network
from mke_ray.models.weights import load_student
from mke_ray.schema import (
    DecodeSpec,
    ModalitySpec,
    Split,
    decode_spec_from_dict,
    fingerprint,
)
from mke_ray.storage import Root

PREDICTIONS_FOLDER = "predictions"

_IN_THIS_PROCESS = LocalRunner().run

RunUnits = Callable[["PredictionPlan", Sequence[UnitRef]], Iterator[UnitReport]]


@dataclass(frozen=True, slots=True)
class FitColumn:
    """One trained network of the comparison and its column of logits.

    Args:
        arm: Arm that it belongs to.
        seed: Its seed.
        fit: Fingerprint of the fit and the name of the column. Two arms may share a fit.
    """

    arm: str
    seed: int
    fit: str


@dataclass(frozen=True, slots=True)
class PredictionPlan:
    """Which students look at which samples; cheap to send to workers.

    Args:
        root: Root of the run.
        samples: Name of the sample store below ``samples/``.
        decode: Plain decode specification of that store.
        students: Folder of each student by its column, which is the fingerprint of its fit where
            it is shown all that it reads.
        classes: The user's own encoders and fusions by ``_target_``.
        num_threads: Threads per worker; the same everywhere, so that logits do not depend on where
            they were computed.
        device: Device that every worker computes on.
        origin: Where samples are read again if the store keeps no media.
        is_dense: Whether labels are dense: class maps are kept, and no logits.
        packing: How probabilities of dense answers are kept instead; None keeps none.
        seen: Modalities that a student is shown, by its column; all that it reads where not named.
        noise: A modality that is under noise, and how much (``noisy``), by column; none where not
            named.
        spread: Standard deviation of each feature of a modality of features, by which noise on it
            is measured.
    """

    root: Root
    samples: str
    decode: Mapping[str, Mapping[str, Any]]
    students: Mapping[str, Root]
    classes: Mapping[str, type] = field(default_factory=dict)
    num_threads: int = 1
    device: str = "cpu"
    origin: Origin | None = None
    is_dense: bool = False
    packing: Packing | None = None
    seen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    noise: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    spread: Mapping[str, Sequence[float]] = field(default_factory=dict)

    units_at_once = 1
    units_per_call = UNITS_PER_CALL
    decodes = False
    computes = True

    @property
    def spec(self) -> dict[str, Any]:
        """What the predictions are made from."""
        made_of: dict[str, Any] = {"samples": self.samples, "fits": sorted(self.students)}
        if self.seen:
            made_of["seen"] = {column: list(names) for column, names in sorted(self.seen.items())}
        if self.noise:
            made_of["noise"] = {column: list(one) for column, one in sorted(self.noise.items())}
        if self.spread:
            made_of["spread"] = fingerprint({name: list(one) for name, one in self.spread.items()})
        if self.packing is None:
            return made_of
        folds = self.packing.folds
        return {
            **made_of,
            "packed": self.packing.form.to_dict(),
            "folds": None if folds is None else folds.to_dict(),
        }

    @property
    def name(self) -> str:
        """Name of the store below ``predictions/``."""
        return fingerprint(self.spec)

    def sample_store(self) -> UnitStore:
        """Return the store that is read."""
        return UnitStore.open(self.root.child("samples", self.samples))

    def store(self) -> UnitStore:
        """Return the store that is written, made if absent."""
        root = self.root.child(PREDICTIONS_FOLDER, self.name)
        is_packed = self.packing is not None
        schema = predictions_schema(self.students, is_dense=self.is_dense, is_packed=is_packed)
        return UnitStore.open_or_create(root, spec=self.spec, schema=schema)

    def worker(self) -> "EvaluateWorker":
        """Return what works on the units of this plan."""
        return EvaluateWorker(self)


class EvaluateWorker:
    """Predicts units with all students of a plan; the students are loaded once, when first used.

    Args:
        plan: Which students look at which samples.
    """

    def __init__(self, plan: PredictionPlan) -> None:
        self.plan = plan

    def run(self, ref: UnitRef) -> UnitReport:
        """Predict the whole stored samples of a unit and commit the logits."""
        started = time.perf_counter()
        record = self._samples.samples.record(ref.unit)
        names = [*self._samples.small_columns, *self._decode]
        table = self._samples.read(ref.unit, names, location=location_of(record))
        arrays, present = stored_batch(table, self._decode)
        read = time.perf_counter()
        ids = table.column("sample_id").to_pylist()
        columns = [
            self._answers(
                student, ref, self._worse(column, arrays, ids), self._shown(column, present)
            )
            for column, student in self._students.items()
        ]
        predicted = time.perf_counter()
        kept = [table.column(name).combine_chunks() for name in ("sample_id", "status")]
        made = pa.Table.from_arrays([*kept, *columns], schema=self._store.schema)
        commit_derived(self._store, ref, made, of_revision=record.get("revision", 0))
        report = UnitReport(ref.unit, count_rows(table))
        report.seconds = {
            "read": read - started,
            "predict": predicted - read,
            "write": time.perf_counter() - predicted,
        }
        return report

    def _answers(
        self,
        student: Network,
        ref: UnitRef,
        arrays: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
    ) -> pa.Array:
        """Return the column of a student."""
        packing = self.plan.packing
        if packing is not None:
            rows = packing.manifest.read_unit(ref)
            more: dict[str, Any] = {"rows": rows, "packing": packing, "device": self._device}
            return packed_answers(student, arrays, present, **more)
        as_rows = _class_maps if self.plan.is_dense else _nullable_rows
        return as_rows(*predict(student, arrays, present, device=self._device))

    @cached_property
    def _samples(self) -> SampleReader:
        return sample_reader(self.plan.sample_store(), self.plan.root, self.plan.origin)

    @cached_property
    def _store(self) -> UnitStore:
        return self.plan.store()

    @cached_property
    def _decode(self) -> DecodeSpec:
        """Return the specification of the modalities that any student reads."""
        read = {name for one in self._students.values() for name in one.modalities}
        whole = decode_spec_from_dict(self.plan.decode)
        return {name: one for name, one in whole.items() if name in read}

    @cached_property
    def _device(self) -> torch.device:
        return checked_device(self.plan.device)

    @cached_property
    def _students(self) -> dict[str, Network]:
        """Return the students in the order of the columns; of one folder there is one."""
        networks: dict[str, Network] = {}
        for folder in self.plan.students.values():
            if folder.uri not in networks:
                loaded = load_student(folder, classes=self.plan.classes)
                networks[folder.uri] = loaded.student.to(self._device)
        return {column: networks[one.uri] for column, one in sorted(self.plan.students.items())}

    def _worse(
        self, column: str, arrays: Mapping[str, Tensor], ids: Sequence[int]
    ) -> Mapping[str, Tensor]:
        """Return the samples as a column's student sees them, one modality under noise if asked."""
        if column not in self.plan.noise:
            return arrays
        modality, level = self.plan.noise[column]
        spread = self.plan.spread.get(modality)
        made = noisy(arrays[modality], level, modality=modality, sample_ids=ids, spread=spread)
        return {**arrays, modality: made}

    def _shown(self, column: str, present: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return what is there of the modalities that a column's student is shown."""
        if column not in self.plan.seen:
            return present
        shown = self.plan.seen[column]
        return {
            name: one_B if name in shown else torch.zeros_like(one_B)
            for name, one_B in present.items()
        }


def run_predictions(
    plan: PredictionPlan,
    refs: Iterable[UnitRef],
    *,
    runner: RunUnits = _IN_THIS_PROCESS,
    progress: Callable[[int, int], None] | None = None,
) -> UnitStore:
    """Bring the predictions of some units to their end; what is there is not done again.

    Args:
        plan: Which students look at which samples.
        refs: Units wanted, from ``refs_with_truth``.
        runner: Where the work is done; not called if there is none.
        progress: Called with samples done and samples wanted.

    Returns:
        The store, with its index written.
    """
    store = plan.store()
    wanted = list(refs)
    revisions, made = plan.sample_store().revisions(Split), store.index()
    todo = [ref for ref in wanted if is_behind(ref.unit, made, revisions.get(ref.unit, 0))]
    num_total = sum(ref.num_rows for ref in wanted)
    num_done = num_total - sum(ref.num_rows for ref in todo)
    for report in runner(plan, todo) if todo else ():
        num_done += report.counts.samples
        if progress is not None:
            progress(num_done, num_total)
    store.write_index([ref.unit for ref in wanted])
    return store


def predictions_schema(
    fits: Iterable[str], *, is_dense: bool = False, is_packed: bool = False
) -> pa.Schema:
    """Return the schema of a store of predictions.

    Each fit has a column of logits, or where labels are dense of class maps, uint8 [H, W] as
    bytes; null where a sample has none of the modalities that it reads.

    Args:
        fits: Fingerprints of the fits.
        is_dense: Whether labels are dense.
        is_packed: Whether probabilities of dense labels are kept (``packed_answers``).
    """
    kind = pa.binary() if is_dense else pa.list_(pa.float32())
    kind = PACKED_TYPE if is_packed else kind
    fields = [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
    ]
    return pa.schema(fields + [pa.field(fit, kind) for fit in sorted(set(fits))])


def refs_with_truth(
    manifest: Manifest, splits: Sequence[str] = (Split.TEST, Split.PROBE, Split.UNLABELED)
) -> Iterator[UnitRef]:
    """Yield the units that true labels are needed of or known of.

    These are all units of test and probe, and those unlabeled units of which the manifest
    knows a true label (kept for reporting only); of the latter, one column is read.

    Args:
        manifest: The samples.
        splits: The splits wanted.
    """
    for part, refs in itertools.groupby(manifest.unit_refs(splits), key=lambda ref: ref.part):
        with manifest.root.filesystem().open(manifest.root.path(part), "rb") as file:
            parquet = pq.ParquetFile(file)
            for ref in refs:
                if ref.split != Split.UNLABELED or _has_truth(parquet, ref.row_group):
                    yield ref


def stored_batch(
    table: pa.Table, decode: DecodeSpec
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return whole stored samples as a batch.

    Args:
        table: Rows of a sample store.
        decode: Specification of the modalities wanted.

    Returns:
        Per modality the array [B, ...], zeros where missing, and whether each row has it [B].
    """
    arrays, present = {}, {}
    for name, spec in decode.items():
        has = [status == "ok" for status in table.column(f"{name}_status").to_pylist()]
        pieces = table.column(name).to_pylist()
        rows = [_stored_array(one, spec, is_there=ok) for one, ok in zip(pieces, has, strict=True)]
        arrays[name] = torch.from_numpy(np.stack(rows))
        present[name] = torch.tensor(has, dtype=torch.bool)
    return arrays, present


@torch.inference_mode()
def predict(
    student: Network,
    arrays: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    *,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of a batch and which rows have any modality that the student reads.

    Logits are [B, C, H, W] where labels are dense.

    Args:
        student: In evaluation mode, on the device.
        arrays: Per modality the array [B, ...].
        present: Per modality whether each row has it [B].
        device: Device to compute on.

    Returns:
        float32 logits [B, C] and bool [B].
    """
    mine = [name for name in student.modalities if name in arrays]
    seen_B = torch.stack([present[name] for name in mine]).any(dim=0)
    logits_BC = student(
        {name: arrays[name].to(device) for name in mine},
        {name: present[name].to(device) for name in mine},
    )
    return logits_BC.to(device="cpu", dtype=torch.float32).numpy(), seen_B.numpy()


def _stored_array(pieces: list[bytes] | None, spec: ModalitySpec, *, is_there: bool) -> np.ndarray:
    """Return the array of one row, zeros where the modality is missing."""
    return decode_modality(pieces or [], spec) if is_there else empty_modality(spec)


def _nullable_rows(logits_BC: np.ndarray, seen_B: np.ndarray) -> pa.Array:
    """Return logits as a list column with null where nothing was seen."""
    rows = [row if seen else None for row, seen in zip(logits_BC, seen_B, strict=True)]
    return pa.array(rows, type=pa.list_(pa.float32()))


def _class_maps(logits_BCHW: np.ndarray, seen_B: np.ndarray) -> pa.Array:
    """Return the likeliest class of every pixel as bytes, null where nothing was seen."""
    named_BHW = logits_BCHW.argmax(axis=1).astype(np.uint8)
    rows = [
        named_HW.tobytes() if seen else None
        for named_HW, seen in zip(named_BHW, seen_B, strict=True)
    ]
    return pa.array(rows, type=pa.binary())


def _has_truth(parquet: pq.ParquetFile, row_group: int) -> bool:
    """Return whether any row of a unit has a true label."""
    labels = parquet.read_row_group(row_group, columns=["labels"]).column("labels")
    return labels.null_count < len(labels)
