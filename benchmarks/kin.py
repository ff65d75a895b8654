"""Our recipe beside its kin: co-training, co-EM, confident learning, ELR and DivideMix.

    python benchmarks/kin.py --data DIR
    python benchmarks/kin.py --data DIR --settings ravdess_face --draws 8 --pairs without

Draws, DIR and settings are those of benchmarks/expansion.py. Every draw is a whole run of ours,
whose stores the kin read: the same teacher, pairs, network, steps, optimizer and input noise, the
labelled split in the teacher's modality with the same share, and with ``--pairs with`` the same
labelled pairs with the same weight. What a kin has to choose is written at its function: what its
paper says, or what is right most often on the select part of the probe.
"""

# N draws.

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from expansion import NO_PAIRS, SETTINGS, Setting
from kin_dividemix import dividemix
from kin_draws import Draw, draw_of, jobs_of
from kin_noise import confident_drop, confident_relabel, elr
from kin_training import Answers, mean_of, rows_of, student_of, train
from kin_views import co_em, co_training

from mke_ray.report.progress import quiet_stages

OF_SAMPLES = [name for name, one in SETTINGS.items() if one.kind != "every pixel"]
OURS = {"MKE": "mke", "ours, labels": "relabel_only", "ours": "mm_student"}


def main() -> None:
    """Run what is asked for and print a table of every setting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", help="folder of the data")
    parser.add_argument("--settings", nargs="+", choices=OF_SAMPLES, default=OF_SAMPLES)
    parser.add_argument("--draws", type=int, default=8, help="draws of every setting")
    parser.add_argument("--pairs", choices=["without", "with"], default="without")
    parser.add_argument("--arms", nargs="+", choices=list(KIN), default=list(KIN))
    parser.add_argument("--root", help="where runs are kept; a temporary folder by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary, quiet_stages():
        root = Path(options.root or temporary).resolve()
        found = {name: gains_of(name, options, root) for name in options.settings}
    print(table_of(found))


def gains_of(name: str, options: argparse.Namespace, root: Path) -> dict[str, np.ndarray]:
    """Return what every arm gains over the teacher in every draw of a setting [N]."""
    overrides = overrides_of(SETTINGS[name], options)
    folder = root / f"{name}-{'pairs' if options.pairs == 'with' else 'no'}"
    gains: dict[str, list[float]] = {}
    for number, job in enumerate(jobs_of(overrides, num_draws=options.draws, root=folder)):
        draw = draw_of(job)
        one = {title: draw.gains[arm] for title, arm in OURS.items()}
        one |= {arm: kin_gain(draw, KIN[arm]) for arm in options.arms}
        print(json.dumps({"setting": name, "draw": number, **one}), file=sys.stderr, flush=True)
        for arm, gain in one.items():
            gains.setdefault(arm, []).append(gain)
    return {arm: np.asarray(some) for arm, some in gains.items()}


def overrides_of(setting: Setting, options: argparse.Namespace) -> list[str]:
    """Return what the runs of a setting are told."""
    overrides = [one for one in setting.overrides if not one.startswith("arms=")]
    overrides.append("arms=[mke]")
    if options.pairs == "without":
        overrides += NO_PAIRS
    if setting.folder is not None:
        if options.data is None:
            sys.exit(f"--data is missing: this setting reads {setting.folder} in it")
        overrides.append(f"source.root={Path(options.data).resolve() / setting.folder}")
    return overrides


def kin_gain(draw: Draw, kin: Callable[[Draw], Answers]) -> float:
    """Return what a kin gains over the teacher on the test split of a draw."""
    said_NC = kin(draw)(draw.test)
    teacher_N = draw.test.teacher_NC.argmax(dim=1)
    return draw.test.accuracy(said_NC.argmax(dim=1)) - draw.test.accuracy(teacher_N)


def table_of(found: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Return one table: an arm a row, a setting a column, of points gained over the teacher."""
    names = list(found)
    draws = [len(next(iter(found[name].values()))) for name in names]
    heads = [f"{name} ({num} draws)" for name, num in zip(names, draws, strict=True)]
    lines = ["| arm | " + " | ".join(heads) + " |", "|---" * (1 + len(names)) + "|"]
    for arm in next(iter(found.values())):
        cells = [cell_of(found[name][arm]) for name in names]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell_of(gain_N: np.ndarray) -> str:
    """Return mean and spread of gains in points, and the share of draws above the teacher."""
    mean, spread = 100 * gain_N.mean(), 100 * gain_N.std()
    return f"{mean:+.1f} ± {spread:.1f} ({np.mean(gain_N > 0):.0%})"


def published(draw: Draw) -> Answers:
    """Train the published student as the kin are trained, to see that this is the same."""
    rows = rows_of(draw, draw.hard)
    return mean_of([train(draw, rows)])


def with_student(kin: Callable[[Draw], Answers]) -> Callable[[Draw], Answers]:
    """Return a kin whose labels a student of ours learns, in place of those of our witnesses."""
    return lambda draw: student_of(draw, kin(draw)(draw.unlabeled))


KIN: Mapping[str, Callable[[Draw], Answers]] = {
    "MKE and labelled split": published,
    "co-training": co_training,
    "co-training, student": with_student(co_training),
    "co-EM": co_em,
    "co-EM, student": with_student(co_em),
    "confident learning, drop": confident_drop,
    "confident learning, relabel": confident_relabel,
    "ELR": elr,
    "DivideMix": dividemix,
}


if __name__ == "__main__":
    main()
