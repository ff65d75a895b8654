"""Samples worth showing, and how far the teacher's confidence can be believed."""

# B samples of a unit, K bins.

import hashlib
import heapq

import numpy as np

from mke_ray.evaluation.answers import UnitAnswers
from mke_ray.evaluation.results import TEACHER, Answer, ConfidenceBin, Example

NUM_BINS = 10
NUM_EXAMPLES = 12


class Showcase:
    """Keeps a few test samples of each kind, chosen by a hash of their id: no order matters.

    Args:
        column: Column of the student that is shown, None shows nothing.
        num_each: Samples kept of each kind.
    """

    def __init__(self, column: str | None, num_each: int = NUM_EXAMPLES) -> None:
        self._column = column
        self._num_each = num_each
        self._kept: dict[str, list[tuple[int, int, Example]]] = {}

    def add(self, unit: str, answers: UnitAnswers) -> None:
        """Look at the rows of a unit."""
        if self._column is None:
            return
        teacher_B = _all_right(answers, TEACHER)
        student_B = _all_right(answers, self._column)
        for row, (teacher, student) in enumerate(zip(teacher_B, student_B, strict=True)):
            kind = _kind(bool(teacher), bool(student))
            if kind:
                self._offer(kind, unit, answers, row)

    def examples(self) -> tuple[Example, ...]:
        """Return what was kept, by kind and then by hash."""
        return tuple(
            example
            for kind in ("corrected", "wrong", "corrupted")
            for _, _, example in sorted(self._kept.get(kind, []), reverse=True, key=lambda e: e[:2])
        )

    def _offer(self, kind: str, unit: str, answers: UnitAnswers, row: int) -> None:
        """Keep a sample if its hash is among the lowest of its kind."""
        sample_id = int(answers.sample_id_B[row])
        kept = self._kept.setdefault(kind, [])
        rank = -_hash(sample_id)
        if len(kept) == self._num_each and rank <= kept[0][0]:
            return
        example = Example(
            kind=kind,
            unit=unit,
            row=int(answers.row_B[row]),
            sample_id=sample_id,
            key=answers.keys[row],
            truth=tuple(np.flatnonzero(answers.truth_BC[row]).tolist()),
            teacher=_answer(answers, TEACHER, row),
            student=_answer(answers, str(self._column), row),
        )
        entry = (rank, sample_id, example)
        (heapq.heappush if len(kept) < self._num_each else heapq.heapreplace)(kept, entry)


class ConfidenceTally:
    """Counts the teacher's answers by how sure it was."""

    def __init__(self) -> None:
        self._num_K = np.zeros(NUM_BINS)
        self._confidence_K = np.zeros(NUM_BINS)
        self._right_K = np.zeros(NUM_BINS)

    def add(self, answers: UnitAnswers) -> None:
        """Add the rows that the teacher answered."""
        chosen = answers.rows(np.flatnonzero(answers.answered(TEACHER)))
        if not chosen.groups:
            return
        confidence = chosen.confidence(TEACHER)
        place = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
        np.add.at(self._num_K, place, 1)
        np.add.at(self._confidence_K, place, confidence)
        np.add.at(self._right_K, place, chosen.right(TEACHER))

    def bins(self) -> tuple[ConfidenceBin, ...]:
        """Return the bins that hold anything."""
        return tuple(
            ConfidenceBin(
                low=one / NUM_BINS,
                high=(one + 1) / NUM_BINS,
                num=int(self._num_K[one]),
                confidence=float(self._confidence_K[one] / self._num_K[one]),
                accuracy=float(self._right_K[one] / self._num_K[one]),
            )
            for one in np.flatnonzero(self._num_K)
        )


def _all_right(answers: UnitAnswers, column: str) -> np.ndarray:
    """Return which samples are right as a whole [B]."""
    right = answers.right(column)
    return np.all(right.reshape(len(right), -1), axis=1)


def _kind(teacher: bool, student: bool) -> str:
    """Return what kind of example a sample is, "" for one that both have right."""
    if student:
        return "" if teacher else "corrected"
    return "corrupted" if teacher else "wrong"


def _answer(answers: UnitAnswers, column: str, row: int) -> Answer:
    """Return what a classifier said of one sample."""
    one = answers.rows(np.array([row]))
    classes = tuple(np.flatnonzero(one.named(column)[0]).tolist())
    seen = bool(one.answered(column)[0])
    return Answer(classes, float(one.probabilities(column)[0].max()) if seen else None)


def _hash(sample_id: int) -> int:
    """Return a number that has nothing to do with the order of samples."""
    digest = hashlib.blake2b(str(sample_id).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
