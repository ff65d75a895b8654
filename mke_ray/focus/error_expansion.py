"""Whom the teacher's wrong samples have as neighbours, in what it sees and in what others see."""

# N samples, C classes, F networks of folds, D coordinates, K neighbours, W wrong samples.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.neighbors import NearestNeighbors

from mke_ray.focus.resampled import Estimate, resampled_ratio
from mke_ray.focus.select_answers import FittedAnswers, SelectAnswers

NUM_NEIGHBOURS = 10
MOST_SAMPLES = 5000
LEAST_WRONG = 10

_SEED = 0


@dataclass(frozen=True, slots=True)
class ErrorExpansion:
    """Neighbours of the samples that the teacher has wrong, with 95% intervals.

    An error is corrected where its neighbours are of its class and rightly labelled; it is
    confirmed where they carry the same wrong label.

    Args:
        teacher: Share of the neighbours that are of the sample's class and rightly labelled, in
            what the teacher says.
        witness: The same in what the witnesses say.
        teacher_confirms: Share of the neighbours that carry the sample's wrong label, in what the
            teacher says.
        witness_confirms: The same in what the witnesses say.

    Source:
        Wei, Shen, Chen, Ma, Theoretical Analysis of Self-Training with Deep Networks on Unlabeled
        Data, ICLR 2021, definition 3.1: errors whose neighbourhoods hold enough of the rest of
        their class are corrected. Neighbours are the nearest other samples, in place of those that
        a perturbation reaches.
    """

    teacher: Estimate
    witness: Estimate
    teacher_confirms: Estimate
    witness_confirms: Estimate


def error_expansion(answers: SelectAnswers, fitted: FittedAnswers) -> ErrorExpansion | None:
    """Return whom the samples that the teacher has wrong have as neighbours.

    Neighbours are of other groups, and the nearest in the log-probabilities of who looks.

    Args:
        answers: The answers.
        fitted: The same, cross-fitted.

    Returns:
        None where samples have many classes, or fewer than ten are wrong.
    """
    if answers.is_multi:
        return None
    rows = _some_rows(len(answers))
    some, truth_N = answers.some(rows), answers.truth_NC[rows].argmax(axis=1)
    said_N = fitted.teacher_NC[rows].argmax(axis=1)
    if (said_N != truth_N).sum() < LEAST_WRONG or some.num_groups < 2:
        return None
    spaces = [_space(fitted.teacher_NC[rows][None]), _space(fitted.witness_FNC[:, rows])]
    found = [_neighbours(one, some.group_N, truth_N=truth_N, said_N=said_N) for one in spaces]
    estimates = [
        resampled_ratio(_as_it_is, share_W[None], some.group_N[said_N != truth_N])
        for shares in zip(*found, strict=True)
        for share_W in shares
    ]
    return ErrorExpansion(*(one or Estimate(0.0) for one in estimates))


def _neighbours(
    space_ND: NDArray, group_N: NDArray, *, truth_N: NDArray, said_N: NDArray
) -> tuple[NDArray, NDArray]:
    """Return per wrong sample the share of its neighbours that correct it, and that confirm it.

    Args:
        space_ND: Where samples are.
        group_N: Group of each sample.
        truth_N: Its true class.
        said_N: The teacher's class of it.
    """
    wrong = np.flatnonzero(said_N != truth_N)
    _, index_N = np.unique(group_N, return_inverse=True)
    largest = int(np.bincount(index_N).max())
    num_asked = min(len(space_ND), NUM_NEIGHBOURS + largest)
    search = NearestNeighbors(n_neighbors=num_asked).fit(space_ND)
    near_WK = search.kneighbors(space_ND[wrong], return_distance=False)
    is_other_WK = index_N[near_WK] != index_N[wrong][:, None]
    counts_WK = is_other_WK & (np.cumsum(is_other_WK, axis=1) <= NUM_NEIGHBOURS)
    num_W = np.maximum(counts_WK.sum(axis=1), 1)
    is_right_WK = (truth_N[near_WK] == truth_N[wrong][:, None]) & (
        said_N[near_WK] == truth_N[near_WK]
    )
    is_same_WK = said_N[near_WK] == said_N[wrong][:, None]
    return (
        (is_right_WK & counts_WK).sum(axis=1) / num_W,
        (is_same_WK & counts_WK).sum(axis=1) / num_W,
    )


def _space(logits_FNC: NDArray) -> NDArray:
    """Return samples as points: their log-probabilities, the mean over networks [N, D]."""
    return np.mean([log_softmax(one, axis=1) for one in logits_FNC], axis=0)


def _some_rows(num: int) -> NDArray:
    """Return all rows, or so many drawn ones that neighbours are soon found."""
    if num <= MOST_SAMPLES:
        return np.arange(num)
    return np.sort(np.random.default_rng(_SEED).choice(num, MOST_SAMPLES, replace=False))


def _as_it_is(mean_1: NDArray) -> NDArray:
    """Return the means themselves."""
    return mean_1[0]
