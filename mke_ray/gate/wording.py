"""The verdict of the gate in plain words, with its numbers and with what to be careful about."""

import math

import numpy as np

from mke_ray.gate.scores import GateRules, GateScores, Verdict

_METRIC_WORDS = {
    "accuracy": "accuracy",
    "map": "average precision per sample",
    "miou": "mean IoU",
}


def shortage_of(scores: GateScores | None, rules: GateRules) -> str:
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
    if (num_effective := scores.num_effective_groups) < rules.min_groups:
        is_uneven = num_effective < scores.num_groups
        uneven = f", so unevenly that they count as {num_effective}" if is_uneven else ""
        return (
            f"The {scores.num_samples} samples in the gate part of the probe come from only "
            f"{scores.num_groups} group(s){uneven}; at least {rules.min_groups} are needed "
            "(gate.min_groups), since samples of one group (an actor, a site) are not independent."
        )
    return ""


def main_sentence(
    verdict: Verdict, scores: GateScores, *, gain: float, bound: float, rules: GateRules
) -> str:
    """Say the verdict with its numbers."""
    student, teacher = scores.mean(scores.student_N), scores.mean(scores.teacher_N)
    measured = (
        f"on the {scores.num_samples:,} gate samples ({scores.num_groups:,} groups): "
        f"{student:.1%} {_METRIC_WORDS.get(scores.metric, scores.metric)} against {teacher:.1%}"
    )
    sure = f"with {rules.confidence:.0%} confidence"
    if verdict is Verdict.PROMOTED:
        return (
            f"The student is better than its teacher {measured}, a gain of {points(gain)}, and "
            f"{sure} at least {points(bound)}."
        )
    if verdict is Verdict.INCONCLUSIVE:
        return (
            f"The student is probably better than its teacher {measured}, a gain of "
            f"{points(gain)}, but {sure} it is only above {points(bound)}. The teacher is kept."
        )
    return f"The student is not better than its teacher {measured}. The teacher is kept."


def more_sentence(more: int | None, scores: GateScores, rules: GateRules) -> str:
    """Say how many more samples would settle it, and of how many more groups."""
    if more is None:
        return ""
    num_groups = math.ceil(more * scores.num_groups / scores.num_samples)
    is_grouped = scores.num_groups < scores.num_samples
    of_others = f", of about {num_groups:,} more groups," if is_grouped else ""
    return (
        f"About {more:,} more labelled samples{of_others} in the gate part would settle it at "
        f"{rules.confidence:.0%} if the gain is real."
    )


def care_sentence(scores: GateScores, rules: GateRules) -> str:
    """Advise care where the samples, or the groups that they come from, are few."""
    said = []
    if scores.num_samples < rules.advised_samples:
        way = "" if scores.metric == "miou" else " (jobs/ask.py says which, see docs/asking.md)"
        said.append(
            f"Fewer than {rules.advised_samples} samples are a weak basis; label more{way}."
        )
    if scores.num_effective_groups < rules.advised_groups:
        said.append(
            f"Fewer than {rules.advised_groups} groups of like size are a weak basis, however many "
            "samples each has: one kind of group that is not among them can turn the verdict. "
            "Label some of other groups (speakers, sites)."
        )
    return " ".join(said)


def sampling_sentence(scores: GateScores) -> str:
    """Say that some samples were asked for, and count by their chance."""
    if scores.sampling is None:
        return ""
    num_asked = int(np.count_nonzero(scores.sampling.stratum_N))
    return (
        f"{num_asked:,} of the samples were asked for (jobs/ask.py) and count by the chance with "
        "which they were drawn."
    )


def caution_sentence(gain: float, ci95: tuple[float, float] | None) -> str:
    """Say that the test set does not show the gain that the gate saw."""
    interval = "" if ci95 is None else f" (95%: {points(ci95[0])} to {points(ci95[1])})"
    return (
        f"Caution: on the test set the difference is {points(gain)}{interval}, so that the gain "
        "may be luck, or the gate samples are not drawn like the test set; find out which before "
        "you use the student."
    )


def rival_sentence(rival: float, student: float) -> str:
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


def openings_sentence(openings: int) -> str:
    """Warn of a gate that was used often."""
    if openings < 2:
        return ""
    return (
        f"These samples have now been used for {openings} decisions; each makes a lucky pass "
        "more likely, so renew the probe now and then."
    )


def points(share: float) -> str:
    """Return a difference of shares in points."""
    return f"{100 * share:+.1f} points"
