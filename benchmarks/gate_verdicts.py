"""What the gate says of every arm of every run, against the truth of the test set."""

# N samples, V verdicts.

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from gate_runs import ARMS, PartScores, RunScores
from scipy.stats import beta

from mke_ray.gate import GateDecision, GateRules, GateScores, judge
from mke_ray.metrics import Interval, bootstrap_by_group

SIZES = (50, 100, 200, 400)
FEW_GROUPS = 20
LEAST_GAIN = 0.02
BINS = (-1.0, -0.02, 0.0, 0.02, 0.05, 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """One arm of one run in front of the gate.

    Args:
        setting: Name of the setting.
        arm: The arm.
        size: Gate samples asked for.
        gain: Gain over the teacher on the test set.
        is_clearly_bad: Whether the 95% interval of that gain lies below zero.
        decision: What the gate says.
    """

    setting: str
    arm: str
    size: int
    gain: float
    is_clearly_bad: bool
    decision: GateDecision

    @property
    def is_bad(self) -> bool:
        """Whether the arm gains nothing."""
        return self.gain <= 0


def judged(run: RunScores, size: int) -> list[Judged]:
    """Return what the gate says of every arm on some of the gate samples."""
    rows = chosen_rows(run.gate.group_N, size, seed=run.draw)
    return [
        _judged(
            run,
            arm,
            size,
            _test_gain(run.test, arm),
            judge(gate_scores(run.gate, arm, rows), GateRules()),
        )
        for arm in ARMS
    ]


def judged_again(run: RunScores, size: int, *, num_gates: int) -> list[Judged]:
    """Return what gates of some test samples say of every arm; all test samples are the truth.

    Args:
        run: The run.
        size: Samples of a gate, whole groups.
        num_gates: Gates of each arm.
    """
    found, test = [], run.test
    truth = {arm: _test_gain(test, arm) for arm in ARMS}
    for number in range(num_gates):
        rows = chosen_rows(test.group_N, size, seed=1000 * run.draw + number)
        for arm in ARMS:
            decision = judge(gate_scores(test, arm, rows), GateRules())
            found.append(_judged(run, arm, size, truth[arm], decision))
    return found


def _test_gain(test: PartScores, arm: str) -> Interval:
    """Return the gain of an arm on the test set with its 95% interval."""
    return bootstrap_by_group(test.arms[arm].astype(float) - test.teacher_N, test.group_N)


def _judged(run: RunScores, arm: str, size: int, truth: Interval, decision: GateDecision) -> Judged:
    return Judged(run.setting, arm, size, truth.value, truth.high < 0, decision)


def gate_scores(part: PartScores, arm: str, rows: np.ndarray) -> GateScores:
    """Return what the gate is shown of an arm.

    Args:
        part: Scores on the gate part.
        arm: The arm.
        rows: The gate samples to look at.
    """
    return GateScores(
        sample_id_N=rows,
        group_N=part.group_N[rows],
        teacher_N=part.teacher_N[rows].astype(float),
        student_N=part.arms[arm][rows].astype(float),
    )


def chosen_rows(group_N: np.ndarray, size: int, *, seed: int) -> np.ndarray:
    """Return the places of some samples: whole groups, or of few groups some samples of each.

    Args:
        group_N: Group of each sample.
        size: Number of samples; all of them where there are not so many. The last group is whole.
        seed: Seed of the choice.
    """
    rng = np.random.default_rng([seed, size])
    names = rng.permutation(np.unique(group_N))
    if len(names) < FEW_GROUPS:
        return np.sort(rng.permutation(len(group_N))[:size])
    number_of = {name: int((group_N == name).sum()) for name in names}
    before_G = np.cumsum([number_of[name] for name in names]) - [number_of[one] for one in names]
    return np.flatnonzero(np.isin(group_N, names[before_G < size]))


def share(flags: Iterable[bool]) -> str:
    """Return a share with its exact 95% interval, and of how many."""
    flag_V = np.array(list(flags), dtype=bool)
    number, hits = len(flag_V), int(flag_V.sum())
    if number == 0:
        return "-"
    low = float(beta.ppf(0.025, hits, number - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, number - hits)) if hits < number else 1.0
    return f"{hits / number:.1%} ({low:.0%} to {high:.0%}) of {number}"


HEADER = (
    "verdicts",
    "bad",
    "promoted of the bad",
    "promoted of the clearly bad",
    "promoted of gains of 2 points and more",
    "unverified",
)


def cells_of(found: Sequence[Judged]) -> list[str]:
    """Return the cells of one row."""
    promoted = [one.decision.promoted for one in found]
    both = list(zip(found, promoted, strict=True))
    bad = [flag for one, flag in both if one.is_bad]
    return [
        str(len(found)),
        f"{len(bad)} ({len(bad) / max(1, len(found)):.0%})",
        share(bad),
        share(flag for one, flag in both if one.is_clearly_bad),
        share(flag for one, flag in both if one.gain >= LEAST_GAIN),
        str(sum(one.decision.verdict == "unverified" for one in found)),
    ]


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"\n{title}\n", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def grouped_rows(
    found: Sequence[Judged], key: Callable[[Judged], str], names: Sequence[str]
) -> list[list[str]]:
    """Return a row for every name that some of the verdicts have."""
    of_name = {name: [one for one in found if key(one) == name] for name in names}
    return [[name, *cells_of(some)] for name, some in of_name.items() if some]


def rows_by_gain(found: Sequence[Judged]) -> list[list[str]]:
    """Return how many arms are promoted by how much they gain on the test set."""
    rows = []
    for low, high in pairwise(BINS):
        some = [one for one in found if low < one.gain <= high]
        said = f"{100 * low:+.0f} to {100 * high:+.0f} points"
        rows.append([said, share(one.decision.promoted for one in some)])
    return rows
