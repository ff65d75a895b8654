"""Rows of a plan as arrays: one rank's part of a global batch, the same wherever it is made."""

# N rows of a global batch, B rows of a rank, R rows of a unit, S selections, X any axes of a row.

import math
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from mke_ray.data.codec import empty_modality
from mke_ray.labels.folds import FoldDivision
from mke_ray.schema import Batch
from mke_ray.train.blocks import UnitReader
from mke_ray.train.fits import RowSelection
from mke_ray.train.mean_weight import mean_label_weight
from mke_ray.train.plan import RowPlan, RowRefs, rank_slice
from mke_ray.train.unit_block import UnitBlock


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One rank's part of one global batch.

    Args:
        batch: The rows of this rank.
        cursor: Number of the global batch since the start of training.
        share: What to multiply the rank's mean loss with, so that the mean over ranks is the
            weighted mean over the global batch; 1 where slices are equal.
        num_global: Rows of the global batch.
        wait_s: Seconds that the loop waited for it.
        weighs_labels: Whether labels have weights of their own, so that the share is known when
            all ranks have read their rows (see ``loop.share_of``).
    """

    batch: Batch
    cursor: int
    share: float
    num_global: int
    wait_s: float = 0.0
    weighs_labels: bool = False


class BatchMaker:
    """Makes one rank's batches; a batch depends on its number alone, not on who made which before.

    Threads may make several at a time.

    Args:
        reader: The stores.
        plan: The order of all rows.
        selections: The selections that the plan was made from.
        rank: Which rank.
        world_size: Number of ranks.
        folds: Folds that batches tell; None tells none.
    """

    def __init__(
        self,
        reader: UnitReader,
        plan: RowPlan,
        *,
        selections: Sequence[RowSelection],
        rank: int = 0,
        world_size: int = 1,
        folds: FoldDivision | None = None,
    ) -> None:
        self.reader = reader
        self.plan = plan
        self._selections = selections
        self._rank = rank
        self._world_size = world_size
        self._folds = folds
        self._visible = [set(one.modalities or reader.decode) for one in selections]
        self._weight_S = _row_weights(reader, plan, selections)
        self._turn = threading.Lock()  # a plan keeps the order that it computed last

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by what it is made from."""
        return (self.without_reader(), (self.reader,))

    def without_reader(self) -> "partial[BatchMaker]":
        """Return what makes the same maker of a reader of the same."""
        return partial(
            BatchMaker,
            plan=self.plan,
            selections=self._selections,
            rank=self._rank,
            world_size=self._world_size,
            folds=self._folds,
        )

    @property
    def batches_per_window(self) -> int:
        """In how many batches the rows of a window of units are seen, on average."""
        plan = self.plan
        rows_per_window = plan.window_units * plan.num_rows / max(plan.num_entries, 1)
        return max(1, math.ceil(rows_per_window / plan.global_batch))

    @property
    def bytes_per_batch(self) -> int:
        """Bytes of the decoded modalities of a batch of this rank."""
        of_row = sum(empty_modality(one).nbytes for one in self.reader.decode.values())
        return max(1, of_row * self.plan.global_batch // self._world_size)

    def item(self, cursor: int) -> FeedItem:
        """Return this rank's part of one global batch."""
        refs = self._refs(cursor)
        weight_N = self._weight_S[self.plan.selection_E[refs.entry_N]] * self._label_weights(refs)
        mine = self._mine(refs)
        whole = max(float(weight_N.sum()), 1e-12)
        share = float(weight_N[mine].sum()) * self._world_size / whole
        if mine.start == mine.stop:  # every rank needs a row to take part in collectives
            mine, weight_N = slice(0, 1), np.zeros_like(weight_N)
        batch = self._assemble(refs[mine], weight_N[mine], epoch=self.plan.epoch_of(cursor))
        weighs = self.reader.targets.weighs
        return FeedItem(batch, cursor, share, num_global=len(refs), weighs_labels=weighs)

    def rows_from(self, start: int, num_rows: int) -> Batch:
        """Return rows of epoch 0 from a position on, the same on every rank."""
        with self._turn:
            refs = self.plan.first_rows(num_rows, start=start)
        return self._assemble(refs, np.ones(len(refs), np.float32), epoch=0)

    def units(self, cursor: int) -> list[tuple[str, str]]:
        """Return the units of this rank's part of a global batch, each with its kind of target."""
        refs = self._refs(cursor)
        entries = np.unique(refs[self._mine(refs)].entry_N).tolist()
        return [(self.plan.unit(one), self._targets_of(one)) for one in entries]

    def _refs(self, cursor: int) -> RowRefs:
        """Return the rows of a global batch."""
        with self._turn:
            return self.plan.batch(cursor)

    def _mine(self, refs: RowRefs) -> slice:
        """Return which rows of a global batch are those of this rank."""
        return rank_slice(len(refs), rank=self._rank, world_size=self._world_size)

    def _targets_of(self, entry: int) -> str:
        """Return the kind of target of the rows of an entry."""
        return self._selections[int(self.plan.selection_E[entry])].targets

    def _label_weights(self, refs: RowRefs) -> np.ndarray:
        """Return how much the pseudo-labels of rows of a global batch count [N], others 1.

        Those of other ranks are looked up too: what a rank's mean counts depends on them.
        """
        weight_N = np.ones(len(refs), np.float32)
        if not self.reader.has_sample_weights:
            return weight_N
        for rows, entry in _runs(refs.entry_N):
            if self._targets_of(entry) == "pseudo":
                weight_R = self.reader.sample_weights(self.plan.unit(entry))
                weight_N[rows] = weight_R[refs.row_N[rows]]
        return weight_N

    def _assemble(self, refs: RowRefs, weight_B: np.ndarray, *, epoch: int) -> Batch:
        """Gather rows, unit by unit, into arrays of a batch."""
        arrays = _Arrays(len(refs), self.reader, has_folds=self._folds is not None)
        for rows, entry in _runs(refs.entry_N):
            row_N, targets = refs.row_N[rows], self._targets_of(entry)
            visible = self._visible[int(self.plan.selection_E[entry])]
            unit = self.plan.unit(entry)
            block = self.reader.rows(unit, row_N, targets=targets)
            with self.reader.times.counted("gather_s"):
                arrays.fill(rows, block, row_N, targets=targets, visible=visible)
            if self._folds is not None and arrays.fold_B is not None:
                arrays.fold_B[rows] = self.reader.folds(unit, self._folds)[row_N]
        batch = arrays.batch(weight_B, epoch=epoch, seed=self.plan.seed)
        if self.plan.repeat_E.any():
            batch.repeat_B = torch.from_numpy(self.plan.repeat_E[refs.entry_N])
        return batch


class _Arrays:
    """The arrays of a batch, filled unit by unit.

    Args:
        num_rows: Rows of the batch B.
        reader: Where units come from.
        has_folds: Whether the batch tells folds.
    """

    def __init__(self, num_rows: int, reader: UnitReader, *, has_folds: bool) -> None:
        self._targets = reader.targets
        self._num_rows = num_rows
        self._arrays: dict[str, np.ndarray] = {}
        self._present = {name: np.zeros(num_rows, dtype=bool) for name in reader.decode}
        self._sample_id_B = np.empty(num_rows, dtype=np.int64)
        self._target_BX: np.ndarray | None = None
        self._label_weight_BX: np.ndarray | None = None
        self.fold_B = np.empty(num_rows, dtype=np.int64) if has_folds else None

    def fill(
        self,
        rows: slice,
        block: UnitBlock,
        row_N: np.ndarray,
        *,
        targets: str,
        visible: Collection[str],
    ) -> None:
        """Copy rows of one unit.

        Args:
            rows: Where they stand in the batch.
            block: The unit.
            row_N: Rows of the unit [N].
            targets: Kind of target.
            visible: Modalities shown; others are zero, as if missing.
        """
        self._sample_id_B[rows] = block.sample_id_R[row_N]
        self._fill_targets(rows, block, row_N, targets=targets)
        for name, array_R in block.arrays.items():
            if name not in self._arrays:
                self._arrays[name] = np.empty((self._num_rows, *array_R.shape[1:]), array_R.dtype)
            if name in visible:
                np.take(array_R, row_N, axis=0, out=self._arrays[name][rows], mode="clip")
                self._present[name][rows] = block.present[name][row_N]
            else:
                self._arrays[name][rows] = 0

    def _fill_targets(
        self, rows: slice, block: UnitBlock, row_N: np.ndarray, *, targets: str
    ) -> None:
        """Copy targets and weights of labels of one unit."""
        target_NX = block.targets[targets][row_N]
        if self._target_BX is None:
            self._target_BX = np.empty((self._num_rows, *target_NX.shape[1:]), target_NX.dtype)
        self._target_BX[rows] = target_NX
        if not self._targets.weighs:
            return
        weight_RX = block.weights if targets == "pseudo" else None
        equal_NX = self._targets.equal_weights(target_NX)
        weight_NX = equal_NX if weight_RX is None else weight_RX[row_N]
        if self._label_weight_BX is None:
            shape = (self._num_rows, *weight_NX.shape[1:])
            self._label_weight_BX = np.empty(shape, np.float32)
        self._label_weight_BX[rows] = weight_NX

    def batch(self, weight_B: np.ndarray, *, epoch: int, seed: int) -> Batch:
        """Return the batch, of which every row is filled.

        Args:
            weight_B: Weight of each row [B].
            epoch: Epoch of the batch.
            seed: Seed of the fit.
        """
        assert self._target_BX is not None  # a batch has a row
        label_weight_BX = self._label_weight_BX
        if label_weight_BX is not None and label_weight_BX.ndim == 1:  # of the sample as a whole
            weight_B, label_weight_BX = weight_B * label_weight_BX, None
        return Batch(
            torch.from_numpy(self._sample_id_B),
            {name: torch.from_numpy(array) for name, array in self._arrays.items()},
            {name: torch.from_numpy(flags) for name, flags in self._present.items()},
            torch.from_numpy(self._target_BX),
            torch.from_numpy(weight_B.copy()),
            epoch,
            seed,
            None if self.fold_B is None else torch.from_numpy(self.fold_B),
            None if label_weight_BX is None else torch.from_numpy(label_weight_BX),
        )


def _row_weights(
    reader: UnitReader, plan: RowPlan, selections: Sequence[RowSelection]
) -> np.ndarray:
    """Return the weight of a row of each selection [S]; a share is of what the first rows weigh."""
    weight_S = np.asarray([one.weight for one in selections], dtype=np.float64)
    num_S = np.bincount(plan.selection_E, plan.num_rows_E, minlength=len(selections))
    first = float(weight_S[0] * num_S[0])
    has_share = any(one.share is not None for one in selections)
    if has_share and selections[0].targets == "pseudo" and num_S[0] > 0:
        first *= mean_label_weight(reader, plan, selection=0)
    for number, one in enumerate(selections):
        if one.share is not None and first > 0 and num_S[number] > 0:
            weight_S[number] = one.share * first / num_S[number]
    return weight_S.astype(np.float32)


def _runs(entry_N: np.ndarray) -> Iterator[tuple[slice, int]]:
    """Yield each run of rows of the same entry."""
    starts = np.flatnonzero(np.diff(entry_N, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(entry_N)], strict=True):
        yield slice(int(start), int(stop)), int(entry_N[start])
