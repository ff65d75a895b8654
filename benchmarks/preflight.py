"""How often a pre-flight is right: what it says before training, against what a student gains.

    python benchmarks/preflight.py --data DIR --records runs.jsonl
    python benchmarks/preflight.py --records runs.jsonl        only evaluate what is there
    python benchmarks/preflight.py --data DIR --write          also write the package's model

DIR holds mnist, fsdd and ravdess_features. Every run is a whole jobs/expand.py on features, with a
pre-flight on 2,000 unlabeled samples; the truth is the gain on the test split. The prediction of a
run is fitted without all settings of its family (leave one family out), and compared with ``always
go``. Settings that are in the records are not run again.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from preflight_fit import Trial, fitted, held_out
from preflight_settings import Setting, all_settings

from mke_ray.config import jobs_from, register_schema
from mke_ray.expansion.draws import inside_one_task
from mke_ray.expansion.whole import run_stages
from mke_ray.focus.gain_prediction import MODEL_NAME
from mke_ray.report.progress import quiet_stages

REPOSITORY = Path(__file__).parents[1]
MORE = (
    "objective=expansion",
    "arms=[mm_student]",
    "preflight=warn",
    "preflight.samples=2000",
    "tracking=off",
    "scaling.launch=local",
    "doubles.enabled=false",
)


def main() -> None:
    """Run what is missing, and say how often the pre-flight is right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="folder of the data; without it nothing is run")
    parser.add_argument("--records", type=Path, help="where runs are recorded, one per line")
    parser.add_argument(
        "--part", default="0/1", help="K/N runs every N-th setting from the K-th on"
    )
    parser.add_argument("--worth", type=float, default=0.01, help="least gain that is worth it")
    parser.add_argument("--certainty", type=float, default=0.8)
    parser.add_argument("--write", action="store_true", help="write the model of the package")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records_path = options.records or Path(tempfile.mkdtemp()) / "records.jsonl"
    if options.data is not None:
        run_missing(records_path, options.data.resolve(), options.part)
    records = read(records_path)
    print(table(held_out(records, worth=options.worth), options.worth, options.certainty))
    model = fitted(records)
    print(json.dumps(asdict(model)))
    if options.write:
        path = REPOSITORY / "mke_ray" / "focus" / MODEL_NAME
        path.write_text(json.dumps(asdict(model), indent=1) + "\n")


def run_missing(records_path: Path, data: Path, part: str) -> None:
    """Carry out the runs that are not on record."""
    first, step = map(int, part.split("/"))
    known = {(one["setting"], one["draw"]) for one in read(records_path)}
    logging.disable(logging.WARNING)
    for setting in all_settings()[first::step]:
        for draw in range(setting.num_draws):
            if (f"{setting.family}: {setting.name}", draw) not in known:
                record = run(setting, draw, data)
                with records_path.open("a") as file:
                    file.write(json.dumps(record) + "\n")
                said = f"{record['verdict']}, expected {100 * record['expected']:+.1f}"
                name, gain = record["setting"], 100 * record["gain"]
                print(f"{name}, draw {draw}: {said}, gained {gain:+.1f}", file=sys.stderr)


