"""A small table of two modalities for jobs/focus.py, and the job on it."""

from pathlib import Path

import numpy as np
from composed import composed

from mke_ray.config_schema import JobConfig


def table(folder: Path) -> None:
    """Write 120 rows of two modalities that show the class, whose split is drawn by group."""
    rng = np.random.default_rng(0)
    rows = ["x0,x1,x2,y0,y1,label,who"]
    for number in range(120):
        label = number % 2
        seen = rng.normal(size=5) + label * np.array([2.0, 0.0, 1.0, 1.5, 0.0])
        cells = [f"{one:.4f}" for one in seen]
        rows.append(",".join([*cells, f"c{label}", f"g{number // 6}"]))
    (folder / "t.csv").write_text("\n".join(rows))


def features(folder: Path, *more: str) -> list[JobConfig]:
    """Return two draws on the table."""
    return composed(
        "experiment=features",
        f"source.root={folder}",
        "source.table=t.csv",
        "source.modalities={a: [x*], b: [y*]}",
        "source.classes=[c0,c1]",
        "+source.columns.group=who",
        "source.splits={labelled: 4, probe: 4, unlabeled: 8, test: 4}",
        "+decode.a={kind: features, num_features: 3}",
        "+decode.b={kind: features, num_features: 2}",
        "+student.encoders.a={type: features, num_inputs: 3, hidden: [8]}",
        "+student.encoders.b={type: features, num_inputs: 2, hidden: [8]}",
        "teacher.modality=a",
        "fit.num_steps=10",
        "data_seeds=2",
        "scaling.launch=local",
        "focus.num_permutations=2",
        f"root={folder}/run",
        *more,
    )
