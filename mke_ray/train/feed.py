"""Batches of a fit, read by index: a fixed plan, one integer of state, every row once."""

# E entries, N rows of a global batch, B rows of a rank, R rows of a unit, X target of a row.

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from mke_ray.errors import ConfigError
from mke_ray.labels.folds import FoldDivision
from mke_ray.schema import Batch
from mke_ray.train.blocks import UnitReader
from mke_ray.train.fits import RowSelection
from mke_ray.train.mean_weight import mean_label_weight
from mke_ray.train.plan import RowPlan, RowRefs, rank_slice


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


class Feed:
    """Batches of one rank.

    Args:
        reader: The stores.
        plan: The order of all rows.
        selections: The selections that the plan was made from.
        rank: Which rank.
        world_size: Number of ranks.
        prefetch_batches: Batches prepared ahead, at least 1.
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
        prefetch_batches: int = 2,
        folds: FoldDivision | None = None,
    ) -> None:
        if plan.num_rows == 0:
            splits = [f"{one.split} (targets {one.targets})" for one in selections]
            raise ConfigError(f"no usable row in {', '.join(splits)}; check the source's splits")
        self.plan = plan
        self._reader = reader
        self._selections = selections
        self._rank = rank
        self._world_size = world_size
        self._prefetch_batches = max(prefetch_batches, 1)
        self._visible = [set(one.modalities or reader.decode) for one in selections]
        self._weight_S = _row_weights(reader, plan, selections)
        self._folds = folds
        self._whole: FeedItem | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Global batches in one epoch."""
        return self.plan.batches_per_epoch

    def batches(self, start: int, stop: int) -> Iterator[FeedItem]:
        """Yield this rank's part of the global batches from start to stop.

        Args:
            start: First global batch; the only state there is.
            stop: The global batch to stop before.
        """
        if self.plan.is_full_batch:
            yield from self._whole_batches(start, stop)
            return
        pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        try:
            yield from self._ahead(pool, start, stop)
        finally:
            pool.shutdown(cancel_futures=True)

    def item(self, cursor: int) -> FeedItem:
        """Return this rank's part of one global batch."""
        refs = self.plan.batch(cursor)
        weight_N = self._weight_S[self.plan.selection_E[refs.entry_N]] * self._label_weights(refs)
        mine = rank_slice(len(refs), rank=self._rank, world_size=self._world_size)
        whole = max(float(weight_N.sum()), 1e-12)
        share = float(weight_N[mine].sum()) * self._world_size / whole
        if mine.start == mine.stop:  # every rank needs a row to take part in collectives
            mine, weight_N = slice(0, 1), np.zeros_like(weight_N)
        batch = self._assemble(refs[mine], weight_N[mine], epoch=self.plan.epoch_of(cursor))
        weighs = self._reader.targets.weighs
        return FeedItem(batch, cursor, share, num_global=len(refs), weighs_labels=weighs)

    def _label_weights(self, refs: RowRefs) -> np.ndarray:
        """Return how much the pseudo-labels of rows of a global batch count [N], others 1.

        Those of other ranks are looked up too: what a rank's mean counts depends on them.
        """
        weight_N = np.ones(len(refs), np.float32)
        if not self._reader.has_sample_weights:
            return weight_N
        for rows, entry in _runs(refs.entry_N):
            if self._selections[int(self.plan.selection_E[entry])].targets == "pseudo":
                weight_N[rows] = self._reader.sample_weights(self.plan.unit(entry))[
                    refs.row_N[rows]
                ]
        return weight_N

    def _whole_batches(self, start: int, stop: int) -> Iterator[FeedItem]:
        """Yield the same rows again and again; only the epoch changes."""
        for cursor in range(start, stop):
            began = time.perf_counter()
            self._whole = self._whole or self.item(cursor)
            batch = replace(self._whole.batch, epoch=self.plan.epoch_of(cursor))
            wait_s = time.perf_counter() - began
            yield replace(self._whole, batch=batch, cursor=cursor, wait_s=wait_s)

    def first_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the rows of epoch 0 in batches, as far as asked for; the same on every rank.

        Args:
            batch_size: Rows per batch.
        """
        for start in range(0, self.plan.num_rows, batch_size):
            part = self.plan.first_rows(batch_size, start=start)
            yield self._assemble(part, np.ones(len(part), np.float32), epoch=0)

    def _ahead(self, pool: ThreadPoolExecutor, start: int, stop: int) -> Iterator[FeedItem]:
        """Yield batches that a thread prepares ahead; its errors are raised here."""
        cursors = iter(range(start, stop))
        depth = self._prefetch_batches
        ahead = deque(pool.submit(self.item, one) for one in itertools.islice(cursors, depth))
        while ahead:
            began = time.perf_counter()
            item = ahead.popleft().result()
            wait_s = time.perf_counter() - began
            ahead.extend(pool.submit(self.item, one) for one in itertools.islice(cursors, 1))
            yield replace(item, wait_s=wait_s)

    def _assemble(self, refs: RowRefs, weight_B: np.ndarray, *, epoch: int) -> Batch:
        """Gather rows, unit by unit, into arrays of a batch."""
        num, decode = len(refs), self._reader.decode
        sample_id_B = np.empty(num, dtype=np.int64)
        target_BX: np.ndarray | None = None
        label_weight_BX: np.ndarray | None = None
        arrays: dict[str, np.ndarray] = {}
        present = {name: np.zeros(num, dtype=bool) for name in decode}
        fold_B = None if self._folds is None else np.empty(num, dtype=np.int64)
        for rows, entry in _runs(refs.entry_N):
            row_N, selection = refs.row_N[rows], int(self.plan.selection_E[entry])
            targets = self._selections[selection].targets
            block = self._reader.rows(self.plan.unit(entry), row_N, targets=targets)
            sample_id_B[rows] = block.sample_id_R[row_N]
            if fold_B is not None and self._folds is not None:
                fold_B[rows] = self._reader.folds(self.plan.unit(entry), self._folds)[row_N]
            target_NX = block.targets[targets][row_N]
            if target_BX is None:
                target_BX = np.empty((num, *target_NX.shape[1:]), target_NX.dtype)
            target_BX[rows] = target_NX
            if self._reader.targets.weighs:
                weight_RX = block.weights if targets == "pseudo" else None
                equal_NX = self._reader.targets.equal_weights(target_NX)
                weight_NX = equal_NX if weight_RX is None else weight_RX[row_N]
                if label_weight_BX is None:
                    label_weight_BX = np.empty((num, *weight_NX.shape[1:]), np.float32)
                label_weight_BX[rows] = weight_NX
            for name in decode:
                array_R = block.arrays[name]
                if name not in arrays:
                    arrays[name] = np.zeros((num, *array_R.shape[1:]), array_R.dtype)
                if name in self._visible[selection]:
                    arrays[name][rows] = array_R[row_N]
                    present[name][rows] = block.present[name][row_N]
        assert target_BX is not None  # a batch has a row
        if label_weight_BX is not None and label_weight_BX.ndim == 1:  # of the sample as a whole
            weight_B, label_weight_BX = weight_B * label_weight_BX, None
        return Batch(
            torch.from_numpy(sample_id_B),
            {name: torch.from_numpy(array) for name, array in arrays.items()},
            {name: torch.from_numpy(flags) for name, flags in present.items()},
            torch.from_numpy(target_BX),
            torch.from_numpy(weight_B.copy()),
            epoch,
            self.plan.seed,
            None if fold_B is None else torch.from_numpy(fold_B),
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
