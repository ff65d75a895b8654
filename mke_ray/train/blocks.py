"""Decoded units in memory, bounded in bytes: read once, decoded row by row when first wanted."""

# R rows of a unit, N rows wanted, C classes, X target of a row, H height, W width.

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels.dense import (
    COLUMNS,
    DenseForm,
    dense_size,
    hard_rows,
    mask_rows,
    packed_rows,
)
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.index import Index
from mke_ray.labels.label_rule import LabelRule
from mke_ray.labels.origin import Origin, RowDecoder
from mke_ray.labels.sample_reader import SampleReader
from mke_ray.labels.store import UnitStore
from mke_ray.schema import (
    IGNORE,
    MASK,
    WEIGHT,
    DecodeSpec,
    LabelKind,
    LabelSpace,
    ManifestRow,
    MaskSpec,
    decode_spec_from_dict,
)
from mke_ray.train.dense_targets import OneHotRows, PixelWeights, SoftRows, hard_rows_by
from mke_ray.train.kept import Kept
from mke_ray.train.unit_block import TargetRows, UnitBlock, WeightRows
from mke_ray.train.waiting import FeedTimes

_MOST_WEIGHED = 4096  # units whose weights are kept


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """How labels become targets.

    Args:
        label_space: Classes and their kind.
        label_kind: ``hard``, ``soft`` or ``sharpened`` pseudo-labels.
        temperature: Divides the teacher's logits.
        rule: What else is done to pseudo-labels; None does nothing.
    """

    label_space: LabelSpace
    label_kind: str = "hard"
    temperature: float = 1.0
    rule: LabelRule | None = None

    @property
    def is_dense(self) -> bool:
        """Whether every pixel has a target."""
        return self.label_space.kind == LabelKind.DENSE

    @property
    def weighs(self) -> bool:
        """Whether pseudo-labels have weights of their own."""
        return self.rule is not None and self.rule.weight is not None

    def weights(self, logits_RC: np.ndarray) -> np.ndarray:
        """Return weights of pseudo-labels [R], or [R, C] of many classes; 1 where none is set."""
        rule = self.rule or LabelRule()
        return rule.weights(logits_RC, self.label_space.kind)

    def equal_weights(self, target_NX: np.ndarray) -> np.ndarray:
        """Return a weight of 1 for each label of some targets: [N], [N, C] or [N, H, W]."""
        if self.label_space.kind == LabelKind.SINGLE:
            return np.ones(len(target_NX), np.float32)
        return np.ones_like(target_NX[:, 0] if target_NX.ndim > 3 else target_NX, np.float32)

    def from_logits(self, logits_RC: np.ndarray) -> np.ndarray:
        """Return targets [R, C] from the teacher's logits [R, C]."""
        if self.rule is not None and self.rule.changes_targets:
            return self.rule.targets(logits_RC, self.label_space.kind)
        if self.label_space.kind == LabelKind.MULTI:
            soft_RC = 1.0 / (1.0 + np.exp(-logits_RC / self.temperature))
            hard_RC = logits_RC > 0
        else:
            scaled_RC = logits_RC / self.temperature
            exp_RC = np.exp(scaled_RC - scaled_RC.max(axis=1, keepdims=True))
            soft_RC = exp_RC / exp_RC.sum(axis=1, keepdims=True)
            hard_RC = np.eye(logits_RC.shape[1])[logits_RC.argmax(axis=1)]
        return (hard_RC if self.label_kind == "hard" else soft_RC).astype(np.float32)

    def is_known(self, row: ManifestRow) -> bool:
        """Return whether a row has a true label; "none of them" is one where many may hold.

        Of dense labels ``()`` says that the sample store has the true class map.
        """
        if self.label_space.kind in (LabelKind.MULTI, LabelKind.DENSE):
            return row.labels is not None
        return bool(row.labels)

    def from_labels(self, rows: list[ManifestRow]) -> np.ndarray:
        """Return targets [R, C] from true labels; zeros where a row has none."""
        target_RC = np.zeros((len(rows), self.label_space.num_classes), dtype=np.float32)
        for number, row in enumerate(rows):
            target_RC[number, list(row.labels or ())] = 1.0
        return target_RC

    def from_dense(self, labels: pa.Table, form: DenseForm) -> TargetRows:
        """Return targets of a table of dense labels: [R, H, W], or probabilities where soft."""
        rule = self.rule if self.rule is not None and self.rule.changes_targets else None
        if self.label_kind != "hard":
            return SoftRows(packed_rows(labels), form, self.temperature, rule)
        if rule is None:
            return hard_rows(labels, form)
        return hard_rows_by(rule, packed_rows(labels), form)

    def dense_weights(self, labels: pa.Table, form: DenseForm) -> WeightRows:
        """Return weights of the pixels of a table of dense labels, [R, H, W] when wanted."""
        return PixelWeights(packed_rows(labels), form, self.rule or LabelRule())

    def from_masks(self, mask_RHW: np.ndarray) -> TargetRows:
        """Return targets of class maps, of the form that pseudo-labels have."""
        if self.label_kind == "hard":
            return mask_RHW
        return OneHotRows(mask_RHW, self.label_space.num_classes)


