"""A tiny run to train on: a manifest, decoded samples and pseudo-labels, without videos or Ray."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mke_ray.data.codec import encode_modality
from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.data.sources import Reader, SourceRow
from mke_ray.labels.store import UnitStore
from mke_ray.schema import (
    LABELS_SCHEMA,
    WEIGHED_LABELS_SCHEMA,
    WEIGHT,
    DecodeSpec,
    FeatureSpec,
    LabelSpace,
    Status,
    decode_spec_to_dict,
    samples_schema,
)
from mke_ray.storage import Root
from mke_ray.train.fits import FitSpec, RowSelection

CLASSES = ("zero", "one", "two")
SAMPLES = "s"
LABELS = "t"
DECODE: DecodeSpec = {"a": FeatureSpec(3), "b": FeatureSpec(2)}
NO_NOISE = {"_target_": "mke_ray.objectives.MKEObjective", "alpha": 0.0}
STUDENT = {
    "encoders": {
        "a": {"type": "features", "num_inputs": 3, "hidden": [8]},
        "b": {"type": "features", "num_inputs": 2, "hidden": [8]},
    },
    "fusion": {"type": "concat"},
    "head_hidden": [8],
    "dropout": 0.0,
}


@dataclass
class ToySource:
    """Rows of random features whose class both modalities show."""

    counts: Mapping[str, int]
    label_space: LabelSpace = field(default_factory=lambda: LabelSpace(CLASSES))
    pattern: tuple[int, ...] = (0, 1, 2)  # classes of the rows, again and again

    def identity(self) -> dict[str, Any]:
        return {"source": "toy", "counts": dict(self.counts)}

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        pass

    def rows(self) -> Iterator[SourceRow]:
        for split, count in self.counts.items():
            for number in range(count):
                key = f"{split}/{number}"
                label = (self.pattern[number % len(self.pattern)],)
                yield SourceRow(key, -1, "", None, None, f"{split}-{number // 4}", split, label)

    def reader(self, spec: DecodeSpec) -> Reader:
        raise NotImplementedError


def make_run(
    root: Root,
    counts: Mapping[str, int],
    *,
    unit_size: int = 8,
    seed: int = 0,
    source: ToySource | None = None,
) -> Manifest:
    """Write a run: every 7th row lacks modality b, every 11th is unreadable."""
    source = source or ToySource(counts)
    manifest = write_manifest(root.child("manifest"), source, unit_size=unit_size)
    plain = decode_spec_to_dict(DECODE)
    samples = UnitStore.open_or_create(
        root.child("samples", SAMPLES), spec={"decode": plain}, schema=samples_schema(DECODE)
    )
    labels = UnitStore.open_or_create(
        root.child("labels", LABELS), spec={"modality": next(iter(DECODE))}, schema=LABELS_SCHEMA
    )
    for ref in manifest.unit_refs():
        rows = manifest.read_unit(ref)
        samples.commit(ref.unit, _samples_table(rows, seed), {"split": ref.split})
        labels.commit(ref.unit, _labels_table(rows, seed), {"split": ref.split})
    for store in (samples, labels):
        store.write_index(store.committed())
    return manifest


def weigh_labels(root: Root, manifest: Manifest, name: str = "weighed") -> None:
    """Write the labels of a run once more, with a weight for each."""
    labels = UnitStore.open(root.child("labels", LABELS))
    store = UnitStore.open_or_create(
        root.child("labels", name), spec=labels.spec, schema=WEIGHED_LABELS_SCHEMA
    )
    for ref in manifest.unit_refs():
        weights = [weight_of(row) for row in manifest.read_unit(ref)]
        field = WEIGHED_LABELS_SCHEMA.field(WEIGHT)
        table = labels.read(ref.unit).append_column(field, pa.array(weights, pa.float32()))
        store.commit(ref.unit, table.cast(WEIGHED_LABELS_SCHEMA), {"split": ref.split})
    store.write_index(store.committed())


def weight_of(row: Any) -> float:
    return (1 + number_of(row) % 4) / 8


def number_of(row: Any) -> int:
    return int(row.key.split("/")[1])


def status_of(row: Any) -> Status:
    if number_of(row) % 11 == 10:
        return Status.BAD
    return Status.PARTIAL if number_of(row) % 7 == 6 else Status.OK


def arrays_of(row: Any, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([abs(row.sample_id), seed])
    shown = np.eye(len(CLASSES))[row.labels[0]]
    a = rng.normal(size=3) + shown
    b = rng.normal(size=2) * 0.3 + shown[:2] * 2
    arrays = {"a": a.astype(np.float32), "b": b.astype(np.float32)}
    if status_of(row) == Status.PARTIAL:
        del arrays["b"]
    return {} if status_of(row) == Status.BAD else arrays


def logits_of(row: Any, seed: int = 0) -> np.ndarray | None:
    arrays = arrays_of(row, seed)
    return arrays["a"].astype(np.float32) * 2 if "a" in arrays else None


def fit_spec(**changes: Any) -> FitSpec:
    plain: dict[str, Any] = {
        "name": "toy",
        "arm": "mke",
        "samples": SAMPLES,
        "labels": LABELS,
        "student": STUDENT,
        "objective": NO_NOISE,
        "rows": (RowSelection("unlabeled", "pseudo"),),
        "optimizer": {"type": "adamw", "lr": 1e-2},
        "num_steps": 12,
        "global_batch": 16,
        "window_units": 3,
    }
    return FitSpec(**{**plain, **changes})


def _samples_table(rows: list[Any], seed: int) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "sample_id": [row.sample_id for row in rows],
        "status": [str(status_of(row)) for row in rows],
        "error": [None for _ in rows],
    }
    for name, spec in DECODE.items():
        arrays = [arrays_of(row, seed).get(name) for row in rows]
        columns[name] = [None if x is None else encode_modality(x, spec) for x in arrays]
        columns[f"{name}_status"] = ["missing" if x is None else "ok" for x in arrays]
        columns[f"{name}_signature"] = [None] * len(rows)
    return pa.table(columns, schema=samples_schema(DECODE))


def _labels_table(rows: list[Any], seed: int) -> pa.Table:
    columns = {
        "sample_id": [row.sample_id for row in rows],
        "status": [str(status_of(row)) for row in rows],
        "logits": [logits_of(row, seed) for row in rows],
    }
    return pa.table(columns, schema=LABELS_SCHEMA)
