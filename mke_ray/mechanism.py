"""Why a student can become better than its teacher: expansion, separation, and what noise averages.

Everything is measured on samples whose true class is known, in the space in which the input noise
of training acts, so that a radius of 1 is what noise of strength alpha = 1 does to a coordinate.
"""

# N samples, Q samples asked for, D coordinates, C classes, R radii.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

SUBSET_SHARES = (0.5, 0.25, 0.1)
THEOREM_FACTOR = 3.0  # the theorem says something above it

_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class ClassExpansion:
    """How far the neighbourhood of one class's wrong samples reaches.

    Args:
        true_class: The class.
        num_samples: Its samples.
        num_wrong: Those of them that the teacher has wrong.
        ratio_R: Rightly labelled samples of the class within a radius of a wrong one, per wrong
            one: P(N(V) minus V) / P(V) for V all wrong samples.
        subset_ratio_R: The same of random subsets of the wrong samples, the mean over them.
        factor_R: P(N(V)) / P(V) of the subset for which it is least, of all that were tried, with
            min(c P(V), 1) in mind: a subset that reaches the whole class counts as infinite. The
            true factor, over all subsets, is not above it.
    """

    true_class: int
    num_samples: int
    num_wrong: int
    ratio_R: np.ndarray
    subset_ratio_R: np.ndarray
    factor_R: np.ndarray

    @property
    def wrong_share(self) -> float:
        """Share of the class that the teacher has wrong."""
        return self.num_wrong / self.num_samples


@dataclass(frozen=True, slots=True)
class Denoising:
    """What became of a teacher's answers, as shares.

    Args:
        error: Share of all answers that are wrong now.
        corrected: Share of the wrong ones that are right now, None where none was wrong.
        corrupted: Share of the right ones that are wrong now, None where none was right.
    """

    error: float
    corrected: float | None
    corrupted: float | None


def noise_space(arrays: Mapping[str, np.ndarray], modalities: Sequence[str]) -> np.ndarray:
    """Return samples as points whose distances are strengths of input noise.

    Every modality is divided by its mean absolute value, the unit of ``objective.alpha``, and all
    coordinates by the root of their number: the distance of two points is the root mean square
    over the coordinates of what separates them.

    Args:
        arrays: Per modality the features [N, D].
        modalities: Modalities that make up the space.

    Returns:
        float64 [N, D] of all these modalities together.
    """
    parts = []
    for name in modalities:
        values_ND = np.asarray(arrays[name], dtype=np.float64).reshape(len(arrays[name]), -1)
        parts.append(values_ND / max(float(np.abs(values_ND).mean()), np.finfo(float).tiny))
    points_ND = np.concatenate(parts, axis=1)
    return points_ND / np.sqrt(points_ND.shape[1])


def class_expansions(
    points_ND: np.ndarray,
    truth_N: np.ndarray,
    said_N: np.ndarray,
    *,
    radii: Sequence[float],
    num_subsets: int = 10,
    seed: int = 0,
) -> list[ClassExpansion]:
    """Measure the expansion of the teacher's wrong samples, class by class.

    Subsets V of the wrong samples of a class are all of them, random ones of half, a quarter and a
    tenth of them, and as many that are the nearest to a random one (they reach least).

    Args:
        points_ND: Points of ``noise_space``.
        truth_N: True class of each sample.
        said_N: The teacher's class of each sample.
        radii: Distances, rising.
        num_subsets: Random subsets of every size and kind.
        seed: Seed of the subsets.

    Returns:
        One entry per class that has a wrong sample.

    Source:
        Wei, Shen, Chen, Ma, Theoretical Analysis of Self-Training with Deep Networks on Unlabeled
        Data, ICLR 2021, definition 3.1; Xue et al., Multimodal Knowledge Expansion, ICCV 2021.
    """
    radii_R, rng = np.asarray(radii, dtype=float), np.random.default_rng(seed)
    found = []
    for true_class in np.unique(truth_N):
        own = truth_N == true_class
        class_ND, wrong_N = points_ND[own], said_N[own] != true_class
        if wrong_N.any():
            reached = _reached_by_subsets(class_ND, wrong_N, radii_R, num_subsets, rng)
            found.append(
                ClassExpansion(int(true_class), len(class_ND), int(wrong_N.sum()), *reached)
            )
    return found


def crossings(points_ND: np.ndarray, truth_N: np.ndarray, *, radii: Sequence[float]) -> np.ndarray:
    """Return the share of samples that have a sample of another true class within each radius [R].

    It is 1 - separation: a perturbation of that size can make another class of the sample.

    Args:
        points_ND: Points of ``noise_space``.
        truth_N: True class of each sample.
        radii: Distances, rising.

    Source:
        Wei et al., ICLR 2021, assumption 3.3.
    """
    distance_N = np.full(len(points_ND), np.inf)
    for true_class in np.unique(truth_N):
        own = truth_N == true_class
        if not own.all():
            distance_N[own] = _distances(points_ND[own], points_ND[~own])
    return _shares_within(distance_N, np.asarray(radii, dtype=float))


def error_bound(
    expansions: Sequence[ClassExpansion], crossing_R: np.ndarray, *, num_samples: int
) -> np.ndarray:
    """Return the bound on a student's error by the theorem, at every radius [R].

    ``2 / (c - 1) Err(teacher) + 2 c / (c - 1) mu`` with ``c = min(1 / a, factor)``, where a is the
    largest share that the teacher has wrong of any class, and mu the share that crosses. NaN where
    c is not above 3: there the theorem promises nothing.

    Args:
        expansions: Of every class with wrong samples, at some radii.
        crossing_R: Share that crosses within half of these radii: neighbours are samples whose
            perturbations meet.
        num_samples: All samples, of whatever class.

    Source:
        Wei et al., ICLR 2021, theorem 4.3.
    """
    if not expansions:
        return 2.0 * np.asarray(crossing_R, dtype=float)  # c is infinite
    error = sum(one.num_wrong for one in expansions) / num_samples
    largest = max(one.wrong_share for one in expansions)
    factor_R = np.minimum(1.0 / largest, np.min([one.factor_R for one in expansions], axis=0))
    holds_R = factor_R > THEOREM_FACTOR
    factor_R = np.where(holds_R, factor_R, np.nan)
    return (2.0 * error + 2.0 * factor_R * crossing_R) / (factor_R - 1.0)


