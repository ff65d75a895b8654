"""A pre-flight in sentences for people who decide."""

from collections.abc import Mapping, Sequence
from typing import Any

from mke_ray.focus.evidence import Evidence
from mke_ray.focus.resampled import Estimate

NO_CLASS_WORDS = (
    "Unsure: no sample of the select part of the probe is of any class, so that nothing can be "
    "measured; label some."
)
NO_LABEL_WORDS = (
    "Unsure: none of the first unlabeled samples has a label of the teacher (are they readable? "
    "have they its modality?); raise preflight.samples."
)
ONE_FOLD_WORDS = (
    "Unsure: the first unlabeled samples are of so few groups that all fall into one fold of the "
    "witnesses; raise preflight.samples."
)

_METRICS = {"accuracy": "accuracy", "map": "mean average precision"}
_DEPENDENT, _APART = 0.3, 0.1
_NEAR_NOBODY = 0.03


def headline(
    verdict: str,
    gain: float,
    interval: tuple[float, float],
    *,
    probability: float,
    worth: float,
) -> str:
    """Return the verdict in a sentence.

    Args:
        verdict: ``go``, ``no-go`` or ``unsure``.
        gain: Gain that is expected, a share.
        interval: Where it lies with a probability of 80%.
        probability: Probability of at least ``worth``.
        worth: Least gain that is worth a student.
    """
    said = {
        "go": "Go: it is to be expected that the student gains",
        "no-go": "No-go: it is not to be expected that the student gains",
        "unsure": "Unsure whether the student gains",
    }[str(verdict)]
    low, high = (f"{100 * end:+z.1f}" for end in interval)
    return (
        f"{said} at least {points_of(worth)} over its teacher (probability {probability:.0%}); "
        f"expected are {100 * gain:+z.1f} points, with a probability of 80% {low} to {high}."
    )


def points_of(share: float) -> str:
    """Return a share in points, as words."""
    number = f"{100 * share:g}"
    return f"{number} {'point' if number == '1' else 'points'}"


def unlearnt_words(evidence: Mapping[str, Any]) -> str:
    """Say where no network has learnt much, and what helps; "" where one has.

    Args:
        evidence: What was measured, as plain data.
    """
    found = [evidence[one] for one in ("teacher", "witness", "joined", "trial")]
    best = max(one["value"] for one in found if one is not None)
    if best >= evidence["nobody"] + _NEAR_NOBODY:
        return ""
    return (
        f"No network is much better than {_floor(evidence['metric'])} ({evidence['nobody']:.0%}), "
        "so that hardly anything has been learnt and this says little: train longer "
        "(fit.num_steps, teacher.fit.num_steps) or label more samples; see "
        "docs/when-it-does-not-help.md."
    )


def hint(gain: float, interval: tuple[float, float], *, caveat: str) -> str:
    """Return what is expected where no verdict can be said.

    Args:
        gain: Gain that is expected, a share.
        interval: Where it lies with a probability of 80%.
        caveat: Why there is no verdict.
    """
    low, high = (f"{100 * end:+z.1f}" for end in interval)
    return (
        f"Unsure: expected are {100 * gain:+z.1f} points over the teacher ({low} to {high}), but "
        f"that is a hint and no verdict. {caveat}"
    )


def shortage_words(num_samples: int, num_groups: int, *, least: int) -> str:
    """Say that too little is labelled to tell, and what helps."""
    groups = "1 group" if num_groups == 1 else f"{num_groups} groups"
    return (
        f"Unsure: the select part of the probe has {num_samples} samples of {groups}, "
        f"and at least {least} of 2 groups are needed to tell; give more labelled pairs "
        "split=probe, or raise gate.select_fraction."
    )


def reasons_of(
    evidence: Evidence, *, teacher: str, witnesses: Sequence[str], num_labels: int
) -> list[str]:
    """Return why a gain is to be expected or not, the strongest reason first.

    Args:
        evidence: What was measured.
        teacher: Modality of the teacher.
        witnesses: Modalities of the witnesses.
        num_labels: Pseudo-labels that the witnesses learnt.
    """
    names = " and ".join(witnesses)
    said = [
        _strength(evidence, teacher, names, num_labels),
        _trial(evidence),
        _joining(evidence, names),
        _knowledge(evidence, teacher, names),
        _errors(evidence, names),
        _neighbours(evidence, teacher, names),
    ]
    return [one for one in said if one]


