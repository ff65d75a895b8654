"""Rows of rare classes, several times in an epoch."""

# C classes, R rows of a unit, E entries.

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mke_ray.randomness import keys_for, uniform
from mke_ray.schema import ManifestRow
from mke_ray.train.blocks import UnitReader
from mke_ray.train.fits import RowSelection
from mke_ray.train.plan import PlanEntry

MOST_REPEATS = 16.0

_STREAM_REPEATS = 104


def with_repeats(
    reader: UnitReader,
    entries: Sequence[PlanEntry],
    selections: Sequence[RowSelection],
    *,
    balance: float,
    seed: int,
) -> list[PlanEntry]:
    """Return entries and, for rows with true labels of rare classes, further ones of the same rows.

    A row comes ``(mean share / share) ** balance`` times an epoch, where share is that of its
    rarest class among the rows with true labels, and the mean that of all classes there are; at
    least once, at most ``MOST_REPEATS`` times, with views and noise of its own each time. What lies
    between two numbers is drawn by the row's id. Rows with pseudo-labels, or without a class, come
    once. Two numbers per class are held, and an entry of the plan per unit and repeat.

    Args:
        reader: The stores.
        entries: Rows that may be used.
        selections: What they were selected by.
        balance: 0 repeats nothing, 1 lets every class come about as often, 0.5 is as published.
        seed: Seed of the fit.

    Source:
        Gupta, Dollar, Girshick, LVIS, CVPR 2019, appendix: repeat factor sampling, where the
        threshold is a number of its own in the place of the mean share.
    """
    known = [one for one in entries if selections[one.selection].targets == "true"]
    if balance == 0 or not known:
        return list(entries)
    factor_C = repeat_factors(_counts(reader, known), num_rows=_num_rows(known), balance=balance)
    further = []
    for entry, rows in _in_order(reader, known):
        times_R = _times(rows, factor_C, seed=seed)
        for repeat in range(1, int(times_R.max(initial=1))):
            usable_R = entry.usable & (times_R > repeat)
            if usable_R.any():
                further.append(PlanEntry(entry.unit, entry.selection, usable_R, repeat))
    return [*entries, *further]


def repeat_factors(count_C: np.ndarray, *, num_rows: int, balance: float) -> np.ndarray:
    """Return how often rows of each class come in an epoch [C], from 1 on.

    Args:
        count_C: Rows of each class.
        num_rows: All rows.
        balance: Exponent.
    """
    share_C = count_C / max(num_rows, 1)
    mean = share_C[count_C > 0].mean() if (count_C > 0).any() else 0.0
    factor_C = (mean / np.where(count_C > 0, share_C, np.inf)) ** balance
    return np.clip(factor_C, 1.0, MOST_REPEATS)


def _num_rows(entries: Sequence[PlanEntry]) -> int:
    return sum(int(one.usable.sum()) for one in entries)


def _counts(reader: UnitReader, entries: Sequence[PlanEntry]) -> np.ndarray:
    """Return how many rows are of each class [C]."""
    count_C = np.zeros(reader.targets.label_space.num_classes)
    for entry, rows in _in_order(reader, entries):
        for is_usable, row in zip(entry.usable, rows, strict=True):
            if is_usable:
                count_C[list(row.labels or ())] += 1
    return count_C


def _in_order(
    reader: UnitReader, entries: Sequence[PlanEntry]
) -> Iterator[tuple[PlanEntry, Sequence[ManifestRow]]]:
    """Yield entries with the manifest's rows, part after part."""
    placed = [(reader.manifest_ref(entry.unit), entry) for entry in entries if entry.usable.any()]
    for ref, entry in sorted(placed, key=lambda one: (one[0].part, one[0].row_group)):
        yield entry, reader.manifest_rows(ref.unit)


def _times(rows: Sequence[ManifestRow], factor_C: np.ndarray, *, seed: int) -> np.ndarray:
    """Return how often each row of a unit comes [R]."""
    factor_R = np.array([factor_C[list(row.labels or ())].max(initial=1.0) for row in rows])
    id_R = torch.tensor([row.sample_id for row in rows], dtype=torch.int64)
    key_R = keys_for(id_R, seed=seed, epoch=0, stream=_STREAM_REPEATS)
    return np.floor(factor_R + uniform(key_R, 1)[:, 0].numpy()).astype(np.int64)
