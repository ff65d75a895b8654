"""The promotion gate: is the student better than its teacher, beyond doubt, on unseen samples?"""

# N gate samples.

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from mke_ray.metrics import lower_bound_by_group, num_needed
from mke_ray.schema import fingerprint
from mke_ray.storage import Root

GATE_FOLDER = "gate"

_METRIC_WORDS = {
    "accuracy": "accuracy",
    "map": "average precision per sample",
    "miou": "mean IoU",
}


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
        min_groups: Groups below which nothing is decided: resampling a few groups says little.
        advised_samples: Samples below which the reason advises care.
    """

    confidence: float = 0.95
    min_samples: int = 50
    min_groups: int = 5
    advised_samples: int = 100


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
    """

    sample_id_N: np.ndarray
    group_N: np.ndarray
    teacher_N: np.ndarray
    student_N: np.ndarray
    labelled_only_N: np.ndarray | None = None
    metric: str = "accuracy"

    @property
    def num_samples(self) -> int:
        """Number of samples N."""
        return len(self.sample_id_N)

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return len(np.unique(self.group_N))

    def digest(self) -> str:
        """Return 16 hex digits over which samples these are, in any order."""
        ids = np.sort(np.asarray(self.sample_id_N, dtype="<i8"))
        return hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest()


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


def decide(
    root: Root, scores: GateScores | None, *, student: str, rules: GateRules | None = None
) -> GateDecision:
    """Open the gate for a student, once.

    The same student, samples and rules get the recorded decision, which is no new opening. Every
    earlier decision on any of the samples counts as an opening, also where the others were not
    the same.

    Args:
        root: Root of the run; openings are recorded below ``gate/``.
        scores: Scores on the gate part of the probe, None where there is no probe.
        student: Fingerprint of the student.
        rules: What the gate asks for.
    """
    rules = rules or GateRules()
    shortage = _shortage(scores, rules)
    if scores is None or shortage:
        return _unverified(shortage, scores, rules)
    folder = root.child(GATE_FOLDER, scores.digest())
    name = f"{fingerprint([student, asdict(rules)])}.json"
    if not folder.exists(name):
        decision = judge(scores, rules, openings=1 + _num_earlier(root, scores))
        record = {
            "student": student,
            "time_s": time.time(),
            "decision": decision.to_dict(),
            "sample_ids": scores.sample_id_N.tolist(),
        }
        folder.create(name, json.dumps(record, indent=1).encode())
    kept = GateDecision.from_dict(json.loads(folder.read(name))["decision"])
    return _with_rival(kept, scores)


def with_rival_on_test(
    decision: GateDecision, *, student: float, labelled_only: float
) -> GateDecision:
    """Return an unverified decision that says so where the labels alone do better on the test set.

    Args:
        decision: The decision; one that opened the gate compared both there.
        student: Metric of the student on the test set.
        labelled_only: That of ``mm_labelled_only``.
    """
    if decision.verdict != Verdict.UNVERIFIED or labelled_only <= student:
        return decision
    sentence = (
        "On the test set, training on the paired labels alone (mm_labelled_only) reaches "
        f"{labelled_only:.1%} against the student's {student:.1%}: look at that network first."
    )
    return replace(decision, reason=f"{decision.reason} {sentence}", beaten_by_labelled_only=True)


def _num_earlier(root: Root, scores: GateScores) -> int:
    """Count the recorded decisions of this root that used any of the samples."""
    folder = root.child(GATE_FOLDER)
    records = (json.loads(folder.read(name)) for name in folder.names())
    return sum(bool(np.isin(scores.sample_id_N, one["sample_ids"]).any()) for one in records)


def judge(scores: GateScores, rules: GateRules, *, openings: int = 1) -> GateDecision:
    """Return the verdict on enough samples, without recording it.

    Args:
        scores: Scores on the gate part of the probe.
        rules: What the gate asks for.
        openings: How often these samples have been used, this time included.
    """
    gain_N = np.asarray(scores.student_N, float) - np.asarray(scores.teacher_N, float)
    gain = float(gain_N.mean())
    bound = lower_bound_by_group(gain_N, scores.group_N, confidence=rules.confidence)
    verdict = _verdict(gain, bound)
    more = None
    if verdict is Verdict.INCONCLUSIVE:
        more = num_needed(gain_N, scores.group_N, confidence=rules.confidence)
    rival = None if scores.labelled_only_N is None else float(np.mean(scores.labelled_only_N))
    own = float(np.mean(scores.student_N))
    sentences = [
        _main_sentence(verdict, scores, gain=gain, bound=bound, rules=rules),
        _more_sentence(more, rules),
        _care_sentence(scores.num_samples, rules),
        _rival_sentence(rival, own) if rival is not None and rival >= own else "",
        _openings_sentence(openings),
    ]
    return GateDecision(
        promoted=verdict is Verdict.PROMOTED,
        verdict=str(verdict),
        reason=" ".join(sentence for sentence in sentences if sentence),
        openings=openings,
        gain=gain,
        lower_bound=bound,
        confidence=rules.confidence,
        num_samples=scores.num_samples,
        num_groups=scores.num_groups,
        num_more_samples=more,
        beaten_by_labelled_only=rival is not None and rival > own,
    )


