"""The decision itself: pure on the scores, and recorded where it opens the gate of a run."""

# N gate samples.

import json
import math
import time
from dataclasses import asdict, replace

import numpy as np

from mke_ray.gate.sampling import num_more, sampled_lower_bound
from mke_ray.gate.scores import GateDecision, GateRules, GateScores, Verdict
from mke_ray.gate.wording import (
    care_sentence,
    caution_sentence,
    main_sentence,
    more_sentence,
    openings_sentence,
    rival_sentence,
    sampling_sentence,
    shortage_of,
)
from mke_ray.metrics import lower_bound_by_group, num_needed
from mke_ray.schema import fingerprint
from mke_ray.storage import Root

GATE_FOLDER = "gate"


def decide(
    root: Root, scores: GateScores | None, *, student: str, rules: GateRules | None = None
) -> GateDecision:
    """Open the gate for a student, once.

    The same student, samples, true labels and rules get the recorded decision, which is no new
    opening. Every earlier decision on any of the samples counts as an opening, also where the
    others, or their labels, were not the same.

    Args:
        root: Root of the run; openings are recorded below ``gate/``.
        scores: Scores on the gate part of the probe, None where there is no probe.
        student: Fingerprint of the student.
        rules: What the gate asks for.
    """
    rules = rules or GateRules()
    if scores is None or shortage_of(scores, rules):
        return judge(scores, rules)
    folder = root.child(GATE_FOLDER, scores.digest())
    name = _name_of(folder, scores, student=student, rules=rules)
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


def _name_of(folder: Root, scores: GateScores, *, student: str, rules: GateRules) -> str:
    """Return the name of the record of a decision.

    Records of versions before did not say by which labels: one that found the same gain is taken
    to be by these.
    """
    name = f"{fingerprint([student, asdict(rules), scores.truth_digest()])}.json"
    before = f"{fingerprint([student, asdict(rules)])}.json"
    if folder.exists(name) or not folder.exists(before):
        return name
    found = GateDecision.from_dict(json.loads(folder.read(before))["decision"]).gain
    gain = judge(scores, rules).gain
    is_same = found is not None and gain is not None and math.isclose(found, gain, abs_tol=1e-9)
    return before if is_same else name


def with_rival_on_test(
    decision: GateDecision, *, student: float, labelled_only: float, teacher: float
) -> GateDecision:
    """Return an unverified decision that says so where the labels alone do better on the test set.

    Args:
        decision: The decision; one that opened the gate compared both there.
        student: Metric of the student on the test set.
        labelled_only: That of ``mm_labelled_only``.
        teacher: That of the teacher.
    """
    if decision.verdict != Verdict.UNVERIFIED or labelled_only <= student:
        return decision
    sentence = (
        "On the test set, training on the paired labels alone (mm_labelled_only) reaches "
        f"{labelled_only:.1%} against the student's {student:.1%}: "
        + (
            "look at that network first."
            if labelled_only > teacher
            else f"both are below the teacher ({teacher:.1%})."
        )
    )
    return replace(decision, reason=f"{decision.reason} {sentence}", beaten_by_labelled_only=True)


def with_test_gain(
    decision: GateDecision, *, gain: float, ci95: tuple[float, float] | None
) -> GateDecision:
    """Return a promotion that says so where the test set shows no gain; the verdict stays.

    Args:
        decision: The decision.
        gain: Gain of the student over its teacher on the test set.
        ci95: Its 95% interval, None where it cannot be told.
    """
    if not decision.promoted or round(100 * gain, 1) > 0:
        return decision
    return replace(decision, reason=f"{decision.reason} {caution_sentence(gain, ci95)}")


def _num_earlier(root: Root, scores: GateScores) -> int:
    """Count the recorded decisions of this root that used any of the samples."""
    folder = root.child(GATE_FOLDER)
    records = (json.loads(folder.read(name)) for name in folder.names())
    return sum(bool(np.isin(scores.sample_id_N, one["sample_ids"]).any()) for one in records)


def judge(scores: GateScores | None, rules: GateRules, *, openings: int = 1) -> GateDecision:
    """Return the verdict, without recording it.

    Args:
        scores: Scores on the gate part of the probe, None where there is no probe.
        rules: What the gate asks for.
        openings: How often these samples have been used, this time included.
    """
    shortage = shortage_of(scores, rules)
    if scores is None or shortage:
        return _unverified(shortage, scores, rules)
    gain_N = np.asarray(scores.student_N, float) - np.asarray(scores.teacher_N, float)
    gain = scores.mean(gain_N)
    bound = _bound(gain_N, scores, rules)
    verdict = _verdict(gain, bound)
    more = _more(gain_N, scores, rules) if verdict is Verdict.INCONCLUSIVE else None
    rival = None if scores.labelled_only_N is None else scores.mean(scores.labelled_only_N)
    own = scores.mean(scores.student_N)
    sentences = [
        main_sentence(verdict, scores, gain=gain, bound=bound, rules=rules),
        more_sentence(more, scores, rules),
        care_sentence(scores, rules),
        sampling_sentence(scores),
        rival_sentence(rival, own) if rival is not None and rival >= own else "",
        openings_sentence(openings),
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


def _bound(gain_N: np.ndarray, scores: GateScores, rules: GateRules) -> float:
    """Return the lower bound of a gain."""
    group_N, confidence = scores.group_N, rules.confidence
    if scores.sampling is None:
        return lower_bound_by_group(gain_N, group_N, confidence=confidence)
    return sampled_lower_bound(gain_N, group_N, scores.sampling, confidence=confidence)


def _more(gain_N: np.ndarray, scores: GateScores, rules: GateRules) -> int | None:
    """Return how many more samples would settle a gain."""
    group_N, confidence = scores.group_N, rules.confidence
    if scores.sampling is None:
        return num_needed(gain_N, group_N, confidence=confidence)
    return num_more(gain_N, group_N, scores.sampling, confidence=confidence)


def _with_rival(decision: GateDecision, scores: GateScores) -> GateDecision:
    """Return a recorded decision that says so where the labels alone do better by now."""
    if decision.beaten_by_labelled_only or scores.labelled_only_N is None:
        return decision
    rival, own = scores.mean(scores.labelled_only_N), scores.mean(scores.student_N)
    if rival <= own:
        return decision
    reason = f"{decision.reason} {rival_sentence(rival, own)}"
    return replace(decision, reason=reason, beaten_by_labelled_only=True)


def _verdict(gain: float, bound: float) -> Verdict:
    """Return the verdict that a gain and its lower bound give."""
    if bound > 0:
        return Verdict.PROMOTED
    return Verdict.INCONCLUSIVE if gain > 0 else Verdict.REJECTED


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