def noise_average(points_ND: np.ndarray, target_NC: np.ndarray, *, alpha: float) -> np.ndarray:
    """Return what the best possible student answers, trained on labels under input noise [N, C].

    Of all functions, cross-entropy to the labels under Gaussian noise is least for their average
    weighted by the density of the noise: a kernel regression whose bandwidth is alpha.

    Args:
        points_ND: Points of ``noise_space``.
        target_NC: The labels as probabilities, one-hot where they are hard.
        alpha: Strength of the noise; 0 returns the labels as they are.

    Source:
        Webb, Functional Approximation by Feed-Forward Networks: A Least-Squares Approach to
        Generalization, IEEE Transactions on Neural Networks 1994; Bishop, Training with Noise is
        Equivalent to Tikhonov Regularization, Neural Computation 1995.
    """
    target_NC = np.asarray(target_NC, dtype=float)
    if alpha == 0:
        return target_NC
    num, size = points_ND.shape
    squares_N = (points_ND**2).sum(axis=1)
    scale = size / (2.0 * alpha**2)  # the space divides by the root of its size
    averaged = []
    step = max(1, _CHUNK_CELLS // num)
    for first in range(0, num, step):
        asked_QD = points_ND[first : first + step]
        distance_QN = squares_N[first : first + step, None] + squares_N - 2 * asked_QD @ points_ND.T
        exponent_QN = -scale * np.maximum(distance_QN, 0.0)
        weight_QN = np.exp(exponent_QN - exponent_QN.max(axis=1, keepdims=True))
        averaged.append(weight_QN @ target_NC / weight_QN.sum(axis=1, keepdims=True))
    return np.concatenate(averaged)


def denoising(truth_N: np.ndarray, teacher_N: np.ndarray, student_N: np.ndarray) -> Denoising:
    """Return what a student made of the teacher's answers.

    Args:
        truth_N: True classes.
        teacher_N: The teacher's classes.
        student_N: The student's classes.
    """
    was_right_N, is_right_N = teacher_N == truth_N, student_N == truth_N
    return Denoising(
        float(1.0 - is_right_N.mean()),
        float(is_right_N[~was_right_N].mean()) if (~was_right_N).any() else None,
        float(1.0 - is_right_N[was_right_N].mean()) if was_right_N.any() else None,
    )


def _reached_by_subsets(
    class_ND: np.ndarray,
    wrong_N: np.ndarray,
    radii_R: np.ndarray,
    num_subsets: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ratio of all wrong samples, the mean one of random subsets, the least factor."""
    wrong = np.flatnonzero(wrong_N)
    right_ND = class_ND[~wrong_N]
    drawn = [
        rng.choice(wrong, size=size, replace=False)
        for size in _sizes(len(wrong))
        for _ in range(num_subsets)
    ]
    close = [_nearest_wrong(class_ND, wrong, size=len(one), rng=rng) for one in drawn]
    reached = [_reached(class_ND, right_ND, one, radii_R) for one in [wrong, *drawn, *close]]
    ratios = [right_R for right_R, _ in reached]
    of_subsets_R = np.mean(ratios[1 : 1 + len(drawn)] or ratios[:1], axis=0)
    return ratios[0], of_subsets_R, np.min([factor_R for _, factor_R in reached], axis=0)


def _sizes(num_wrong: int) -> list[int]:
    """Return the sizes of subsets, each once."""
    sizes = {max(1, round(share * num_wrong)) for share in SUBSET_SHARES}
    return sorted(sizes - {num_wrong}, reverse=True)


def _nearest_wrong(
    class_ND: np.ndarray, wrong: np.ndarray, *, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the wrong samples nearest to a random one of them."""
    distance_N = ((class_ND[wrong] - class_ND[rng.choice(wrong)]) ** 2).sum(axis=1)
    return wrong[np.argsort(distance_N, kind="stable")[:size]]


def _reached(
    class_ND: np.ndarray, right_ND: np.ndarray, subset: np.ndarray, radii_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return P(N(V) and right) / P(V) and P(N(V)) / P(V), infinite where N(V) is the class."""
    right_R = np.zeros(len(radii_R))
    if len(right_ND):
        right_R = _shares_within(_distances(right_ND, class_ND[subset]), radii_R) * len(right_ND)
    all_R = _shares_within(_distances(class_ND, class_ND[subset]), radii_R) * len(class_ND)
    factor_R = np.where(all_R >= len(class_ND), np.inf, all_R / len(subset))
    return right_R / len(subset), factor_R


def _distances(asked_QD: np.ndarray, points_ND: np.ndarray) -> np.ndarray:
    """Return the distance of each sample to the nearest of some points [Q]."""
    search = NearestNeighbors(n_neighbors=1).fit(points_ND)
    return search.kneighbors(asked_QD, return_distance=True)[0][:, 0]


def _shares_within(distance_N: np.ndarray, radii_R: np.ndarray) -> np.ndarray:
    """Return the share of distances that are within each radius [R]."""
    return np.searchsorted(np.sort(distance_N), radii_R, side="right") / len(distance_N)
