"""The order of training: global batch g is a fixed list of rows, for any number of ranks."""

# E entries (one unit under one selection), N rows, K bytes of a bitmap.

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mke_ray.errors import ConfigError
from mke_ray.randomness import keys_for
from mke_ray.schema import sample_id

_STREAM_UNITS = 101
_STREAM_ROWS = 102
_STREAM_SHUFFLE = 103
_WINDOWS_KEPT = 3
_ORDERS_KEPT = 2


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """The rows of one unit that one selection may use.

    Args:
        unit: Id of the unit.
        selection: Number of the selection.
        usable: Whether each row of the unit may be used, bool [R].
        repeat: How many times the unit is there under this selection before.
    """

    unit: str
    selection: int
    usable: np.ndarray
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class RowRefs:
    """Some rows: which unit under which selection, and which row in it.

    Args:
        entry_N: Number of the entry in the plan [N], int64.
        row_N: Row in the unit [N], int64.
    """

    entry_N: np.ndarray
    row_N: np.ndarray

    def __len__(self) -> int:
        """Return the number of rows N."""
        return len(self.entry_N)

    def __getitem__(self, rows: slice) -> "RowRefs":
        """Return a run of the rows."""
        return RowRefs(self.entry_N[rows], self.row_N[rows])


class RowPlan:
    """All rows that a fit may use, compactly, and their order in every epoch.

    An epoch is a permutation of units, and of rows within each window of units; both depend on
    (seed, epoch) and on ids alone, never on the order in which the store was written.

    Args:
        entries: Units with the rows that may be used; entries without such rows are left out.
        global_batch: Rows per step over all ranks; 0 takes all rows in every step.
        window_units: Units whose rows are shuffled together.
        seed: Seed of the fit.
        shuffle: Whether epochs are permuted at all.
    """

    def __init__(
        self,
        entries: Sequence[PlanEntry],
        *,
        global_batch: int,
        window_units: int = 16,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        if global_batch < 0 or window_units < 1:
            raise ConfigError(
                f"global_batch={global_batch} must be at least 0 and "
                f"window_units={window_units} at least 1"
            )
        kept = sorted((e for e in entries if e.usable.any()), key=_place)
        self._units_E = np.asarray([entry.unit for entry in kept], dtype="S")
        self.selection_E = np.asarray([entry.selection for entry in kept], dtype=np.int16)
        self.repeat_E = np.asarray([entry.repeat for entry in kept], dtype=np.int64)
        self._bitmap_EK = _pack(kept)
        self.entry_id_E = _entry_ids(kept)
        self.num_rows_E = np.asarray([int(e.usable.sum()) for e in kept], dtype=np.int64)
        self.num_rows = int(self.num_rows_E.sum())
        self.is_full_batch = global_batch == 0 or global_batch >= self.num_rows
        self.global_batch = self.num_rows if self.is_full_batch else global_batch
        self.window_units = window_units
        self.seed = seed
        self.shuffle = shuffle and not self.is_full_batch
        self._orders: dict[int, _EpochOrder] = {}

    @property
    def num_entries(self) -> int:
        """Number of units under selections E."""
        return len(self._units_E)

    @property
    def batches_per_epoch(self) -> int:
        """Global batches in one epoch; the last one may be short."""
        return -(-self.num_rows // self.global_batch) if self.num_rows else 0

    def unit(self, entry: int) -> str:
        """Return the unit id of an entry."""
        return self._units_E[entry].decode()

    def usable_rows(self, entry: int) -> np.ndarray:
        """Return the rows of an entry that may be used, ascending [N]."""
        return np.flatnonzero(np.unpackbits(self._bitmap_EK[entry]))

    def digest(self) -> str:
        """Return 16 hex digits over every row of the plan, for checkpoints."""
        content = self._units_E.tobytes() + self.selection_E.tobytes() + self._bitmap_EK.tobytes()
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def epoch_of(self, cursor: int) -> int:
        """Return the epoch that a global batch belongs to."""
        return cursor // self.batches_per_epoch

    def batch(self, cursor: int) -> RowRefs:
        """Return the rows of one global batch, in the order of units.

        Within a batch the order means nothing to the average, so rows are ordered by unit: then
        a rank's slice touches few units and, from batch to batch, the same ones.

        Args:
            cursor: Number of the global batch since the start of training.
        """
        epoch, number = divmod(cursor, self.batches_per_epoch)
        order = self._epoch_order(epoch if self.shuffle else 0)
        start = number * self.global_batch
        return order.rows(start, min(start + self.global_batch, self.num_rows))

    def first_rows(self, num: int, *, start: int = 0) -> RowRefs:
        """Return some rows of epoch 0 from a position on, by unit."""
        return self._epoch_order(0).rows(start, min(start + num, self.num_rows))

    def _epoch_order(self, epoch: int) -> "_EpochOrder":
        """Return the order of one epoch; the last two are kept, since one looks ahead."""
        if epoch not in self._orders:
            if len(self._orders) >= _ORDERS_KEPT:
                del self._orders[min(self._orders)]
            self._orders[epoch] = _EpochOrder(self, epoch)
        return self._orders[epoch]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the orders, which are computed anew."""
        return {**self.__dict__, "_orders": {}}


def rank_slice(num: int, *, rank: int, world_size: int) -> slice:
    """Return the rows of a global batch that a rank takes; slices differ by one row at most.

    Args:
        num: Rows of the global batch.
        rank: Which rank.
        world_size: Number of ranks.
    """
    return slice(num * rank // world_size, num * (rank + 1) // world_size)


class _EpochOrder:
    """The rows of one epoch in order, computed window by window."""

    def __init__(self, plan: RowPlan, epoch: int) -> None:
        self._plan = plan
        self.epoch = epoch
        self._entry_P = _unit_order(plan, epoch)
        rows_P = plan.num_rows_E[self._entry_P]
        per_window_W = np.add.reduceat(rows_P, np.arange(0, len(rows_P), plan.window_units))
        self._end_W = np.cumsum(per_window_W)
        self._start_W = self._end_W - per_window_W
        self._windows: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def rows(self, start: int, stop: int) -> RowRefs:
        """Return the rows from start to stop of the epoch."""
        first, last = np.searchsorted(self._end_W, [start, stop - 1], side="right")
        positions, rows = [], []
        for window in range(int(first), int(last) + 1):
            position_N, row_N = self._window(window)
            begin = self._start_W[window]
            part = slice(max(start - begin, 0), stop - begin)
            positions.append(position_N[part])
            rows.append(row_N[part])
        position_N, row_N = np.concatenate(positions), np.concatenate(rows)
        by_unit_N = np.lexsort((row_N, position_N))
        return RowRefs(self._entry_P[position_N[by_unit_N]], row_N[by_unit_N])

    def _window(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Return position of the unit and row in it, for the rows of a window in order."""
        if window not in self._windows:
            if len(self._windows) >= _WINDOWS_KEPT:
                del self._windows[min(self._windows)]
            self._windows[window] = self._permuted_window(window)
        return self._windows[window]

    def _permuted_window(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Permute the rows of a window of units."""
        plan = self._plan
        start = window * plan.window_units
        entry_W = self._entry_P[start : start + plan.window_units]
        row_N = np.concatenate([plan.usable_rows(entry) for entry in entry_W])
        position_N = start + np.repeat(np.arange(len(entry_W)), plan.num_rows_E[entry_W])
        if not plan.shuffle:
            return position_N, row_N
        order_N = _row_order(plan, self.epoch, entry_N=self._entry_P[position_N], row_N=row_N)
        return position_N[order_N], row_N[order_N]


def _place(entry: PlanEntry) -> tuple[int, int, str]:
    """Return where an entry stands among the others."""
    return entry.repeat, entry.selection, entry.unit


def _pack(entries: Sequence[PlanEntry]) -> np.ndarray:
    """Pack the usable rows of every entry into bits [E, K]."""
    most = max((len(entry.usable) for entry in entries), default=0)
    bitmap_EK = np.zeros((len(entries), -(-most // 8)), dtype=np.uint8)
    for number, entry in enumerate(entries):
        bits_K = np.packbits(entry.usable)
        bitmap_EK[number, : len(bits_K)] = bits_K
    return bitmap_EK


def _entry_ids(entries: Sequence[PlanEntry]) -> np.ndarray:
    """Return one 64-bit id per entry [E], from unit, selection and repeat alone."""
    names = [f"{entry.unit}:{entry.selection}" for entry in entries]
    ids = [
        sample_id(f"{name}:{entry.repeat}" if entry.repeat else name)
        for name, entry in zip(names, entries, strict=True)
    ]
    return np.asarray(ids, dtype=np.int64)


def _unit_order(plan: RowPlan, epoch: int) -> np.ndarray:
    """Return the entries in the order of an epoch [E]."""
    if not plan.shuffle:
        return np.arange(plan.num_entries)
    key_E = _keys(plan.entry_id_E, plan.seed, epoch, _STREAM_UNITS)
    return np.argsort(key_E, kind="stable")


def _row_order(plan: RowPlan, epoch: int, *, entry_N: np.ndarray, row_N: np.ndarray) -> np.ndarray:
    """Return the permutation of the rows of a window [N]."""
    unit_key_N = _keys(plan.entry_id_E[entry_N], plan.seed, epoch, _STREAM_ROWS)
    key_N = _keys(unit_key_N + row_N, plan.seed, epoch, _STREAM_SHUFFLE)
    return np.argsort(key_N, kind="stable")


def _keys(id_N: np.ndarray, seed: int, epoch: int, stream: int) -> np.ndarray:
    """Return 64-bit keys of ids [N]."""
    return keys_for(torch.from_numpy(id_N), seed=seed, epoch=epoch, stream=stream).numpy()
