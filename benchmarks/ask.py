"""How many labels settle a verdict: asked for by jobs/ask.py, against drawn without strata.

    python benchmarks/ask.py --seeds 8

A teacher of one modality and a student of two are trained on drawn data (linear ones of
scikit-learn). The strata come from a student that has seen every unlabeled sample. What is judged
is a student trained anew, on every sample without it (cross-fitted), as after ``probe.more``. Both
ways start from the same probe, and the real gate decides. Printed: labels until four of five draws
are promoted, and how often the bound lies above the true mean, where 5% may.
"""

# N unlabeled samples.

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold

from mke_ray.ask.drawing import Group, draw_groups
from mke_ray.gate import GateRules, GateScores, judge, sampling_of
from mke_ray.labels.asked import AskedSample, AskRecord

NUM_POOL, NUM_LABELLED, NUM_PROBE, SPREAD = 2000, 45, 50, 1.3
GRID = (20, 40, 80, 150, 280, 500)
POWER = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Who is right on every unlabeled sample of one draw of the data.

    Args:
        teacher_N: Whether the teacher is right.
        student_N: Whether a student is right that was trained without the sample.
        differs_N: Whether the student that has seen all of them disagrees with the teacher.
    """

    teacher_N: np.ndarray
    student_N: np.ndarray
    differs_N: np.ndarray

    @property
    def gain(self) -> float:
        """The true gain."""
        return float(self.student_N.mean() - self.teacher_N.mean())

    @property
    def changed(self) -> float:
        """Share of the samples on which both agreed that differ in being right after all."""
        return float((self.student_N != self.teacher_N)[~self.differs_N].mean())


def make_world(seed: int, *, num_folds: int = 4) -> World:
    """Draw data, train a teacher, a student of everything, and cross-fitted ones."""
    rng = np.random.default_rng(seed)
    centres = SPREAD * np.array([[0, 1], [1, -0.6], [-1, -0.6]])
    truth_N = rng.integers(len(centres), size=NUM_LABELLED + NUM_POOL)
    seen = [centres[truth_N] + rng.normal(size=(len(truth_N), 2)) for _ in range(2)]
    first, rest = slice(0, NUM_LABELLED), slice(NUM_LABELLED, None)
    teacher = LogisticRegression().fit(seen[0][first], truth_N[first])
    said_N, both_NX = teacher.predict(seen[0][rest]), np.hstack(seen)[rest]
    student_N = np.zeros(NUM_POOL, int)
    for others, own in KFold(num_folds, shuffle=True, random_state=seed).split(both_NX):
        student_N[own] = _student(both_NX[others], said_N[others], rng).predict(both_NX[own])
    old_N = _student(both_NX, said_N, rng).predict(both_NX)
    return World(said_N == truth_N[rest], student_N == truth_N[rest], old_N != said_N)


def _student(x_NX: np.ndarray, said_N: np.ndarray, rng: np.random.Generator) -> LogisticRegression:
    """Return a student of both modalities, held so short that it cannot repeat its teacher.

    It learns from some of the samples, so that one that is trained anew answers differently.
    """
    some = rng.choice(len(said_N), 150, replace=False)
    return LogisticRegression(C=0.02).fit(x_NX[some], said_N[some])


def asked(world: World, num: int, seed: int) -> tuple[np.ndarray, AskRecord]:
    """Return the rows that jobs/ask.py would ask for, and the record of the draw."""
    groups = [Group(str(row), 1, bool(one)) for row, one in enumerate(world.differs_N)]
    draw = draw_groups(groups, num, seed=seed)
    samples = tuple(
        AskedSample(f"q-{name}", int(name), name, None, None, name, stratum)
        for stratum, names in draw.groups.items()
        for name in names
    )
    record = AskRecord("q", "settle", "fit", seed, draw.worth, draw.shares, samples)
    return np.array([one.sample_id for one in samples]), record


def at_random(world: World, num: int, seed: int) -> tuple[np.ndarray, None]:
    """Return rows drawn without strata."""
    return np.random.default_rng([seed, 1]).choice(NUM_POOL, num, replace=False), None


Choose = Callable[[World, int, int], tuple[np.ndarray, AskRecord | None]]


def verdicts(world: World, choose: Choose, num: int, *, num_draws: int) -> tuple[float, float]:
    """Return the share of draws that are promoted, and that whose bound is above the truth."""
    promoted = wrong = 0
    for seed in range(num_draws):
        probe = np.random.default_rng([seed, 0]).choice(NUM_POOL, NUM_PROBE, replace=False)
        more, record = choose(world, num, seed)
        row_N = np.concatenate([probe, more]) if num else probe
        id_N = np.concatenate([-1 - probe, more]) if num else -1 - probe
        scores = GateScores(
            sample_id_N=id_N,
            group_N=id_N,
            teacher_N=world.teacher_N[row_N],
            student_N=world.student_N[row_N],
            sampling=None if record is None else sampling_of(id_N, [record]),
        )
        decision = judge(scores, GateRules())
        promoted += decision.promoted
        wrong += (decision.lower_bound or 0.0) > world.gain
    return promoted / num_draws, wrong / num_draws


def labels_needed(world: World, choose: Choose, *, num_draws: int) -> tuple[float | None, float]:
    """Return how many labels settle the verdict in four of five draws, and the worst error."""
    errors, before = [], (0, verdicts(world, at_random, 0, num_draws=num_draws)[0])
    for num in GRID:
        power, wrong = verdicts(world, choose, num, num_draws=num_draws)
        errors.append(wrong)
        if power >= POWER:
            share = (POWER - before[1]) / max(power - before[1], 1e-9)
            return before[0] + share * (num - before[0]), float(np.mean(errors))
        before = (num, power)
    return None, float(np.mean(errors))


def compare(seeds: int, *, num_draws: int) -> list[float]:
    """Print both ways for worlds whose verdict is open, and return the ratios."""
    ratios = []
    print("seed    gain  disagree  changed  labels at random  asked for  ratio  above the truth")
    for seed in range(seeds):
        world = make_world(seed)
        if world.gain <= 0.01:
            print(f"{seed:4d}  {100 * world.gain:+5.1f}   no gain that could be settled")
            continue
        plain, error = labels_needed(world, at_random, num_draws=num_draws)
        mine, my_error = labels_needed(world, asked, num_draws=num_draws)
        said = f"{seed:4d}  {100 * world.gain:+5.1f}  {world.differs_N.mean():8.1%}  "
        said += f"{world.changed:7.1%}  {plain or np.nan:16.0f}  {mine or np.nan:9.0f}"
        if plain is not None and mine is not None and plain > 0:
            ratios.append(mine / plain)
            said += f"  {ratios[-1]:5.2f}"
        print(f"{said}  {error:.1%} and {my_error:.1%}")
    return ratios


def main() -> None:
    """Print the ratio of labels, asked for over at random."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--draws", type=int, default=100)
    arguments = parser.parse_args()
    ratios = compare(arguments.seeds, num_draws=arguments.draws)
    if ratios:
        print(
            f"labels asked for / labels at random: {np.mean(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} draws of the data)"
        )


if __name__ == "__main__":
    main()