def _strength(evidence: Evidence, teacher: str, names: str, num_labels: int) -> str:
    """Say how good each modality is alone."""
    metric, unit = _METRICS[evidence.metric], "pixels" if evidence.is_dense else "samples"
    samples = f"the {evidence.num_samples:,} labelled {unit} of the select part"
    learnt = f"as learnt from about {num_labels:,} samples with its labels"
    return (
        f"The teacher ({teacher}) reaches {_percent(evidence.teacher)} {metric} on {samples}; "
        f"{names} alone, {learnt}, {_percent(evidence.witness)} "
        f"({_floor(evidence.metric)}: {evidence.nobody:.0%})."
    )


def _joining(evidence: Evidence, names: str) -> str:
    """Say what joining both answers gives."""
    return (
        f"Joined with {names}, the teacher's answers reach {evidence.joined.value:.1%}: "
        f"{100 * evidence.gain.value:+z.1f} points{_points(evidence.gain)}."
    )


def _trial(evidence: Evidence) -> str:
    """Say what a student gains that was trained on the first samples."""
    trial, gain = evidence.trial, evidence.trial_gain
    if trial is None or gain is None:
        return ""
    return (
        f"A trial student that learnt refined labels of these samples, and the labelled split, "
        f"reaches {trial.value:.1%}: {100 * gain.value:+z.1f} points{_points(gain)}."
    )


def _knowledge(evidence: Evidence, teacher: str, names: str) -> str:
    """Say who knows what of the class."""
    bits = evidence.information
    if bits.both <= 0:
        return "Neither knows more of the class than how frequent each is."
    shares = [one / bits.both for one in (bits.teacher_only, bits.shared, bits.witness_only)]
    gamma = bits.gamma
    ends = ""
    if gamma is not None and gamma.ci95 is not None:
        ends = f", 95% interval {gamma.ci95[0]:.0%} to {gamma.ci95[1]:.0%}"
    said = (
        f"Of what is known of the class, {shares[0]:.0%} only {teacher} shows, {shares[1]:.0%} "
        f"both show (gamma{ends}), {shares[2]:.0%} only {names}"
    )
    if bits.together_only / bits.both > 0.005:
        said += f", and {bits.together_only / bits.both:.0%} only both together"
    return f"{said}; that is {bits.both:.2f} of {bits.entropy:.2f} bits."


def _errors(evidence: Evidence, names: str) -> str:
    """Say whether both are wrong together."""
    found = evidence.dependence
    if found.correlation is None or found.rescued is None:
        return "Errors cannot be compared: one of them makes none, or nothing but errors."
    value = found.correlation.value
    how = "are nearly independent" if abs(value) < _APART else "go together somewhat"
    if value >= _DEPENDENT:
        how = "go together, so that one corrects the other less"
    if value <= -_APART:
        how = "rather exclude each other"
    return (
        f"Their errors {how} (correlation {value:+z.2f}{_ends(found.correlation, '+z.2f')}): of "
        f"what the teacher has wrong, {names} gets {found.rescued.value:.0%} right"
        f"{_ends(found.rescued, '.0%')}."
    )


def _neighbours(evidence: Evidence, teacher: str, names: str) -> str:
    """Say whom the teacher's errors have as neighbours."""
    near = evidence.expansion
    if near is None:
        return ""
    return (
        f"What stands beside a sample that {teacher} has wrong (called expansion): of the samples "
        f"most like it in {names}, {near.witness.value:.0%} are of its true class and rightly "
        f"labelled, which corrects it, and {near.witness_confirms.value:.0%} have the same wrong "
        f"label, which confirms it; of those most like it in {teacher}, {near.teacher.value:.0%} "
        f"and {near.teacher_confirms.value:.0%}."
    )


def _floor(metric: str) -> str:
    """Return what a metric without any knowledge is."""
    return "chance" if metric == "map" else "always naming the most frequent class"


def _percent(found: Estimate) -> str:
    """Return a share with its interval."""
    return f"{found.value:.1%}{_ends(found, '.0%')}"


def _points(gain: Estimate) -> str:
    """Return the interval of a gain, "" where there is none."""
    if gain.ci95 is None:
        return ""
    return f", 95% interval {100 * gain.ci95[0]:+z.1f} to {100 * gain.ci95[1]:+z.1f}"


def _ends(found: Estimate, form: str) -> str:
    """Return an interval in brackets, "" where there is none."""
    if found.ci95 is None:
        return ""
    return f" ({found.ci95[0]:{form}} to {found.ci95[1]:{form}})"
