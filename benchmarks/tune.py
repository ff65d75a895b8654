"""What a search costs beside its trials: Ray Tune and Optuna against calling the loop directly.

    OMP_NUM_THREADS=1 python benchmarks/tune.py --trials 8 64

Both train the same students of two feature modalities from the same stores, one after the other
with one thread, every fit with other noise and learning rate and with the same looks at the select
part. ``direct`` calls the loop in this process; ``search`` lets Ray Tune run the trials
(``search.max_concurrent=1``, nothing is stopped early) from the first question to the last record,
the start of the worker included; Ray itself runs by then. A ratio is the wall clock of the search
over that of the loop, per number of trials: 1 means that searching is free. They take turns.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mke_ray.config import jobs_from, register_schema
from mke_ray.config_schema import JobConfig
from mke_ray.config_values import recomposed, usual_values
from mke_ray.expansion.whole import run_stages
from mke_ray.report.progress import quiet_stages
from mke_ray.search.ledger import Ledger
from mke_ray.search.run import Search, opened, run_search_trials
from mke_ray.search.space import Space
from mke_ray.train.fits import FitStore
from mke_ray.train.launch import run_fits

CONF = Path(__file__).parents[1] / "conf"
CLASSES = ["p", "q", "r", "s"]
SPLITS = {"labelled": 200, "probe": 200, "unlabeled": 4000, "test": 200}
SPACE = (
    "+search.space={expansion.alpha: {type: uniform, low: 0.0, high: 2.0},"
    " fit.optimizer.lr: {type: loguniform, low: 0.0005, high: 0.005}}"
)


def main() -> None:
    """Measure what is asked for and print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--steps", type=int, default=400, help="steps of a trial")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for num_trials in options.trials:
        turns = [measure(num_trials, options.steps) for _ in range(options.repetitions)]
        ratios = [search_s / direct_s for direct_s, search_s in turns]
        direct_s = statistics.median(one for one, _ in turns) / num_trials
        print(
            f"{num_trials:3d} trials of {direct_s:.2f} s: search / direct  min {min(ratios):.3f}  "
            f"median {statistics.median(ratios):.3f}  max {max(ratios):.3f}",
            flush=True,
        )


def measure(num_trials: int, num_steps: int) -> tuple[float, float]:
    """Return the seconds of the trials called directly, and under the search."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, quiet_stages():
        write_rows(Path(folder) / "rows.parquet")
        lines = command_line(folder, num_trials, num_steps)
        register_schema()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            (job,) = jobs_from(compose("config", overrides=[*lines, "scaling.launch=local"]))
            run_stages(job)
            keys = list(Space.parse(job.search.space).keys)
            usual = usual_values(lines, {}, keys)
            known: dict[tuple[str, ...], DictConfig] = {}

            def composed(values: Mapping[str, Any]) -> JobConfig:
                return jobs_from(recomposed(lines, values, known))[0]

            with opened(composed({}), composed, usual) as search:
                search.run.connect()
                began = time.perf_counter()
                run_search_trials(search, on_end=lambda _: None)
                search_s = time.perf_counter() - began
                return directly(search), search_s


def directly(search: Search) -> float:
    """Return the seconds that the fits of all trials take in this process, each trained anew."""
    records = Ledger(search.ledger.folder).ended()
    fits = [search.candidates.candidate(one.values, search.seed) for one in records]
    again = search.run.root.child("directly")
    for kind in ("manifest", "samples", "labels"):
        Path(again.path()).mkdir(exist_ok=True)
        Path(again.path(kind)).symlink_to(search.run.root.path(kind))
    began = time.perf_counter()
    run_fits(
        [replace(one.fit, name="direct") for one in fits],
        root=again,
        launch="local",
        scaling=fits[0].scaling,
        engine=fits[0].engine,
    )
    seconds = time.perf_counter() - began
    assert all(FitStore(again).has(one.fit.fingerprint()) for one in fits)
    return seconds


def write_rows(path: Path) -> None:
    """Write rows of two views that show the class."""
    rng = np.random.default_rng(0)
    split = [name for name, number in SPLITS.items() for _ in range(number)]
    label_N = rng.integers(0, len(CLASSES), len(split))
    columns: dict[str, Any] = {}
    for view in "ab":
        shown_ND = np.eye(32)[label_N] + rng.normal(size=(len(split), 32))
        columns |= {f"{view}_{k}": shown_ND[:, k] for k in range(32)}
    names = [CLASSES[one] for one in label_N]
    pq.write_table(pa.table({**columns, "label": names, "split": split}), path)


def command_line(folder: str, num_trials: int, num_steps: int) -> list[str]:
    """Return what the jobs are told."""
    encoder = "{type: features, num_inputs: 32, hidden: [256]}"
    return [
        "experiment=features",
        "objective=expansion",
        "tracking=off",
        "labelling.runner=local",
        f"source.root={folder}",
        "source.table=rows.parquet",
        "source.modalities={a: [a_*], b: [b_*]}",
        f"source.classes={CLASSES}",
        "++source.columns={label: label, split: split}",
        *(f"++decode.{one}={{kind: features, num_features: 32}}" for one in "ab"),
        *(f"++student.encoders.{one}={encoder}" for one in "ab"),
        "teacher.modality=a",
        "arms=[mke]",
        "expansion.members=1",
        "expansion.rounds=1",
        f"fit.num_steps={num_steps}",
        "fit.global_batch=256",
        "doubles.enabled=false",
        f"root={folder}/run",
        SPACE,
        "search.scheduler=fifo",
        f"search.num_trials={num_trials}",
        "search.max_concurrent=1",
    ]


if __name__ == "__main__":
    main()
