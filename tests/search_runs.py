"""A small finished run of two views that show the class, whose stores a search reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from composed import REPOSITORY, composed
from hydra import compose, initialize_config_dir

from mke_ray.config import jobs_from, register_schema
from mke_ray.config_schema import JobConfig
from mke_ray.config_values import recomposed, usual_values
from mke_ray.expansion.whole import run_stages
from mke_ray.search import searched
from mke_ray.search.run import opened
from mke_ray.search.space import Space

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


def finished_run(folder: Path) -> None:
    """Carry out the run that is searched, in this process."""
    write_rows(folder / "rows.parquet")
    run_stages(composed(*command_line(folder, "scaling.launch=local"))[0])


def search_here(folder: Path, *more: str) -> JobConfig:
    """Search with the Ray that this process is connected to, and return the job."""
    lines = command_line(folder, *more)
    register_schema()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=lines)
        (job,) = jobs_from(cfg)
        usual = usual_values(lines, {}, list(Space.parse(job.search.space).keys))
        with opened(job, lambda values: jobs_from(recomposed(lines, values))[0], usual) as found:
            searched(found)
    return job
