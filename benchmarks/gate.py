"""How far the promotion gate can be trusted: its verdicts on real runs against a large test set.

    python benchmarks/gate.py --data DIR
    python benchmarks/gate.py --data DIR --root RUNS --draws 2 --settings "mixture, clean"

DIR holds mnist, fsdd and ravdess_features (docs/experiments.md says what is in them). Every draw is
a run of its own in this process, of which every arm is judged as the shipped one is, on 50 to 400
samples of the gate part, whole groups of them; the truth is its gain on the test set. Then come
trials with students that are as good as their teachers. What was run stays below --root, and is not
run again.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from gate_null import exchanged, other_seeds, rows_of_few, rows_of_made
from gate_runs import ARMS, SETTINGS, RunScores, run_draw
from gate_verdicts import (
    HEADER,
    SIZES,
    cells_of,
    grouped_rows,
    judged,
    judged_again,
    rows_by_gain,
    share,
    table,
)

FEW = {"RAVDESS (15 clips of an actor)": "RAVDESS", "mixture (50 of a group)": "mixture, probe of"}
HOW = ("", ", percentiles alone")
GATE_SIZE, LEAST_TEST, NUM_GATES = 200, 1000, 10


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="folder of the data")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--draws", type=int, help="draws of every setting; their own by default")
    parser.add_argument("--trials", type=int, default=400, help="null trials of each kind and arm")
    parser.add_argument("--root", help="where scores are kept; a temporary folder by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.root or temporary)
        root.mkdir(parents=True, exist_ok=True)
        runs = [
            known_or_run(root, name, draw, folder=Path(options.data).resolve())
            for name, draw in drawn(options.settings, options.draws)
        ]
    print_verdicts(runs)
    print_null_trials(runs, num_trials=options.trials)


def print_verdicts(runs: Sequence[RunScores]) -> None:
    """Print what the gate says against the truth: by setting, arm, number of samples and gain."""
    of_size = {size: [one for run in runs for one in judged(run, size)] for size in SIZES}
    found = of_size[GATE_SIZE]
    large = [one for one in found if one.decision.num_samples >= GATE_SIZE]
    rows = grouped_rows(found, lambda one: one.setting, list(SETTINGS))
    rows.append([f"all of {GATE_SIZE} samples", *cells_of(large)])
    print(table(f"By setting, up to {GATE_SIZE} gate samples", ("setting", *HEADER), rows))
    rows = grouped_rows(large, lambda one: one.arm, ARMS)
    print(table(f"By arm, {GATE_SIZE} gate samples", ("arm", *HEADER), rows))
    rows = [
        [str(size), *cells_of([one for one in some if one.decision.num_samples >= size])]
        for size, some in of_size.items()
    ]
    print(table("By gate samples", ("gate samples", *HEADER), rows))
    header = ("gain on test", "promoted")
    print(table(f"By gain, {GATE_SIZE} gate samples", header, rows_by_gain(large)))
    of_many = [run for run in runs if len(run.test.group_N) >= LEAST_TEST]
    again = [one for run in of_many for one in judged_again(run, GATE_SIZE, num_gates=NUM_GATES)]
    title = f"{NUM_GATES} gates of {GATE_SIZE} test samples for each arm"
    print(table(title, HEADER, [cells_of(again)]))
    print(table(title, header, rows_by_gain(again)))


def print_null_trials(runs: Sequence[RunScores], *, num_trials: int) -> None:
    """Print how often students are promoted that are as good as their teachers."""
    each = max(1, num_trials // max(1, len(runs)))
    rows = [[str(size), share(exchanged(runs, size, num_trials=each))] for size in (100, GATE_SIZE)]
    print(table("Exchanged by group", ("gate samples", "promoted"), rows))
    with tempfile.TemporaryDirectory() as root:
        pairs = [one for draw in range(2) for one in other_seeds(draw, root=f"{root}/{draw}")]
    row = [share(one for one, _ in pairs), share(one for one, is_worse in pairs if is_worse)]
    print(
        table(
            "Another seed of the same network", ("promoted", "promoted of those no better"), [row]
        )
    )
    for title, start in FEW.items():
        some = [run for run in runs if run.setting.startswith(start)]
        if some:
            header = ("groups", "promoted", "by percentiles alone")
            print(table(f"Few groups: {title}", header, rows_of_few(some, num_trials=num_trials)))
    header = ("groups", *(f"{one}{how}" for one in ("alike", "with outliers") for how in HOW))
    print(table("Made groups", header, rows_of_made(num_trials=num_trials)))


def drawn(settings: Sequence[str], num_draws: int | None) -> Iterator[tuple[str, int]]:
    """Yield settings with draws, all settings in turn."""
    number = {name: num_draws or SETTINGS[name].num_draws for name in settings}
    for draw in range(max(number.values())):
        yield from ((name, draw) for name in settings if draw < number[name])


def known_or_run(root: Path, name: str, draw: int, *, folder: Path) -> RunScores:
    """Return the scores of one draw, from the file where there is one."""
    path = root / f"{name.replace(', ', '-').replace(' ', '_')}-{draw}.npz"
    if not path.exists():
        run_draw(name, draw, folder=folder).save(path)
    return RunScores.load(path)


if __name__ == "__main__":
    main()