def run(setting: Setting, draw: int, data: Path) -> dict[str, Any]:
    """Carry out one run and return what its pre-flight said, and what came of it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, quiet_stages():
        overrides = [*setting.overrides, *MORE, f"root={folder}/run", f"data_seed={draw}"]
        if setting.folder is not None:
            overrides.append(f"source.root={data / setting.folder}")
        if setting.table is not None:
            name = "table.csv" if setting.folder else "table.parquet"
            setting.table(Path(folder) / name, data / (setting.folder or "."), draw)
            overrides += [f"source.root={folder}", f"source.table={name}"]
        register_schema()
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            (job,) = jobs_from(compose("config", overrides=overrides))
        metrics = run_stages(inside_one_task(job))
    ahead, student = metrics["preflight"], metrics["arms"]["mm_student"]
    low, high = ahead["evidence"]["gain"]["ci95"]
    return {
        "setting": f"{setting.family}: {setting.name}",
        "family": setting.family,
        "draw": draw,
        "features": ahead["features"],
        "standard_error": ahead["standard_error"],
        "gamma": None
        if ahead["evidence"]["gamma"] is None
        else ahead["evidence"]["gamma"]["value"],
        "joined_ci95": [low, high],
        "verdict": ahead["verdict"],
        "expected": ahead["gain"],
        "teacher": metrics["arms"]["teacher"]["value"],
        "gain": student["gain"],
        "gain_ci95": student["gain_ci95"],
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, none where it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(trials: Sequence[Trial], worth: float, certainty: float) -> str:
    """Return how often verdicts are right, how sure they may be, and how far gains are off."""
    is_worth = np.asarray([one.gain >= worth for one in trials])
    probability = np.asarray([one.probability for one in trials])
    weight = _weights([one.setting for one in trials])
    go, no_go = probability >= certainty, probability <= 1 - certainty
    lines = [
        f"{len({one.setting for one in trials})} settings, {len(trials)} runs; a gain of "
        f"{100 * worth:g} points or more in {_mean(is_worth, weight):.0%} of the settings",
        "always go          right " + f"{_mean(is_worth, weight):.0%}",
        f"leaning            right {_mean((probability > 0.5) == is_worth, weight):.0%}",
        f"go or no-go        right {_mean(is_worth == go, weight * (go | no_go)):.0%}, said of "
        f"{_mean(go | no_go, weight):.0%}",
        f"go                 right {_mean(is_worth, weight * go):.0%}, said of "
        f"{_mean(go, weight):.0%}",
        f"no-go              right {_mean(~is_worth, weight * no_go):.0%}, said of "
        f"{_mean(no_go, weight):.0%}",
        f"unsure             said of {_mean(~go & ~no_go, weight):.0%}, of which worth it "
        f"{_mean(is_worth, weight * (~go & ~no_go)):.0%}",
        f"Brier score        {_mean((probability - is_worth) ** 2, weight):.3f} (always go at "
        f"its frequency {_brier(is_worth, weight):.3f})",
    ]
    off = np.asarray([one.gain - one.expected for one in trials])
    spread = np.asarray([one.spread for one in trials])
    lines += [
        f"expected gain      off by {100 * _mean(np.abs(off), weight):.1f} points in the mean; "
        f"80% intervals hold {_mean(np.abs(off) <= 1.2816 * spread, weight):.0%}",
        "calibration        "
        + "; ".join(
            f"{low:.0%} to {high:.0%}: {_mean(probability, weight * part):.0%} said, "
            f"{_mean(is_worth, weight * part):.0%} came ({int(part.sum())} runs)"
            for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0))
            if (part := (probability >= low) & (probability < high + (high == 1.0))).any()
        ),
    ]
    for family in sorted({one.family for one in trials}):
        part = np.asarray([one.family == family for one in trials])
        decided = part & (go | no_go)
        shares = (_mean(is_worth, weight * part), _mean(go | no_go, weight * part))
        lines.append(
            f"  {family:16s} {int(part.sum()):3d} runs, worth it {shares[0]:.0%}, decided "
            f"{shares[1]:.0%}, of these right {_mean(is_worth == go, weight * decided):.0%}"
        )
    return "\n".join(lines)


def _mean(value: np.ndarray, weight: np.ndarray) -> float:
    """Return a weighted mean, NaN of nothing."""
    return float((value * weight).sum() / weight.sum()) if weight.sum() else float("nan")


def _brier(is_worth: np.ndarray, weight: np.ndarray) -> float:
    """Return the Brier score of whoever always says how often it is worth it."""
    share = _mean(is_worth, weight)
    return share * (1 - share)


def _weights(names: Sequence[str]) -> np.ndarray:
    """Return weights by which every setting counts the same."""
    return np.asarray([1.0 / names.count(name) for name in names])


if __name__ == "__main__":
    main()
