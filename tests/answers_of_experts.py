"""Answers of a teacher and a witness whose knowledge is known, for tests of the pre-flight."""

# N samples, C classes.

import numpy as np

from mke_ray.focus.select_answers import SelectAnswers
from mke_ray.schema import LabelKind

NUM_CLASSES = 5


def answers(
    *,
    num: int = 600,
    teacher: float = 1.5,
    witness: float = 1.5,
    shared: float = 0.0,
    num_groups: int | None = None,
    seed: int = 0,
) -> SelectAnswers:
    """Return answers about samples of one class.

    Args:
        num: Number of samples.
        teacher: How far the true class sticks out of the teacher's noise.
        witness: The same of the witness.
        shared: Share of the variance of the noise that is the same for both.
        num_groups: Groups of equal size; None makes each sample a group.
        seed: Seed.
    """
    rng = np.random.default_rng(seed)
    truth_N = rng.integers(NUM_CLASSES, size=num)
    truth_NC = np.eye(NUM_CLASSES)[truth_N]
    same_NC = np.sqrt(shared) * rng.normal(size=truth_NC.shape)

    def said(strength: float) -> np.ndarray:
        own_NC = np.sqrt(1.0 - shared) * rng.normal(size=truth_NC.shape)
        return strength * truth_NC + own_NC + same_NC

    teacher_NC, witness_NC = said(teacher), said(witness)
    return SelectAnswers(
        truth_NC.astype(bool),
        3.0 * teacher_NC,  # too sure, so that a temperature has to be found
        np.stack([witness_NC, witness_NC])[:, None],
        np.arange(num) % (num_groups or num),
        np.full(NUM_CLASSES, 1.0 / NUM_CLASSES),
    )


def many_classes(*, num: int = 400, witness: float = 2.0, seed: int = 0) -> SelectAnswers:
    """Return answers about samples that may have several classes."""
    rng = np.random.default_rng(seed)
    truth_NC = rng.random((num, NUM_CLASSES)) < 0.3
    sign_NC = np.where(truth_NC, 1.0, -1.0)
    teacher_NC, witness_NC = (
        strength * sign_NC + rng.normal(size=sign_NC.shape) * 1.5 for strength in (1.0, witness)
    )
    return SelectAnswers(
        truth_NC,
        teacher_NC,
        witness_NC[None, None],
        np.arange(num),
        np.full(NUM_CLASSES, 0.3),
        str(LabelKind.MULTI),
    )
