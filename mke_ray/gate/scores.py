"""What the gate looks at, what it asks for and what it says, as plain dataclasses."""

# N gate samples, G groups.

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mke_ray.gate.sampling import Sampling


def num_effective_groups(count_G: ArrayLike) -> float:
    """Return how many groups of one size would say as much: the count where all are of one size.

    Args:
        count_G: Samples of each group [G]; 0 without any.

    Source:
        Kish, Survey Sampling, 1965: the effective size of a weighted sample.
    """
    count_G = np.asarray(count_G, dtype=float)
    return float(count_G.sum() ** 2 / np.square(count_G).sum()) if count_G.size else 0.0


class Verdict(StrEnum):
    """What the gate says of a student; only a promoted one is exported."""

    PROMOTED = "promoted"
    INCONCLUSIVE = "inconclusive"
    REJECTED = "rejected"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True)
class GateRules:
    """What the gate asks for.

    Args:
        confidence: Confidence of the one-sided lower bound of the gain.
        min_samples: Samples below which nothing is decided.
        min_groups: Groups below which nothing is decided: a few say little of others. Groups of
            unequal size count as the equal ones that would say as much, rounded.
        advised_samples: Samples below which the reason advises care.
        advised_groups: Groups below which it does.
    """

    confidence: float = 0.95
    min_samples: int = 50
    min_groups: int = 5
    advised_samples: int = 100
    advised_groups: int = 20


@dataclass(frozen=True, slots=True, eq=False)
class GateScores:
    """What teacher and student reach on every sample of the gate part of the probe.

    Args:
        sample_id_N: Sample ids [N], int64.
        group_N: Group of each sample [N], any values that can be compared.
        teacher_N: Score of the teacher: right or wrong, an average precision, or of dense labels a
            score whose mean is the mean IoU.
        student_N: Score of the student on the same samples.
        labelled_only_N: Score of ``mm_labelled_only`` on the same samples, None without that arm.
        metric: ``accuracy``, ``map`` or ``miou``, for the wording.
        sampling: How the samples were drawn, where some were asked for by other chances; None
            where all are alike.
        truth_N: Per sample 64 bits that change with its true label [N]; None where nothing is to
            be recorded.
    """

    sample_id_N: np.ndarray
    group_N: np.ndarray
    teacher_N: np.ndarray
    student_N: np.ndarray
    labelled_only_N: np.ndarray | None = None
    metric: str = "accuracy"
    sampling: Sampling | None = None
    truth_N: np.ndarray | None = None

    def mean(self, score_N: ArrayLike) -> float:
        """Return the mean of a score over what the samples stand for."""
        if self.sampling is None:
            return float(np.mean(np.asarray(score_N, float)))
        return self.sampling.mean(score_N)

    @property
    def num_samples(self) -> int:
        """Number of samples N."""
        return len(self.sample_id_N)

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return len(np.unique(self.group_N))

    @property
    def num_effective_groups(self) -> int:
        """Number of groups of equal size that would say as much, rounded."""
        _, count_G = np.unique(self.group_N, return_counts=True)
        return round(num_effective_groups(count_G))

    def digest(self) -> str:
        """Return 16 hex digits over which samples these are, in any order."""
        ids = np.sort(np.asarray(self.sample_id_N, dtype="<i8"))
        return hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest()

    def truth_digest(self) -> str:
        """Return 16 hex digits over the true labels of the samples and their groups."""
        order = np.argsort(self.sample_id_N)
        truth_N = np.zeros(0) if self.truth_N is None else self.truth_N[order]
        known = [np.asarray(truth_N).tolist(), [str(one) for one in self.group_N[order]]]
        return hashlib.blake2b(json.dumps(known).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The verdict and what it rests on; numbers are None where the gate was not opened.

    Args:
        promoted: Whether the student is to be exported.
        verdict: One of ``Verdict``.
        reason: The verdict in plain words, with its numbers.
        openings: How often any of these gate samples has been used for a decision of this root,
            this one included.
        gain: Mean of the paired difference to the teacher.
        lower_bound: One-sided lower bound of the gain.
        confidence: Confidence of that bound.
        num_samples: Gate samples.
        num_groups: Groups among them.
        num_more_samples: More labelled samples that would settle an inconclusive verdict.
        beaten_by_labelled_only: Whether ``mm_labelled_only`` is better on the same samples, or of
            an unverified student on the test set.
    """

    promoted: bool
    verdict: str
    reason: str
    openings: int = 0
    gain: float | None = None
    lower_bound: float | None = None
    confidence: float = 0.95
    num_samples: int = 0
    num_groups: int = 0
    num_more_samples: int | None = None
    beaten_by_labelled_only: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that ``from_dict`` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "GateDecision":
        """Build a decision from plain data."""
        return cls(**plain)
