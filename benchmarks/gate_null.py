"""Students that are exactly as good as their teachers: how often the gate promotes them."""

# N samples, G groups, T trials.

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from gate_runs import ARMS, CHEAP, RunScores, compared, composed
from gate_tables import mixture
from gate_verdicts import chosen_rows, gate_scores, share

from mke_ray.evaluation.results import PartScores as MeasuredPart
from mke_ray.gate import GateRules, GateScores, judge
from mke_ray.metrics import bootstrap_by_group, lower_bound_by_group

CONFIDENCE = GateRules().confidence
LEAST_OF_GROUP = 10
NUM_GROUPS = (5, 7, 10, 15, 20, 50)


def exchanged(runs: Sequence[RunScores], size: int, *, num_trials: int) -> Iterator[bool]:
    """Yield whether an arm is promoted after it changed places with its teacher in half the groups.

    Args:
        runs: Runs; each arm of each gets the same number of trials.
        size: Gate samples.
        num_trials: Trials of each arm.
    """
    for number, run in enumerate(runs):
        for arm in ARMS:
            for trial in range(num_trials):
                rng = np.random.default_rng([number, ARMS.index(arm), trial])
                rows = chosen_rows(run.gate.group_N, size, seed=trial)
                yield judge(_exchanged(gate_scores(run.gate, arm, rows), rng), GateRules()).promoted


def _exchanged(scores: GateScores, rng: np.random.Generator) -> GateScores:
    """Return scores with teacher and student exchanged in some of the groups."""
    names, index_N = np.unique(scores.group_N, return_inverse=True)
    is_exchanged_N = (rng.random(len(names)) < 0.5)[index_N]
    pair = scores.teacher_N, scores.student_N
    return GateScores(
        scores.sample_id_N,
        scores.group_N,
        np.where(is_exchanged_N, pair[1], pair[0]),
        np.where(is_exchanged_N, pair[0], pair[1]),
    )


def centred_groups(runs: Sequence[RunScores], arm: str) -> list[np.ndarray]:
    """Return the differences to the teacher of the large groups of gate and test, less their mean.

    Of these groups the arm is exactly as good as its teacher, with a real spread between groups.
    """
    groups = []
    for run in runs:
        for part in (run.gate, run.test):
            diff_N = part.arms[arm].astype(float) - part.teacher_N
            each = (diff_N[part.group_N == name] for name in np.unique(part.group_N))
            groups += [one for one in each if len(one) >= LEAST_OF_GROUP]
    mean = np.concatenate(groups).mean()
    return [one - mean for one in groups]


def of_few_groups(
    groups: Sequence[np.ndarray], num_groups: int, *, num_trials: int
) -> tuple[list[bool], list[bool]]:
    """Return whether a gate of some of the groups promotes, and whether percentiles alone would.

    Args:
        groups: Differences by group, of mean zero over all.
        num_groups: Groups of each gate, drawn with replacement.
        num_trials: Number of gates.
    """
    rng, promoted, by_percentile = np.random.default_rng(num_groups), [], []
    for _ in range(num_trials):
        drawn = [groups[one] for one in rng.integers(len(groups), size=num_groups)]
        passed = passes(drawn)
        promoted.append(passed[0])
        by_percentile.append(passed[1])
    return promoted, by_percentile


def passes(groups: Sequence[np.ndarray]) -> tuple[bool, bool]:
    """Return whether the gate promotes on these differences by group, and percentiles alone do."""
    diff_N = np.concatenate(groups)
    group_N = np.repeat(np.arange(len(groups)), [len(one) for one in groups])
    bound = lower_bound_by_group(diff_N, group_N, confidence=CONFIDENCE)
    percentile = bootstrap_by_group(diff_N, group_N, confidence=2 * CONFIDENCE - 1).low
    return bound > 0, percentile > 0


MADE = {
    "5 of 40": [40] * 5,
    "10 of 20": [20] * 10,
    "20 of 10": [10] * 20,
    "40 of 5": [5] * 40,
    "200 of 1": [1] * 200,
    "120, 4 of 20": [120, *[20] * 4],
    "100, 60, 4 of 10": [100, 60, *[10] * 4],
    "90, 11 of 10": [90, *[10] * 11],
    "60, 60, 20 of 4": [60, 60, *[4] * 20],
}


