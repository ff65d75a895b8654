"""The pre-flight: whether a student is worth its training, told before the money is spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mke_ray.focus.evidence import evidence_of
from mke_ray.focus.gain_prediction import GainModel, features_of, standard_error_of
from mke_ray.focus.preflight_words import (
    NO_CLASS_WORDS,
    headline,
    hint,
    reasons_of,
    shortage_words,
    unlearnt_words,
)
from mke_ray.focus.select_answers import SelectAnswers

LEAST_SAMPLES = 20  # of fewer, temperature and exponents are chosen by chance
LEAST_GROUPS = 2

_INTERVAL = 0.8


class Verdict(StrEnum):
    """What a pre-flight says."""

    GO = "go"
    NO_GO = "no-go"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a pre-flight found.

    Args:
        verdict: ``go``, ``no-go`` or ``unsure``.
        said: That in a sentence.
        reasons: Why, in sentences.
        gain: Gain of the student over the teacher that is expected, a share; None where nothing
            could be measured.
        interval: Where it lies with a probability of 80%.
        probability: Probability of a gain of at least ``worth``.
        worth: Least gain that is worth a student.
        evidence: What was measured, as plain data; empty where nothing could be.
        features: What the gain was predicted from.
        standard_error: Standard error of what the trial student gains.
    """

    verdict: str
    said: str
    reasons: Sequence[str] = ()
    gain: float | None = None
    interval: tuple[float, float] | None = None
    probability: float | None = None
    worth: float = 0.0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, float] = field(default_factory=dict)
    standard_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "verdict": str(self.verdict),
            "said": self.said,
            "reasons": list(self.reasons),
            "gain": self.gain,
            "interval": None if self.interval is None else list(self.interval),
            "probability": self.probability,
            "worth": self.worth,
            "evidence": dict(self.evidence),
            "features": dict(self.features),
            "standard_error": self.standard_error,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Preflight":
        """Build a pre-flight from plain data."""
        ends = plain["interval"]
        return cls(**{**plain, "interval": None if ends is None else tuple(ends)})


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured, whatever gain is worth it.

    Args:
        shortage: Why nothing could be measured, "" where something was.
        evidence: What was measured, as plain data.
        features: What the gain is predicted from.
        standard_error: Standard error of what the trial student gains.
        reasons: What it means, in sentences.
    """

    shortage: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, float] = field(default_factory=dict)
    standard_error: float = 0.0
    reasons: Sequence[str] = ()


def measure(
    answers: SelectAnswers, *, teacher: str, witnesses: Sequence[str], num_labels: int
) -> Finding:
    """Measure what is known before a student is trained.

    Args:
        answers: What teacher and witnesses say of the select part of the probe.
        teacher: Modality of the teacher.
        witnesses: Modalities of the witnesses.
        num_labels: Pseudo-labels that the witnesses learnt.
    """
    if len(answers) < LEAST_SAMPLES or answers.num_groups < LEAST_GROUPS:
        return Finding(shortage_words(len(answers), answers.num_groups, least=LEAST_SAMPLES))
    if not answers.truth_NC.any():
        return Finding(NO_CLASS_WORDS)
    evidence = evidence_of(answers)
    return Finding(
        "",
        evidence.to_dict(),
        features_of(evidence),
        standard_error_of(evidence),
        reasons_of(evidence, teacher=teacher, witnesses=witnesses, num_labels=num_labels),
    )


def judge(
    found: Finding,
    *,
    worth: float,
    certainty: float,
    caveat: str = "",
    model: GainModel | None = None,
) -> Preflight:
    """Say whether a student is worth its training.

    Args:
        found: What was measured.
        worth: Least gain that is worth a student, a share.
        certainty: Probability from which on the verdict is not ``unsure``.
        caveat: Why the prediction does not hold for what was measured; then the verdict is
            ``unsure`` whatever it says.
        model: How a gain is predicted; None takes the one of the package.
    """
    if found.shortage:
        return Preflight(Verdict.UNSURE, found.shortage, worth=worth)
    expected = (model or GainModel.shipped()).predict(found.features, found.standard_error)
    probability = 1.0 - expected.cdf(worth)
    verdict = Verdict.UNSURE if caveat else _verdict(probability, certainty)
    tail = (1.0 - _INTERVAL) / 2
    interval = expected.inv_cdf(tail), expected.inv_cdf(1.0 - tail)
    said = headline(verdict, expected.mean, interval, probability=probability, worth=worth)
    if caveat:
        said = hint(expected.mean, interval, caveat=caveat)
    unlearnt = "" if verdict == Verdict.GO else unlearnt_words(found.evidence)
    return Preflight(
        verdict,
        f"{said} {unlearnt}".rstrip(),
        found.reasons,
        expected.mean,
        interval,
        probability,
        worth,
        found.evidence,
        found.features,
        found.standard_error,
    )


def _verdict(probability: float, certainty: float) -> Verdict:
    """Return what a probability of a gain that is worth it says."""
    if probability >= certainty:
        return Verdict.GO
    return Verdict.NO_GO if probability <= 1.0 - certainty else Verdict.UNSURE
