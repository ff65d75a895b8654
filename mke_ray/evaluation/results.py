"""What an evaluation found, as plain dataclasses that the gate, the report and MLflow read."""

# N samples.

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mke_ray.evaluation.diagnosis import Diagnosis

TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Flow:
    """What became of the teacher's answers on rows with a known truth.

    For several labels per sample an answer is one class of one sample, said or not; for dense
    labels it is one pixel that is not ignored.

    Args:
        num: Answers of the teacher.
        num_wrong: Its wrong ones.
        num_corrected: Wrong ones of which the student is right; a mean over seeds.
        num_corrupted: Right ones of which the student is wrong; a mean over seeds.
    """

    num: int = 0
    num_wrong: int = 0
    num_corrected: float = 0.0
    num_corrupted: float = 0.0

    @property
    def num_right(self) -> int:
        """Answers of the teacher that are right."""
        return self.num - self.num_wrong

    @property
    def corrected(self) -> float | None:
        """Share of the wrong answers that are corrected, None where there are none."""
        return self.num_corrected / self.num_wrong if self.num_wrong else None

    @property
    def corrupted(self) -> float | None:
        """Share of the right answers that are corrupted, None where there are none."""
        return self.num_corrupted / self.num_right if self.num_right else None

    @property
    def teacher_accuracy(self) -> float | None:
        """Share of the teacher's answers that are right, None where there are none."""
        return self.num_right / self.num if self.num else None


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm on the test set.

    Args:
        arm: Name of the arm.
        value: Its metric, the mean over seeds.
        ci95: 95% interval of the value over groups of test samples (not over seeds); None where
            all samples are of one group.
        num_test: Test samples.
        num_groups: Groups among them.
        seeds: Value of every seed.
        gain: Paired difference to the teacher, 0 for the teacher itself.
        gain_ci95: 95% interval of the gain.
        select: Metric on the select part of the probe, None without one.
        flow: What it did to the teacher's answers on the unlabeled set, None where no truth is
            known there, or for the teacher.
        pixel_accuracy: Share of the pixels named right, None where labels are not dense.
        class_ious: Intersection over union of each class [C], NaN where no test pixel is of it or
            named so; empty where labels are not dense.
        further: Further figures by name, see ``mke_ray.evaluation.further``; the mean over seeds.
    """

    arm: str
    value: float
    ci95: tuple[float, float] | None
    num_test: int
    num_groups: int
    seeds: Mapping[int, float] = field(default_factory=dict)
    gain: float = 0.0
    gain_ci95: tuple[float, float] | None = (0.0, 0.0)
    select: float | None = None
    flow: Flow | None = None
    pixel_accuracy: float | None = None
    class_ious: tuple[float, ...] = ()
    further: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class PartScores:
    """Scores of single samples of one part of the data, what the gate decides on.

    Args:
        sample_id_N: Sample ids [N], int64.
        group_N: Group of each sample [N], text.
        scores: Per column (``teacher`` or the fingerprint of a fit) the score [N]: right or wrong,
            the sample's average precision, or of dense labels what ``PixelCounts.scores`` says.
        truth_N: Per sample 64 bits that change with its true label [N], uint64; None
            where nothing is recorded.
    """

    sample_id_N: np.ndarray
    group_N: np.ndarray
    scores: Mapping[str, np.ndarray]
    truth_N: np.ndarray | None = None

    @property
    def num_samples(self) -> int:
        """Number of samples N."""
        return len(self.sample_id_N)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one classifier said of one sample.

    Args:
        classes: Indices of the classes that it named.
        confidence: Its highest probability, None where it saw nothing.
    """

    classes: tuple[int, ...]
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """One test sample worth showing.

    Args:
        kind: ``corrected`` (teacher wrong, student right), ``corrupted`` or ``wrong`` (both).
        unit: Unit that holds it.
        row: Its row in the unit.
        sample_id: Its id.
        key: Its key in the source.
        truth: Indices of the true classes.
        teacher: What the teacher said.
        student: What the student said.
    """

    kind: str
    unit: str
    row: int
    sample_id: int
    key: str
    truth: tuple[int, ...]
    teacher: Answer
    student: Answer


@dataclass(frozen=True, slots=True)
class DenseExample:
    """One test sample with dense labels that is worth showing.

    Args:
        kind: ``corrected`` or ``corrupted`` (most of the pixels that count), or ``typical``.
        unit: Unit that holds it.
        row: Its row in the unit.
        sample_id: Its id.
        key: Its key in the source.
        corrected: Share of its pixels that the teacher has wrong and the student right.
        corrupted: Share that the teacher has right and the student wrong.
    """

    kind: str
    unit: str
    row: int
    sample_id: int
    key: str
    corrected: float
    corrupted: float


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Samples that the teacher was about equally sure of.

    Args:
        low: Lowest confidence.
        high: Highest confidence.
        num: Samples.
        confidence: Mean confidence.
        accuracy: Share that the teacher has right.
    """

    low: float
    high: float
    num: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Everything that was measured on samples with a known truth.

    Args:
        metric: ``accuracy``, ``map`` or ``miou``.
        arms: Results by arm, the teacher first.
        columns: Per arm the columns of its seeds.
        teacher_flow: The teacher's answers on the unlabeled set, None where no truth is known.
        test: Scores of single test samples.
        select: Scores on the select part of the probe.
        gate: Scores on the gate part of the probe; for the gate alone.
        num_excluded: Test rows left out since the file is bad or could not be read yet.
        confidence: The teacher's confidence on rows with a known truth outside test and gate.
        examples: Test samples worth showing.
        dense_examples: The same where labels are dense.
        diagnosis: Where the arm in front of the gate gains; None where labels are dense.
    """

    metric: str
    arms: Mapping[str, ArmResult]
    columns: Mapping[str, tuple[str, ...]]
    teacher_flow: Flow | None
    test: PartScores
    select: PartScores
    gate: PartScores
    num_excluded: int = 0
    confidence: tuple[ConfidenceBin, ...] = ()
    examples: tuple[Example, ...] = ()
    dense_examples: tuple[DenseExample, ...] = ()
    diagnosis: "Diagnosis | None" = None
