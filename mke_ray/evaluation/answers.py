"""Truth and logits of single samples: of one unit, and what is kept of a whole part of the data."""

# B samples of a unit, N samples of a part, C classes.

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mke_ray.evaluation.average_precision import sample_average_precision
from mke_ray.evaluation.results import TEACHER, Flow, PartScores
from mke_ray.labels.posterior import probabilities
from mke_ray.schema import LabelKind, LabelSpace, ManifestRow

LOWEST = -1e30


@dataclass(frozen=True, slots=True, eq=False)
class UnitAnswers:
    """Truth and logits of some rows of one unit.

    Args:
        row_B: Row of each sample in its unit [B].
        sample_id_B: Sample ids [B].
        groups: Groups.
        keys: Keys in the source.
        truth_BC: Whether the sample is of the class [B, C].
        logits: Per column the logits [B, C], NaN where the classifier saw nothing.
        is_multi: Whether a sample may have several classes.
        temperature: Divides logits for confidences.
    """

    row_B: np.ndarray
    sample_id_B: np.ndarray
    groups: list[str]
    keys: list[str]
    truth_BC: np.ndarray
    logits: Mapping[str, np.ndarray]
    is_multi: bool
    temperature: float = 1.0

    @classmethod
    def of_rows(
        cls,
        rows: Sequence[ManifestRow],
        logits: Mapping[str, np.ndarray],
        *,
        space: LabelSpace,
        temperature: float = 1.0,
    ) -> "UnitAnswers":
        """Join the rows of a unit with the logits of all classifiers."""
        truth_BC = np.zeros((len(rows), space.num_classes), dtype=bool)
        for number, row in enumerate(rows):
            truth_BC[number, list(row.labels or ())] = True
        return cls(
            np.arange(len(rows)),
            np.array([row.sample_id for row in rows], dtype=np.int64),
            [row.group for row in rows],
            [row.key for row in rows],
            truth_BC,
            logits,
            space.kind is LabelKind.MULTI,
            temperature,
        )

    def rows(self, chosen: np.ndarray) -> "UnitAnswers":
        """Return some of the rows."""
        return UnitAnswers(
            self.row_B[chosen],
            self.sample_id_B[chosen],
            [self.groups[row] for row in chosen],
            [self.keys[row] for row in chosen],
            self.truth_BC[chosen],
            {name: logits_BC[chosen] for name, logits_BC in self.logits.items()},
            self.is_multi,
            self.temperature,
        )

    def answered(self, column: str) -> np.ndarray:
        """Return which samples a classifier could answer [B]."""
        return np.asarray(np.isfinite(self.logits[column]).all(axis=1))

    def named(self, column: str) -> np.ndarray:
        """Return which classes a classifier names [B, C]; none where it saw nothing."""
        logits_BC = np.where(self.answered(column)[:, None], self.logits[column], LOWEST)
        if self.is_multi:
            return logits_BC > 0
        named_BC = np.zeros(logits_BC.shape, dtype=bool)
        named_BC[np.arange(len(logits_BC)), logits_BC.argmax(axis=1)] = True
        return named_BC & self.answered(column)[:, None]

    def right(self, column: str) -> np.ndarray:
        """Return which answers are right: [B], or [B, C] where every class is an answer."""
        same_BC = np.equal(self.named(column), self.truth_BC)
        return same_BC if self.is_multi else np.asarray(same_BC.all(axis=1))

    def score(self, column: str) -> np.ndarray:
        """Return the score of each sample in [0, 1], float32 [B]."""
        if not self.is_multi:
            return self.right(column).astype(np.float32)
        seen_B = self.answered(column)
        logits_BC = np.where(seen_B[:, None], self.logits[column], LOWEST)
        return sample_average_precision(logits_BC, self.truth_BC) * seen_B

    def probabilities(self, column: str) -> np.ndarray:
        """Return probabilities [B, C], NaN where there are no logits."""
        kind = LabelKind.MULTI if self.is_multi else LabelKind.SINGLE
        return probabilities(self.logits[column], temperature=self.temperature, kind=kind)

    def confidence(self, column: str) -> np.ndarray:
        """Return how sure a classifier is: [B], or [B, C] where every class is an answer."""
        probability_BC = self.probabilities(column)
        if self.is_multi:
            return np.maximum(probability_BC, 1 - probability_BC)
        return probability_BC.max(axis=1)

    def add_flow(self, flow: Flow, column: str) -> Flow:
        """Return a flow with the rows that have a pseudo-label added."""
        has_label_B = self.answered(TEACHER)
        teacher, student = self.right(TEACHER)[has_label_B], self.right(column)[has_label_B]
        return Flow(
            flow.num + teacher.size,
            flow.num_wrong + int((~teacher).sum()),
            flow.num_corrected + int((student & ~teacher).sum()),
            flow.num_corrupted + int((teacher & ~student).sum()),
        )


@dataclass(slots=True)
class Part:
    """What is kept of one part of the data: a few bytes per labelled sample and column.

    Args:
        sample_ids: Sample ids, by unit.
        groups: Group of each sample.
        scores: Per column the scores, by unit.
        logits: Per column the logits, by unit, where they are kept.
        truths: Truth [B, C], by unit, where logits are kept.
        marks: 64 bits over the truth of each sample [B], by unit.
    """

    sample_ids: list[np.ndarray] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    scores: dict[str, list[np.ndarray]] = field(default_factory=dict)
    logits: dict[str, list[np.ndarray]] = field(default_factory=dict)
    truths: list[np.ndarray] = field(default_factory=list)
    marks: list[np.ndarray] = field(default_factory=list)

    def add(self, answers: UnitAnswers, *, keep_logits: bool) -> None:
        """Add the usable rows of a unit."""
        self.sample_ids.append(answers.sample_id_B)
        self.groups.extend(answers.groups)
        self.marks.append(truth_marks(np.packbits(answers.truth_BC, axis=1)))
        for column in answers.logits:
            self.scores.setdefault(column, []).append(answers.score(column))
            if keep_logits:
                self.logits.setdefault(column, []).append(answers.logits[column])
        if keep_logits:
            self.truths.append(answers.truth_BC)

    def to_scores(self, columns: Sequence[str]) -> PartScores:
        """Return the scores of all samples."""
        empty = np.zeros(0, np.float32)
        return PartScores(
            np.concatenate(self.sample_ids) if self.sample_ids else np.zeros(0, np.int64),
            np.asarray(self.groups, dtype=object),
            {one: np.concatenate(self.scores.get(one, [empty])) for one in columns},
            np.concatenate(self.marks) if self.marks else np.zeros(0, np.uint64),
        )


def truth_marks(truth_BX: np.ndarray) -> np.ndarray:
    """Return 64 bits per sample that change with its true label [B], uint64."""
    marks = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in truth_BX]
    return np.frombuffer(b"".join(marks), dtype="<u8")
