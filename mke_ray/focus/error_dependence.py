"""Whether the witnesses are wrong where the teacher is."""

# N samples, C classes, F networks of folds, Q questions: samples, or every class of every sample.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mke_ray.focus.resampled import Estimate, resampled_ratio
from mke_ray.focus.select_answers import FittedAnswers, SelectAnswers


@dataclass(frozen=True, slots=True)
class ErrorDependence:
    """How the errors of teacher and witnesses go together, with 95% intervals.

    Args:
        correlation: Of being wrong, between -1 and 1; 0 where errors are independent, 1 where both
            are wrong on the same samples. None where one of them is never wrong.
        rescued: Share of what the teacher has wrong that the witnesses have right; None where the
            teacher is never wrong.
        kept: Share of what the teacher has right that the witnesses have right, too.

    Source:
        Kuncheva, Whitaker, Measures of Diversity in Classifier Ensembles and Their Relationship
        with the Ensemble Accuracy, Machine Learning 2003, equation 7.
    """

    correlation: Estimate | None
    rescued: Estimate | None
    kept: Estimate | None


def error_dependence(answers: SelectAnswers, fitted: FittedAnswers) -> ErrorDependence:
    """Return how the errors of teacher and witnesses go together.

    Args:
        answers: The answers.
        fitted: The same, cross-fitted.
    """
    teacher_N = is_right(fitted.teacher_NC, answers)
    witness_N = np.mean([is_right(one, answers) for one in fitted.witness_FNC], axis=0)
    both_N = teacher_N * witness_N
    if answers.is_multi:  # of every question; the mean of products is no product of means
        both_N = np.mean([_both_right(answers, fitted, one) for one in fitted.witness_FNC], axis=0)
    moments_3N = np.stack([teacher_N, witness_N, both_N])
    group_N = answers.group_N
    return ErrorDependence(
        resampled_ratio(_correlation, moments_3N, group_N),
        resampled_ratio(_rescued, moments_3N, group_N),
        resampled_ratio(_kept, moments_3N, group_N),
    )


def is_right(logits_NC: NDArray, answers: SelectAnswers) -> NDArray:
    """Return how much of each sample is answered right [N]: 0 or 1, of many classes the share."""
    if answers.is_multi:
        return ((logits_NC > 0) == answers.truth_NC).mean(axis=1)
    return (logits_NC.argmax(axis=1) == answers.truth_NC.argmax(axis=1)).astype(float)


def _both_right(answers: SelectAnswers, fitted: FittedAnswers, witness_NC: NDArray) -> NDArray:
    """Return the share of the classes of each sample that both answer right [N]."""
    truth_NC = answers.truth_NC
    return (((fitted.teacher_NC > 0) == truth_NC) & ((witness_NC > 0) == truth_NC)).mean(axis=1)


def _correlation(mean_3: NDArray) -> NDArray:
    """Return the correlation of two indicators from their means and that of their product."""
    teacher, witness, both = mean_3
    scale = teacher * (1 - teacher) * witness * (1 - witness)
    return np.where(
        scale > 0, (both - teacher * witness) / np.sqrt(np.maximum(scale, 1e-12)), np.nan
    )


def _rescued(mean_3: NDArray) -> NDArray:
    """Return the share of the teacher's errors that the witnesses have right."""
    teacher, witness, both = mean_3
    return np.where(teacher < 1, (witness - both) / np.maximum(1 - teacher, 1e-12), np.nan)


def _kept(mean_3: NDArray) -> NDArray:
    """Return the share of the teacher's right answers that the witnesses have right."""
    teacher, _, both = mean_3
    return np.where(teacher > 0, both / np.maximum(teacher, 1e-12), np.nan)
