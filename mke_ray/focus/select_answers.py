"""What teacher and witnesses say of labelled samples, and how their answers join, cross-fitted."""

# N samples, C classes, F networks of folds, M witnesses.

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from mke_ray.labels.posterior import Posterior, calibrated, fit_exponents
from mke_ray.schema import LabelKind

MOST_PARTS = 5
_SMOOTHING = 1.0  # samples of every class that are taken to be there


@dataclass(frozen=True, slots=True, eq=False)
class SelectAnswers:
    """Answers about samples whose true classes are known; of dense labels a sample is a pixel.

    Args:
        truth_NC: Whether each sample is of each class [N, C].
        teacher_NC: Logits of the teacher [N, C].
        witness_FMNC: Logits of the network of every fold of every witness [F, M, N, C], NaN where
            one saw nothing.
        group_N: Group of each sample [N]; samples of one group are not independent.
        prior_C: Probability of each class by the teacher, the mean over unlabeled samples [C].
        kind: ``single``, ``multi`` or ``dense``.
        trial_NC: Logits of a trial student, NaN where it saw nothing; None where there is none.
    """

    truth_NC: NDArray
    teacher_NC: NDArray
    witness_FMNC: NDArray
    group_N: NDArray
    prior_C: NDArray
    kind: str = LabelKind.SINGLE
    trial_NC: NDArray | None = None

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.truth_NC)

    @property
    def is_multi(self) -> bool:
        """Whether a sample may have several classes."""
        return self.kind == LabelKind.MULTI

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return len(np.unique(self.group_N))

    @property
    def start(self) -> Posterior:
        """The posterior before anything is fitted."""
        num_witnesses = self.witness_FMNC.shape[1]
        return Posterior(1.0, 1.0, (1.0,) * num_witnesses, tuple(self.prior_C), str(self.kind))

    def some(self, rows: NDArray) -> "SelectAnswers":
        """Return the answers about some samples."""
        return replace(
            self,
            truth_NC=self.truth_NC[rows],
            teacher_NC=self.teacher_NC[rows],
            witness_FMNC=self.witness_FMNC[:, :, rows],
            group_N=self.group_N[rows],
            trial_NC=None if self.trial_NC is None else self.trial_NC[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class FittedAnswers:
    """Answers as logits whose temperature and exponents were fitted on other groups.

    Args:
        nobody_NC: Of whoever knows only how frequent classes are [N, C].
        teacher_NC: Of the teacher [N, C].
        witness_FNC: Of all witnesses together, without the teacher, by the network of each fold
            [F, N, C].
        both_FNC: Of the teacher and all witnesses together [F, N, C].
    """

    nobody_NC: NDArray
    teacher_NC: NDArray
    witness_FNC: NDArray
    both_FNC: NDArray


def cross_fitted(answers: SelectAnswers) -> FittedAnswers:
    """Return every sample's answers, fitted on the samples of other groups.

    Args:
        answers: The answers, of at least two groups.
    """
    teacher_NC = np.zeros(answers.teacher_NC.shape)
    nobody_NC = np.zeros_like(teacher_NC)
    witness_FNC = np.zeros((len(answers.witness_FMNC), *teacher_NC.shape))
    both_FNC = np.zeros_like(witness_FNC)
    for others, own in _parts(answers):
        fitted = _fitted(answers.some(others), answers.some(own))
        nobody_NC[own], teacher_NC[own] = fitted.nobody_NC, fitted.teacher_NC
        witness_FNC[:, own], both_FNC[:, own] = fitted.witness_FNC, fitted.both_FNC
    return FittedAnswers(nobody_NC, teacher_NC, witness_FNC, both_FNC)


def _parts(answers: SelectAnswers) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield the rows to fit on and those of other groups to answer, every row once."""
    division = GroupKFold(min(MOST_PARTS, answers.num_groups))
    return division.split(answers.truth_NC, groups=answers.group_N)


def _fitted(others: SelectAnswers, own: SelectAnswers) -> FittedAnswers:
    """Return the answers about some samples by what was fitted on others."""
    start = calibrated(others.start, others.teacher_NC, others.truth_NC)
    joined = fit_exponents(start, others.teacher_NC, others.witness_FMNC, others.truth_NC)
    base_C = _frequency_logits(others)
    flat = replace(others.start, prior=tuple(_probability(base_C, is_multi=others.is_multi)))
    alone = fit_exponents(
        flat,
        np.broadcast_to(base_C, others.teacher_NC.shape),
        others.witness_FMNC,
        others.truth_NC,
        teacher_exponents=(1.0,),
    )
    nobody_NC = np.broadcast_to(base_C, own.teacher_NC.shape)
    nobody = own.witness_FMNC[0][:0]
    teacher = replace(start, witnesses=())
    return FittedAnswers(
        nobody_NC,
        teacher.logits(own.teacher_NC, nobody),
        np.stack([alone.logits(nobody_NC, one) for one in own.witness_FMNC]),
        np.stack([joined.logits(own.teacher_NC, one) for one in own.witness_FMNC]),
    )


def _frequency_logits(answers: SelectAnswers) -> NDArray:
    """Return the logits of the frequencies of classes, a few samples of each taken for granted."""
    count_C = answers.truth_NC.sum(axis=0) + _SMOOTHING
    if answers.is_multi:
        share_C = count_C / (len(answers) + 2 * _SMOOTHING)
        return np.log(share_C / (1.0 - share_C))
    return np.log(count_C / count_C.sum())


def _probability(logits_C: NDArray, *, is_multi: bool) -> NDArray:
    """Return the probabilities that logits stand for."""
    return 1.0 / (1.0 + np.exp(-logits_C)) if is_multi else np.exp(logits_C)
