"""Where a student gains: class by class, and by how sure its teacher was, on the test set."""

# B samples of a unit, C classes, K bins of confidence.

from collections import Counter
from dataclasses import dataclass

import numpy as np

from mke_ray.evaluation.answers import UnitAnswers
from mke_ray.evaluation.results import TEACHER, Flow
from mke_ray.evaluation.showcase import NUM_BINS


@dataclass(frozen=True, slots=True)
class ConfidenceFlow:
    """What became of the answers that the teacher was about equally sure of.

    Args:
        low: Lowest confidence.
        high: Highest confidence.
        flow: The answers.
    """

    low: float
    high: float
    flow: Flow


@dataclass(frozen=True, slots=True)
class Move:
    """Samples of which the teacher named one class and the student one, the same or another.

    Args:
        teacher: Index of the class that the teacher named.
        student: Index of the class that the student named, -1 where it saw nothing.
        num: Samples.
        num_right_before: Those that the teacher has right.
        num_right_after: Those that the student has right.
    """

    teacher: int
    student: int
    num: int
    num_right_before: int
    num_right_after: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a student made of the teacher's answers on the test set.

    An answer is a sample, or a class of a sample where it may have several. Samples that the
    teacher could not answer are left out.

    Args:
        by_class: Per class in the order of the label space; of samples with one class those that
            are truly of it.
        by_confidence: By the teacher's confidence, rising; empty bins are left out.
        moves: From the teacher's class to the student's, the most samples first; empty where a
            sample may have several classes.
    """

    by_class: tuple[Flow, ...]
    by_confidence: tuple[ConfidenceFlow, ...]
    moves: tuple[Move, ...] = ()


class DiagnosisTally:
    """Counts while units stream by.

    Args:
        column: Column of the student; None counts nothing.
        num_classes: Number of classes C.
    """

    def __init__(self, column: str | None, num_classes: int) -> None:
        self._column = column
        # Of all answers: the teacher's wrong ones, corrected ones, corrupted ones.
        self._class_C4 = np.zeros((num_classes, 4), dtype=np.int64)
        self._bin_K4 = np.zeros((NUM_BINS, 4), dtype=np.int64)
        self._moves: Counter[tuple[int, int, bool, bool]] = Counter()

    def add(self, answers: UnitAnswers) -> None:
        """Add the rows of a unit that the teacher answered."""
        if self._column is None:
            return
        chosen = answers.rows(np.flatnonzero(answers.answered(TEACHER)))
        if not chosen.groups:
            return
        teacher, student = chosen.right(TEACHER), chosen.right(self._column)
        counted = np.stack(
            [np.ones_like(teacher), ~teacher, student & ~teacher, teacher & ~student], axis=-1
        )
        if chosen.is_multi:
            self._class_C4 += counted.sum(axis=0)
        else:
            np.add.at(self._class_C4, chosen.truth_BC.argmax(axis=1), counted)
            said = (_named(chosen, one).tolist() for one in (TEACHER, self._column))
            self._moves.update(zip(*said, teacher.tolist(), student.tolist(), strict=True))
        sure = chosen.confidence(TEACHER)
        bins = np.minimum((sure * NUM_BINS).astype(int), NUM_BINS - 1)
        np.add.at(self._bin_K4, bins.ravel(), counted.reshape(-1, 4))

    def result(self) -> Diagnosis | None:
        """Return what was found, None where nothing was counted."""
        if not self._bin_K4.any():
            return None
        return Diagnosis(
            tuple(_flow(one) for one in self._class_C4),
            tuple(
                ConfidenceFlow(one / NUM_BINS, (one + 1) / NUM_BINS, _flow(self._bin_K4[one]))
                for one in np.flatnonzero(self._bin_K4[:, 0]).tolist()
            ),
            self._all_moves(),
        )

    def _all_moves(self) -> tuple[Move, ...]:
        """Return the moves, the most samples first."""
        found: dict[tuple[int, int], list[int]] = {}
        for (before, after, was_right, is_right), num in self._moves.items():
            counted = found.setdefault((before, after), [0, 0, 0])
            for place, counts in enumerate((True, was_right, is_right)):
                counted[place] += num * counts
        ordered = sorted(found.items(), key=lambda one: (-one[1][0], one[0]))
        return tuple(Move(*pair, *counted) for pair, counted in ordered)


def _named(answers: UnitAnswers, column: str) -> np.ndarray:
    """Return the class that a classifier names of each sample [B], -1 where it saw nothing."""
    named_BC = answers.named(column)
    return np.where(named_BC.any(axis=1), named_BC.argmax(axis=1), -1)


def _flow(counts: np.ndarray) -> Flow:
    """Return four counts as a flow."""
    return Flow(*map(int, counts))