def _with_rival(decision: GateDecision, scores: GateScores) -> GateDecision:
    """Return a recorded decision that says so where the labels alone do better by now."""
    if decision.beaten_by_labelled_only or scores.labelled_only_N is None:
        return decision
    rival = float(np.mean(scores.labelled_only_N))
    if rival <= float(np.mean(scores.student_N)):
        return decision
    reason = f"{decision.reason} {_rival_sentence(rival, float(np.mean(scores.student_N)))}"
    return replace(decision, reason=reason, beaten_by_labelled_only=True)


def _verdict(gain: float, bound: float) -> Verdict:
    """Return the verdict that a gain and its lower bound give."""
    if bound > 0:
        return Verdict.PROMOTED
    return Verdict.INCONCLUSIVE if gain > 0 else Verdict.REJECTED


def _shortage(scores: GateScores | None, rules: GateRules) -> str:
    """Say what is missing for a decision, "" if nothing is."""
    if scores is None or scores.num_samples == 0:
        return (
            "There are no labelled multimodal samples to decide on: no sample of the probe is in "
            "its gate part (which of its groups are is drawn by their names, so that a few may all "
            f"be in the other part). A probe of {rules.advised_samples * 2} samples is enough."
        )
    if scores.num_samples < rules.min_samples:
        return (
            f"The gate part of the probe has {scores.num_samples} labelled samples of "
            f"{scores.num_groups} group(s), since whole groups are drawn into it by their names; "
            f"at least {rules.min_samples} are needed (gate.min_samples) and "
            f"{rules.advised_samples} are advised. Label more for the probe."
        )
    if scores.num_groups < rules.min_groups:
        return (
            f"The {scores.num_samples} samples in the gate part of the probe come from only "
            f"{scores.num_groups} group(s); at least {rules.min_groups} are needed, since samples "
            "of one group (an actor, a site) are not independent."
        )
    return ""


def _unverified(shortage: str, scores: GateScores | None, rules: GateRules) -> GateDecision:
    """Return the verdict where nothing was opened."""
    return GateDecision(
        promoted=False,
        verdict=str(Verdict.UNVERIFIED),
        reason=f"{shortage} The teacher is kept.",
        confidence=rules.confidence,
        num_samples=0 if scores is None else scores.num_samples,
        num_groups=0 if scores is None else scores.num_groups,
    )


def _main_sentence(
    verdict: Verdict, scores: GateScores, *, gain: float, bound: float, rules: GateRules
) -> str:
    """Say the verdict with its numbers."""
    student, teacher = float(np.mean(scores.student_N)), float(np.mean(scores.teacher_N))
    measured = (
        f"on the {scores.num_samples:,} gate samples ({scores.num_groups:,} groups): "
        f"{student:.1%} {_METRIC_WORDS.get(scores.metric, scores.metric)} against {teacher:.1%}"
    )
    sure = f"with {rules.confidence:.0%} confidence"
    if verdict is Verdict.PROMOTED:
        return (
            f"The student is better than its teacher {measured}, a gain of {_points(gain)}, and "
            f"{sure} at least {_points(bound)}."
        )
    if verdict is Verdict.INCONCLUSIVE:
        return (
            f"The student is probably better than its teacher {measured}, a gain of "
            f"{_points(gain)}, but {sure} it is only above {_points(bound)}. The teacher is kept."
        )
    return f"The student is not better than its teacher {measured}. The teacher is kept."


def _more_sentence(more: int | None, rules: GateRules) -> str:
    """Say how many more samples would settle it."""
    if more is None:
        return ""
    return (
        f"About {more:,} more labelled samples in the gate part would settle it at "
        f"{rules.confidence:.0%} if the gain is real."
    )


def _care_sentence(num_samples: int, rules: GateRules) -> str:
    """Advise care where the samples are few."""
    if num_samples >= rules.advised_samples:
        return ""
    return f"Fewer than {rules.advised_samples} samples are a weak basis; label more."


def _rival_sentence(rival: float, student: float) -> str:
    """Say that pseudo-labels were not needed."""
    if rival <= student:
        return (
            f"Training on the paired labels alone (mm_labelled_only) does as well, {rival:.1%} on "
            "the same samples: the unlabeled ones added nothing that these samples can show."
        )
    return (
        f"Training on the paired labels alone (mm_labelled_only) does better still, {rival:.1%} "
        "on the same samples: prefer that network, or mix these labels into the training."
    )


def _openings_sentence(openings: int) -> str:
    """Warn of a gate that was used often."""
    if openings < 2:
        return ""
    return (
        f"These samples have now been used for {openings} decisions; each makes a lucky pass "
        "more likely, so renew the probe now and then."
    )


def _points(share: float) -> str:
    """Return a difference of shares in points."""
    return f"{100 * share:+.1f} points"