def rows_of_made(*, num_trials: int) -> list[list[str]]:
    """Return a row for each kind of groups: of equal and unequal sizes, alike and with outliers.

    Alike: the true difference of a group is normal with deviation 0.15. With outliers: one group in
    ten loses 40 points, and the others gain 4.4, so that the mean is zero.

    Args:
        num_trials: Gates of each kind.
    """
    rows = []
    for name, sizes in MADE.items():
        cells = [name]
        for has_outliers in (False, True):
            rng = np.random.default_rng(len(sizes))
            found = [
                passes(_made_groups(sizes, rng, has_outliers=has_outliers))
                for _ in range(num_trials)
            ]
            cells += [share(one for one, _ in found), share(one for _, one in found)]
        rows.append(cells)
    return rows


def _made_groups(
    sizes: Sequence[int], rng: np.random.Generator, *, has_outliers: bool
) -> list[np.ndarray]:
    """Return differences of -1, 0 and 1 by group; on average student and teacher are equal."""
    if has_outliers:
        mean_G = np.where(rng.random(len(sizes)) < 0.1, -0.4, 0.4 / 9)
    else:
        mean_G = np.clip(rng.normal(0.0, 0.15, len(sizes)), -0.5, 0.5)
    groups = []
    for mean, size in zip(mean_G, sizes, strict=True):
        differs = max(0.2, abs(mean))
        chances = [(differs - mean) / 2, 1 - differs, (differs + mean) / 2]
        groups.append(rng.choice([-1.0, 0.0, 1.0], size, p=chances))
    return groups


def rows_of_few(runs: Sequence[RunScores], *, num_trials: int) -> list[list[str]]:
    """Return a row for each number of groups, over all arms.

    Args:
        runs: Runs of one setting.
        num_trials: Trials of each arm and number.
    """
    rows = []
    for number in NUM_GROUPS:
        found = [
            of_few_groups(centred_groups(runs, arm), number, num_trials=num_trials) for arm in ARMS
        ]
        both = [share(chain.from_iterable(one[place] for one in found)) for place in (0, 1)]
        rows.append([str(number), *both])
    return rows


def other_seeds(
    draw: int, *, root: str, arm: str = "mke", num_seeds: int = 6, num_gates: int = 10
) -> Iterator[tuple[bool, bool]]:
    """Yield, of networks that differ in their seed alone, whether one is promoted over another.

    A gate sees 200 of the test samples, in whole groups; all of them tell which is better.

    Args:
        draw: Seed of the data.
        root: Folder for the run.
        arm: What is trained.
        num_seeds: Networks; of every ordered pair one is the teacher.
        num_gates: Gates of each pair.

    Yields:
        Whether it was promoted, and whether it is not better on the test set.
    """
    Path(root).mkdir(parents=True, exist_ok=True)
    keys = mixture(draw).write(Path(root) / "table.parquet")
    seeds = list(range(num_seeds))
    more = (f"arms=[{arm}]", "objective=mke", f"model_seeds={seeds}")
    cheap = tuple(key for key in CHEAP if not key.startswith(("arms=", "objective=", "expansion.")))
    evaluation = compared(composed(*keys, *cheap, *more, f"seed={draw}", f"root={root}/run"))
    test, columns = evaluation.test, evaluation.columns[arm]
    pairs = [(one, other) for one in columns for other in columns if one != other]
    for number, pair in enumerate(pairs * num_gates):
        yield _compared_pair(test, *pair, seed=draw * len(pairs) * num_gates + number)


def _compared_pair(
    test: MeasuredPart, teacher: str, student: str, *, seed: int
) -> tuple[bool, bool]:
    """Return whether the second network is promoted over the first, and whether it is no better."""
    group_N = np.asarray(test.group_N, dtype=str)
    rows = chosen_rows(group_N, 200, seed=seed)
    shown = GateScores(rows, group_N[rows], test.scores[teacher][rows], test.scores[student][rows])
    diff_N = test.scores[student].astype(float) - test.scores[teacher]
    return judge(shown, GateRules()).promoted, bool(diff_N.mean() <= 0)
