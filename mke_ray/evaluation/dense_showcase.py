"""Samples with dense labels worth showing: most corrected, most corrupted, typical."""

# B samples of a unit, H height, W width.

import heapq
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mke_ray.evaluation.results import TEACHER, DenseExample
from mke_ray.schema import IGNORE

if TYPE_CHECKING:
    from mke_ray.evaluation.dense import UnitMaps

KINDS = ("corrected", "typical", "corrupted")
NUM_EACH = 3

_LEAST_SHARE = 0.3  # of the pixels must count, or a sample shows little


class DenseShowcase:
    """Chooses a few test samples of each kind, in whatever order they come.

    A few numbers of every test sample are kept until then, since the median is known at the end.

    ``corrected`` and ``corrupted`` are those with the largest net share of pixels either way;
    ``typical`` those whose net share is nearest to the median.

    Args:
        column: Column of the student that is shown, None shows nothing.
        num_each: Samples kept of each kind.
    """

    def __init__(self, column: str | None, num_each: int = NUM_EACH) -> None:
        self._column = column
        self._num_each = num_each
        self._seen: list[tuple[float, int, DenseExample]] = []

    def add(self, unit: str, maps: "UnitMaps") -> None:
        """Look at the rows of a unit."""
        if self._column is None:
            return
        for row in range(len(maps.groups)):
            counts_HW = maps.truth_BHW[row] != IGNORE
            if counts_HW.mean() < _LEAST_SHARE:
                continue
            truth = maps.truth_BHW[row][counts_HW]
            teacher = maps.named[TEACHER][row][counts_HW] == truth
            student = maps.named[self._column][row][counts_HW] == truth
            example = DenseExample(
                kind="",
                unit=unit,
                row=int(maps.row_B[row]),
                sample_id=int(maps.sample_id_B[row]),
                key=maps.keys[row],
                corrected=float((student & ~teacher).mean()),
                corrupted=float((teacher & ~student).mean()),
            )
            net = example.corrected - example.corrupted
            self._seen.append((net, example.sample_id, example))

    def examples(self) -> tuple[DenseExample, ...]:
        """Return the chosen samples, kind by kind; none is shown twice."""
        if not self._seen:
            return ()
        median = float(np.median([net for net, _, _ in self._seen]))
        ranks = {
            "corrected": lambda one: (-one[0], one[1]),
            "corrupted": lambda one: (one[0], one[1]),
            "typical": lambda one: (abs(one[0] - median), one[1]),
        }
        chosen: dict[str, list[DenseExample]] = {}
        taken: set[int] = set()
        for kind, rank in ranks.items():
            left = [one for one in self._seen if one[1] not in taken]
            best = [example for _, _, example in heapq.nsmallest(self._num_each, left, key=rank)]
            taken |= {one.sample_id for one in best}
            chosen[kind] = [replace(one, kind=kind) for one in best]
        return tuple(example for kind in KINDS for example in chosen[kind])