class UnitReader:
    """Reads units of a sample store with their targets, and keeps the last ones used.

    Several feeds and threads may share one reader; different units are read and decoded at once.

    Args:
        samples: The sample store.
        labels: The label store; None where no pseudo-label is wanted.
        manifest: The manifest, for true labels.
        decode: What is stored of each modality that is wanted.
        targets: How labels become targets.
        cache_bytes: Memory for units.
        origin: Where samples are read again if the store keeps no media.
    """

    def __init__(
        self,
        samples: UnitStore,
        *,
        labels: UnitStore | None,
        manifest: Manifest,
        decode: DecodeSpec,
        targets: TargetSpec,
        cache_bytes: int = 1 << 30,
        origin: Origin | None = None,
    ) -> None:
        self.samples = samples
        self.labels = labels
        self.manifest = manifest
        self.decode = decode
        self.targets = targets
        self.cache_bytes = cache_bytes
        self.sample_index: Index = samples.read_index()
        self.label_index: Index | None = labels.read_index() if labels is not None else None
        self.teacher_modality: str | None = labels.spec.get("modality") if labels else None
        stored = decode_spec_from_dict(samples.spec["decode"])
        self._stored: DecodeSpec = stored
        self._form = None if labels is None else DenseForm.of_spec(labels.spec)
        read_rows = None if origin is None else RowDecoder(origin, stored).read
        self._media = SampleReader(samples, manifest, read_rows)
        self._origin = origin
        self._blocks = Kept(self._read_block, lambda block: block.num_bytes, cache_bytes)
        self._refs: dict[str, dict[str, UnitRef]] = {}
        self._folds: dict[tuple[FoldDivision, str], np.ndarray] = {}
        self._sample_weights = Kept(self._read_weights, lambda _: 1, _MOST_WEIGHED)
        self.times = FeedTimes()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the stores; the copy holds no unit."""
        arguments = {
            "labels": self.labels,
            "manifest": self.manifest,
            "decode": self.decode,
            "targets": self.targets,
            "cache_bytes": self.cache_bytes,
            "origin": self._origin,
        }
        return (partial(UnitReader, **arguments), (self.samples,))

    def rows(self, unit: str, row_N: np.ndarray, *, targets: str) -> UnitBlock:
        """Return a unit in which some rows are decoded and some kind of target is there.

        Args:
            unit: Id of the unit.
            row_N: Rows wanted [N].
            targets: ``pseudo``, ``true`` or ``none``.
        """
        add_targets = partial(self._add_targets, unit, targets)
        with self._blocks.using(unit, add_targets) as block, self.times.counted("decode_s"):
            block.decode(row_N, self.decode)
        return block

    def bound_memory(self, num_bytes: int) -> None:
        """Keep no more than some bytes of units, from now on."""
        self.cache_bytes = num_bytes
        self._blocks.bound(num_bytes)

    @property
    def held_bytes(self) -> int:
        """Bytes of the units in memory."""
        return self._blocks.size

    def identity(self) -> str:
        """Return what is the same for readers that read the same, as the stores are now."""
        digest = hashlib.sha256(pickle.dumps((self, self.sample_index, self.label_index)))
        return digest.hexdigest()

    def holds(self, unit: str) -> bool:
        """Return whether a unit is in memory, or being fetched."""
        return unit in self._blocks

    def fetch(self, unit: str, targets: str) -> int:
        """Fetch a unit, with some kind of target, before it is wanted, and decode nothing.

        Returns:
            Bytes that it takes.
        """
        with self._blocks.using(unit, partial(self._add_targets, unit, targets)) as block:
            return block.num_bytes

    def manifest_rows(self, unit: str) -> list[ManifestRow]:
        """Return the rows of a unit as the manifest has them."""
        return self.manifest.read_unit(self.manifest_ref(unit))

    def folds(self, unit: str, division: FoldDivision) -> np.ndarray:
        """Return the fold of each row of a unit [R], int8; kept, since that is a byte a row."""
        if (division, unit) not in self._folds:
            fold_R = [division.fold_of(row.group) for row in self.manifest_rows(unit)]
            self._folds[division, unit] = np.asarray(fold_R, np.int8)
        return self._folds[division, unit]

    @property
    def has_sample_weights(self) -> bool:
        """Whether the label store says how much each label counts."""
        return self.labels is not None and WEIGHT in self.labels.schema.names

    def sample_weights(self, unit: str) -> np.ndarray:
        """Return how much the labels of a unit count [R], 1 where the store does not say."""
        if self.labels is None or self.label_index is None or not self.has_sample_weights:
            return np.ones(self.sample_index.num_rows(unit), np.float32)
        with self._sample_weights.using(unit) as weight_R:
            return weight_R

    def _read_weights(self, unit: str) -> np.ndarray:
        """Read how much the labels of a unit count [R]."""
        assert self.labels is not None and self.label_index is not None  # who asks has looked
        location = self.label_index.location(unit)
        with self._reading(unit, self.labels):
            table = self.labels.read(unit, location=location, columns=["sample_id", WEIGHT])
        return table.column(WEIGHT).to_numpy()

    def manifest_ref(self, unit: str) -> UnitRef:
        """Return where the manifest has a unit; those of one part are read fastest together."""
        split = self.sample_index.split(unit)
        if split not in self._refs:
            refs = self.manifest.unit_refs([split] if split else None)
            self._refs[split] = {ref.unit: ref for ref in refs}
        if unit not in self._refs[split]:
            raise StoreError(
                f"unit {unit} of {self.samples.root.uri} is not in {self.manifest.root.uri}; "
                "samples and manifest must be of one run"
            )
        return self._refs[split][unit]

    def _read_block(self, unit: str) -> UnitBlock:
        """Read a unit of the sample store, nothing decoded."""
        columns = ["sample_id", *self.decode]
        location = self.sample_index.location(unit)
        with self._reading(unit, self.samples):
            table = self._media.read(unit, columns, location=location)
        present = {name: self.sample_index.present(unit, name) for name in self.decode}
        return UnitBlock.of_table(table, present, self.decode)

    @contextmanager
    def _reading(self, unit: str, store: UnitStore) -> Iterator[None]:
        """Count the time of reading; name unit, store and the way out where the store fails.

        Raises:
            StoreError: The store did not answer for as long as it was asked.
        """
        try:
            with self.times.counted("fetch_s"):
                yield
        except OSError as error:
            raise StoreError(
                f"unit {unit} of {store.root.uri} could not be read for {store.root.patience_s:g} "
                f"s: {error}; make the store answer, or set storage.patience_s above "
                f"{store.root.patience_s:g}, and start the job again: it goes on at its last "
                "checkpoint"
            ) from error

    def _add_targets(self, unit: str, targets: str, block: UnitBlock) -> None:
        """Read a kind of targets of a unit, where they are not there yet."""
        if targets not in block.targets:
            block.targets[targets] = self._read_targets(unit, block, targets)

    def _read_targets(self, unit: str, block: UnitBlock, targets: str) -> TargetRows:
        """Return targets [R, X] of a unit, joined row by row."""
        if targets == "pseudo":
            return self._pseudo_targets(unit, block)
        if self.targets.is_dense:
            is_true = targets == "true"
            return self.targets.from_masks(self._masks(unit, block, is_wanted=is_true))
        if targets == "true":
            rows = self.manifest_rows(unit)
            sample_id_R = np.asarray([row.sample_id for row in rows], dtype=np.int64)
            _check_same_rows(unit, block.sample_id_R, sample_id_R, "the manifest")
            return self.targets.from_labels(rows)
        num_classes = self.targets.label_space.num_classes
        return np.zeros((len(block.sample_id_R), num_classes), dtype=np.float32)

    def _masks(self, unit: str, block: UnitBlock, *, is_wanted: bool) -> np.ndarray:
        """Return the true class maps of a unit, uint8 [R, H, W]; 255 where there is none."""
        num_rows, spec = len(block.sample_id_R), self._stored.get(MASK)
        if not isinstance(spec, MaskSpec):
            if is_wanted:
                raise ConfigError(
                    f"{self.samples.root.uri} holds no true class maps; add decode.{MASK}="
                    "{kind: mask, height: H, width: W}"
                )
            return np.full((num_rows, *self._label_size()), IGNORE, np.uint8)
        if not is_wanted:
            return np.full((num_rows, spec.height, spec.width), IGNORE, np.uint8)
        location = self.sample_index.location(unit)
        with self._reading(unit, self.samples):
            table = self._media.read(unit, ["sample_id", MASK], location=location)
        return mask_rows(table.column(MASK).to_pylist(), spec)

    def _label_size(self) -> tuple[int, int]:
        """Return height and width of dense labels by the label store, or by what is read."""
        if self._form is not None:
            return self._form.height, self._form.width
        return dense_size(self._stored, next(iter(self.decode)))

    def _pseudo_targets(self, unit: str, block: UnitBlock) -> TargetRows:
        """Return targets [R, X] from the label store; zeros or 255 where a row has no label."""
        if self.labels is None or self.label_index is None:
            raise ConfigError("rows with targets=pseudo need a label store; the fit names none")
        columns = ["sample_id", *(["logits"] if self._form is None else COLUMNS)]
        location = self.label_index.location(unit)
        with self._reading(unit, self.labels):
            table = self.labels.read(unit, location=location, columns=columns)
        where = self.labels.root.uri
        _check_same_rows(unit, block.sample_id_R, table.column("sample_id").to_numpy(), where)
        if self._form is not None:
            if self.targets.weighs:
                block.weights = self.targets.dense_weights(table, self._form)
            return self.targets.from_dense(table, self._form)
        num_classes = self.targets.label_space.num_classes
        target_RC = np.zeros((table.num_rows, num_classes), dtype=np.float32)
        logits = table.column("logits").combine_chunks()
        has_label_R = logits.is_valid().to_numpy(zero_copy_only=False)
        if has_label_R.any():
            logits_NC = logits.flatten().to_numpy(zero_copy_only=False).reshape(-1, num_classes)
            target_RC[has_label_R] = self.targets.from_logits(logits_NC)
            if self.targets.weighs:
                block.weights = _spread(self.targets.weights(logits_NC), has_label_R)
        elif self.targets.weighs:
            is_multi = self.targets.label_space.kind == LabelKind.MULTI
            block.weights = np.zeros(target_RC.shape[: 1 + is_multi], np.float32)
        return target_RC


def _spread(weight_NX: np.ndarray, has_label_R: np.ndarray) -> np.ndarray:
    """Return weights of the rows with a label at their rows [R, X]; 0 where there is none."""
    weight_RX = np.zeros((len(has_label_R), *weight_NX.shape[1:]), np.float32)
    weight_RX[has_label_R] = weight_NX
    return weight_RX


def _check_same_rows(unit: str, mine_R: np.ndarray, other_R: np.ndarray, where: str) -> None:
    """Refuse to join rows that are not the same."""
    if not np.array_equal(mine_R, other_R):
        raise StoreError(
            f"unit {unit}: sample ids of the sample store and of {where} differ; labels were "
            "written for another manifest, write them again"
        )
