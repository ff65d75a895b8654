"""A small finished run of two views that show the class, whose stores a search reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from composed import REPOSITORY, composed
from hydra import compose, initialize_config_dir
from mlflow import MlflowClient
from omegaconf import DictConfig

from mke_ray.config import jobs_from, register_schema
from mke_ray.config_schema import JobConfig
from mke_ray.config_values import recomposed, usual_values
from mke_ray.expansion.whole import run_stages
from mke_ray.search.ledger import Ledger, TrialRecord
from mke_ray.search.run import opened
from mke_ray.search.space import Space
from mke_ray.search.whole import searched
from mke_ray.storage import open_root

CLASSES = ["p", "q", "r"]
SPLITS = {"labelled": 40, "probe": 160, "unlabeled": 320, "test": 200}
SPACE = [
    "+search.space={fusion: {type: choice, values: [concat, gated]},"
    " fit.optimizer.lr: {type: loguniform, low: 0.0001, high: 0.03}}",
]


def write_rows(path: Path) -> None:
    """Write rows of two views that show the class."""
    rng = np.random.default_rng(3)
    split = [name for name, number in SPLITS.items() for _ in range(number)]
    label_N = rng.integers(0, 3, len(split))
    columns: dict[str, Sequence[object]] = {}
    for view, strength in (("a", 1.2), ("b", 2.0)):
        shown_N3 = strength * np.eye(3)[label_N] + rng.normal(size=(len(split), 3))
        columns |= {f"{view}_{k}": shown_N3[:, k] for k in range(3)}
    names = [CLASSES[one] for one in label_N]
    group = [f"{one} {number // 2}" for number, one in enumerate(split)]
    pq.write_table(pa.table({**columns, "label": names, "split": split, "group": group}), path)


def command_line(folder: Path, *more: str) -> list[str]:
    """Return what jobs are told.

    Args:
        folder: Where the rows and the run are.
        more: Further overrides.
    """
    features = "{type: features, num_inputs: 3, hidden: [8]}"
    return [
        "experiment=features",
        "objective=expansion",
        "preflight=off",
        "tracking=off",
        "labelling.runner=local",
        f"source.root={folder}",
        "source.table=rows.parquet",
        "source.modalities={a: [a_*], b: [b_*]}",
        f"source.classes={CLASSES}",
        "++source.columns={label: label, split: split, group: group}",
        *(f"++decode.{one}={{kind: features, num_features: 3}}" for one in "ab"),
        *(f"++student.encoders.{one}={features}" for one in "ab"),
        "student.head_hidden=[8]",
        "teacher.modality=a",
        "arms=[mke]",
        "expansion.members=1",
        "expansion.rounds=1",
        "fit.num_steps=32",
        "fit.optimizer.lr=0.01",
        "fit.global_batch=64",
        "teacher.fit.num_steps=40",
        f"root={folder}/run",
        *more,
    ]


def finished_run(folder: Path, *more: str) -> None:
    """Carry out the run that is searched, in this process.

    Args:
        folder: Where the rows and, if not told otherwise, the run are.
        more: Further overrides.
    """
    write_rows(folder / "rows.parquet")
    run_stages(composed(*command_line(folder, "scaling.launch=local", *more))[0])


def search_here(folder: Path, *more: str) -> JobConfig:
    """Search with the Ray that this process is connected to, and return the job."""
    lines = command_line(folder, *more)
    register_schema()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=lines)
        (job,) = jobs_from(cfg)
        usual = usual_values(lines, {}, list(Space.parse(job.search.space).keys))
        known: dict[tuple[str, ...], DictConfig] = {}

        def job_with(values: Mapping[str, Any]) -> JobConfig:
            return jobs_from(recomposed(lines, values, known))[0]

        with opened(job, job_with, usual) as found:
            searched(found)
    return job


def found_in(folder: Path, name: str = "search") -> Path:
    """Return the newest folder of a search.

    Args:
        folder: Where the run is.
        name: ``search.name``.
    """
    return max((folder / "run" / "search").glob(f"{name}-*"), key=lambda one: one.stat().st_mtime)


def records_in(folder: Path, name: str = "search") -> list[TrialRecord]:
    """Return what became of the trials of a search that ended last."""
    return Ledger(open_root(str(found_in(folder, name)))).ended()


def check_runs_of_trials(tracking_uri: str, *, experiment: str, num_trials: int) -> None:
    """Check that MLflow has every trial of one search once, none running and one the winner."""
    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    trials = [one for one in runs if one.data.tags.get("mlflow.parentRunId")]
    names = sorted(one.info.run_name for one in trials)
    assert names == [f"trial {number}" for number in range(num_trials)]
    assert len(runs) == num_trials + 1
    assert {one.info.status for one in runs} <= {"FINISHED", "KILLED"}
    assert sum(one.data.tags.get("winner") == "true" for one in trials) == 1
    assert all(one.data.metrics.get("quality") is not None for one in trials)
