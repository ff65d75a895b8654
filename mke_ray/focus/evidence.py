"""What a pre-flight measures: strengths, shared knowledge, errors, neighbours, answers joined."""

# N samples, C classes, F networks of folds.

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mke_ray.evaluation.average_precision import ResampledMAP
from mke_ray.focus.error_dependence import ErrorDependence, error_dependence, is_right
from mke_ray.focus.error_expansion import ErrorExpansion, error_expansion
from mke_ray.focus.information import Information, usable_information
from mke_ray.focus.resampled import Estimate
from mke_ray.focus.select_answers import FittedAnswers, SelectAnswers, cross_fitted
from mke_ray.metrics import bootstrap_by_group, mean_average_precision
from mke_ray.schema import LabelKind


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a teacher and of witnesses before a student is trained.

    Args:
        metric: ``accuracy`` (of pixels where labels are dense) or ``map``.
        num_samples: Labelled samples on which it was measured; of dense labels pixels.
        num_groups: Groups of these.
        teacher: Metric of the teacher.
        witness: Metric of the witnesses of the other modalities alone.
        nobody: Metric of naming the most frequent class; of many classes the mean share of one.
        joined: Metric of teacher and witnesses together.
        gain: What joining them gains over the teacher.
        trial: Metric of the trial student; None where there is none.
        trial_gain: What it gains over the teacher.
        information: What they know of the classes.
        dependence: Whether they are wrong together.
        expansion: Whom the teacher's errors have as neighbours; None where it cannot be told.
        is_dense: Whether a sample is a pixel.
    """

    metric: str
    num_samples: int
    num_groups: int
    teacher: Estimate
    witness: Estimate
    nobody: float
    joined: Estimate
    gain: Estimate
    trial: Estimate | None
    trial_gain: Estimate | None
    information: Information
    dependence: ErrorDependence
    expansion: ErrorExpansion | None
    is_dense: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        bits, errors, near = self.information, self.dependence, self.expansion
        return {
            "metric": self.metric,
            "num_samples": self.num_samples,
            "num_groups": self.num_groups,
            "teacher": self.teacher.to_dict(),
            "witness": self.witness.to_dict(),
            "nobody": self.nobody,
            "joined": self.joined.to_dict(),
            "gain": self.gain.to_dict(),
            "trial": _plain(self.trial),
            "trial_gain": _plain(self.trial_gain),
            "information_bits": {
                "teacher": bits.teacher,
                "witness": bits.witness,
                "both": bits.both,
                "entropy": bits.entropy,
                "shared": bits.shared,
                "teacher_only": bits.teacher_only,
                "witness_only": bits.witness_only,
                "together_only": bits.together_only,
            },
            "gamma": _plain(bits.gamma),
            "errors": {
                "correlation": _plain(errors.correlation),
                "rescued": _plain(errors.rescued),
                "kept": _plain(errors.kept),
            },
            "neighbours": None
            if near is None
            else {
                "teacher": near.teacher.to_dict(),
                "witness": near.witness.to_dict(),
                "teacher_confirms": near.teacher_confirms.to_dict(),
                "witness_confirms": near.witness_confirms.to_dict(),
            },
        }


def evidence_of(answers: SelectAnswers) -> Evidence:
    """Return what answers about labelled samples of at least two groups say.

    Temperatures and exponents are fitted on the samples of other groups than those measured.

    Args:
        answers: The answers.
    """
    fitted = cross_fitted(answers)
    measure = _map_measure if answers.is_multi else _accuracy_measure
    teacher, witness, joined, gain, trial, trial_gain = measure(answers, fitted)
    frequency_C = answers.truth_NC.mean(axis=0)
    return Evidence(
        metric="map" if answers.is_multi else "accuracy",
        num_samples=len(answers),
        num_groups=answers.num_groups,
        teacher=teacher,
        witness=witness,
        nobody=float(frequency_C.mean() if answers.is_multi else frequency_C.max()),
        joined=joined,
        gain=gain,
        trial=None if answers.trial_NC is None else trial,
        trial_gain=None if answers.trial_NC is None else trial_gain,
        information=usable_information(answers, fitted),
        dependence=error_dependence(answers, fitted),
        expansion=error_expansion(answers, fitted),
        is_dense=answers.kind == LabelKind.DENSE,
    )


def _accuracy_measure(answers: SelectAnswers, fitted: FittedAnswers) -> tuple[Estimate, ...]:
    """Return the accuracy of teacher, witnesses and both, of the trial student, and both gains."""
    teacher_N = is_right(fitted.teacher_NC, answers)
    witness_N = np.mean([is_right(one, answers) for one in fitted.witness_FNC], axis=0)
    both_N = np.mean([is_right(one, answers) for one in fitted.both_FNC], axis=0)
    trial_N = is_right(_trial_logits(answers), answers)
    values = (teacher_N, witness_N, both_N, both_N - teacher_N, trial_N, trial_N - teacher_N)
    return tuple(_mean_of(one_N, answers.group_N) for one_N in values)


def _map_measure(answers: SelectAnswers, fitted: FittedAnswers) -> tuple[Estimate, ...]:
    """Return the same of the mean average precision."""
    resampled = ResampledMAP(answers.truth_NC, answers.group_N)

    def measured(logits_FNC: NDArray) -> tuple[float, NDArray]:
        values = [mean_average_precision(one, answers.truth_NC) for one in logits_FNC]
        value_R = np.mean([resampled.values(one) for one in logits_FNC], axis=0)
        return float(np.mean(values)), value_R

    # As it is: temperatures that differ between parts would mix the order of samples.
    teacher, trial = measured(answers.teacher_NC[None]), measured(_trial_logits(answers)[None])
    witness, both = measured(fitted.witness_FNC), measured(fitted.both_FNC)
    gain = both[0] - teacher[0], both[1] - teacher[1]
    trial_gain = trial[0] - teacher[0], trial[1] - teacher[1]
    values = (teacher, witness, both, gain, trial, trial_gain)
    return tuple(_with_quantiles(*one) for one in values)


def _trial_logits(answers: SelectAnswers) -> NDArray:
    """Return the answers of the trial student, those of the teacher where it has none [N, C]."""
    if answers.trial_NC is None:
        return answers.teacher_NC
    return np.where(np.isnan(answers.trial_NC), answers.teacher_NC, answers.trial_NC)


def _mean_of(value_N: NDArray, group_N: NDArray) -> Estimate:
    """Return the mean of values and its interval by group."""
    found = bootstrap_by_group(value_N, group_N)
    return Estimate(found.value, None if found.ends() is None else (found.low, found.high))


def _with_quantiles(value: float, value_R: NDArray) -> Estimate:
    """Return a value and its 95% interval."""
    low, high = np.quantile(value_R, [0.025, 0.975])
    return Estimate(value, (float(low), float(high)))


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as plain data."""
    return None if found is None else found.to_dict()
