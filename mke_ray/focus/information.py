"""How much teacher and witnesses know of the true class, and how much of it both know."""

# N samples, C classes, F networks of folds, R resamples.

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mke_ray.focus.resampled import Estimate, resampled_ratio
from mke_ray.focus.select_answers import FittedAnswers, SelectAnswers
from mke_ray.metrics import sample_log_likelihood


@dataclass(frozen=True, slots=True)
class Information:
    """Usable information about the true class in bits per sample (and class, of many classes).

    It is what their answers make the true classes likelier than the frequencies of the classes
    alone do, so never more than there is: another network might make use of more.

    Args:
        teacher: Known to the teacher alone.
        witness: Known to the witnesses of the other modalities together.
        both: Known to all of them together.
        entropy: All there is to know.
        gamma: Share of what both know together that each of them knows, with its 95% interval.

    Source:
        Xu, Zhao, Song, Stewart, Ermon, A Theory of Usable Information Under Computational
        Constraints, ICLR 2020; what is shared is the co-information (McGill, Multivariate
        Information Transmission, 1954), which is redundancy minus synergy (Williams, Beer,
        Nonnegative Decomposition of Multivariate Information, 2010) and bounds it from below.
        Gamma stands for the share of modality-general among all decisive features: Xue et al., The
        Modality Focusing Hypothesis, ICLR 2023.
    """

    teacher: float
    witness: float
    both: float
    entropy: float
    gamma: Estimate | None

    @property
    def shared(self) -> float:
        """What each of them knows, in bits."""
        return max(0.0, self.teacher + self.witness - self.both)

    @property
    def teacher_only(self) -> float:
        """What only the teacher knows, in bits."""
        return self.teacher - self.shared

    @property
    def witness_only(self) -> float:
        """What only the witnesses know, in bits."""
        return self.witness - self.shared

    @property
    def together_only(self) -> float:
        """What neither of them knows alone, in bits."""
        return max(0.0, self.both - self.teacher - self.witness)


def usable_information(answers: SelectAnswers, fitted: FittedAnswers) -> Information:
    """Return how much is known of the true classes of samples.

    Args:
        answers: The answers.
        fitted: The same, cross-fitted.
    """
    nobody_N = _log2(fitted.nobody_NC, answers)
    teacher_N = _log2(fitted.teacher_NC, answers) - nobody_N
    witness_N = _mean_log2(fitted.witness_FNC, answers) - nobody_N
    both_N = _mean_log2(fitted.both_FNC, answers) - nobody_N
    teacher, witness = (max(0.0, float(one.mean())) for one in (teacher_N, witness_N))
    both = max(teacher, witness, float(both_N.mean()))
    return Information(
        teacher,
        witness,
        both,
        float(-nobody_N.mean()),
        _gamma(np.stack([teacher_N, witness_N, both_N]), answers.group_N),
    )


def _gamma(known_3N: NDArray, group_N: NDArray) -> Estimate | None:
    """Return the share of what is known that both know, None where nothing is."""

    def share(mean_3: NDArray) -> NDArray:
        teacher, witness = (np.maximum(one, 0.0) for one in mean_3[:2])
        both = np.maximum(np.maximum(teacher, witness), mean_3[2])
        shared = np.maximum(0.0, teacher + witness - both)
        return np.where(both > 0, shared / np.where(both > 0, both, 1.0), np.nan)

    return resampled_ratio(share, known_3N, group_N)


def _log2(logits_NC: NDArray, answers: SelectAnswers) -> NDArray:
    """Return the log-probability of each sample's true classes in bits [N]."""
    truth = answers.truth_NC if answers.is_multi else answers.truth_NC.argmax(axis=1)
    return sample_log_likelihood(logits_NC, truth) / math.log(2.0)


def _mean_log2(logits_FNC: NDArray, answers: SelectAnswers) -> NDArray:
    """Return the same, the mean over networks [N]."""
    return np.mean([_log2(one, answers) for one in logits_FNC], axis=0)
