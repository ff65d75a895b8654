"""A table of two modalities whose gate is too small for a verdict, and the job on it."""

from pathlib import Path

import numpy as np
from composed import composed

from mke_ray.config_schema import JobConfig

CLASSES = ("c0", "c1", "c2")


def write_table(folder: Path, *, seed: int = 0) -> dict[str, str]:
    """Write the table, and return the true class of every row by its key."""
    rng = np.random.default_rng(seed)
    sizes = {"labelled": 45, "unlabeled": 420, "probe": 60, "test": 150}
    rows, truth = ["name,x0,x1,y0,y1,label,split"], {}
    centres = 1.5 * np.array([[0, 1], [1, -0.6], [-1, -0.6]])
    for split, number in sizes.items():
        for one in range(number):
            label = int(rng.integers(3))
            seen = np.concatenate([centres[label] + rng.normal(size=2) for _ in range(2)])
            name = f"{split}-{one:03d}"
            truth[name] = CLASSES[label]
            said = "" if split == "unlabeled" else CLASSES[label]
            rows.append(",".join([name, *(f"{x:.4f}" for x in seen), said, split]))
    (folder / "t.csv").write_text("\n".join(rows))
    return truth


def asking_job(folder: Path, *more: str) -> JobConfig:
    """Return the job on the table, all of it in this process."""
    (job,) = composed(
        "experiment=features",
        f"source.root={folder}",
        "source.table=t.csv",
        "source.modalities={a: [x*], b: [y*]}",
        f"source.classes=[{','.join(CLASSES)}]",
        "+source.columns={key: name, split: split}",
        "+decode.a={kind: features, num_features: 2}",
        "+decode.b={kind: features, num_features: 2}",
        "+student.encoders.a={type: features, num_inputs: 2, hidden: [8]}",
        "+student.encoders.b={type: features, num_inputs: 2, hidden: [8]}",
        "teacher.modality=a",
        "objective=mke",
        "arms=[mke]",
        "fit.num_steps=300",
        "teacher.fit.num_steps=300",
        "scaling.launch=local",
        "preflight=off",
        "tracking=off",
        "gate.min_samples=20",
        f"root={folder}/run",
        *more,
    )
    return job
