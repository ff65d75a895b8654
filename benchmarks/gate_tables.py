"""Tables that the gate is tried on: made and real pairs of features, and ways to spoil them."""

# N samples, A features of the teacher's modality, B features of the other one, G groups, C classes.

import fnmatch
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from mke_ray.data.av_mnist_features import TABLE, AvMnistFeaturesSource
from mke_ray.schema import Split

LABELLED, PROBE, UNLABELED, TEST = (
    str(one) for one in (Split.LABELLED, Split.PROBE, Split.UNLABELED, Split.TEST)
)


@dataclass(frozen=True, slots=True, eq=False)
class PairTable:
    """Rows of two modalities.

    Args:
        teacher_NA: Features that the teacher reads.
        other_NB: Features that only the student reads.
        label_N: True class.
        split_N: Split of each row.
        group_N: Group of each row, text.
    """

    teacher_NA: np.ndarray
    other_NB: np.ndarray
    label_N: np.ndarray
    split_N: np.ndarray
    group_N: np.ndarray

    def write(self, path: Path) -> list[str]:
        """Write the table as Parquet and return the keys of jobs/expand.py that read it."""
        columns = {"a": self.teacher_NA, "b": self.other_NB}
        rows = {name: [*map(list, one.astype(np.float32))] for name, one in columns.items()}
        names = [f"c{one}" for one in range(int(self.label_N.max()) + 1)]
        rows |= {"label": [names[one] for one in self.label_N]}
        rows |= {"split": self.split_N.tolist(), "group": self.group_N.tolist()}
        pq.write_table(pa.table(rows), path)
        return [
            *("experiment=features", f"source.root={path.parent}", f"source.table={path.name}"),
            *("+source.modalities={a: [a], b: [b]}", f"source.classes=[{','.join(names)}]"),
            *("+source.columns.split=split", "+source.columns.group=group"),
            *(_decode(name, one.shape[1]) for name, one in columns.items()),
            *(_encoder(name, one.shape[1]) for name, one in columns.items()),
            "teacher.modality=a",
        ]


def mixture(draw: int, *, probe_group_size: int = 4) -> PairTable:
    """Draw a mixture of Gaussians; samples of one group share an offset in both modalities.

    The teacher reaches about 70%; how much the other modality knows differs from draw to draw.

    Args:
        draw: Seed.
        probe_group_size: Samples of each group of the probe; 4 elsewhere.
    """
    rng = np.random.default_rng([draw, 0])
    num_of = {LABELLED: 400, PROBE: 600, UNLABELED: 1500, TEST: 3000}
    split_N = np.repeat(list(num_of), list(num_of.values()))
    label_N = rng.integers(5, size=len(split_N))
    place_N = np.concatenate(
        [
            np.arange(number) // (probe_group_size if split == PROBE else 4)
            for split, number in num_of.items()
        ]
    )
    group_N = np.array(
        [f"{split}-{place}-{draw}" for split, place in zip(split_N, place_N, strict=True)]
    )
    _, index_N = np.unique(group_N, return_inverse=True)
    features = []
    for spread, width in ((0.7, 8), (float(np.exp(rng.uniform(np.log(0.1), 0.0))), 16)):
        mean_CD = rng.normal(0.0, spread, (5, width))
        offset_GD = rng.normal(0.0, 0.5, (index_N.max() + 1, width))
        noise_ND = rng.normal(0.0, 1.0, (len(split_N), width))
        features.append(mean_CD[label_N] + offset_GD[index_N] + noise_ND)
    return PairTable(features[0], features[1], label_N, split_N, group_N)


def av_mnist(draw: int, *, folder: Path, teacher: str) -> PairTable:
    """Draw AV-MNIST features of 2,000 unlabeled pairs with a probe of 600; groups are recordings.

    Args:
        draw: Seed.
        folder: Holds mnist and fsdd.
        teacher: Modality of the teacher, ``image`` or ``audio``.
    """
    with tempfile.TemporaryDirectory() as made:
        source = AvMnistFeaturesSource(
            str(folder), made, data_seed=draw, num_probe=600, num_unlabeled=2000
        )
        source.prepare()
        table = pq.read_table(Path(made) / TABLE)
    other = {"image": "audio", "audio": "image"}[teacher]
    return PairTable(
        _matrix(table, [f"{teacher}_*"]),
        _matrix(table, [f"{other}_*"]),
        table.column("label").to_numpy(),
        np.array(table.column("split").to_pylist()),
        np.array(table.column("group").to_pylist()),
    )


def ravdess(draw: int, *, folder: Path, patterns: dict[str, list[str]], teacher: str) -> PairTable:
    """Deal out the 24 actors of RAVDESS: 4 labelled, 9 probe, 6 unlabeled, 5 test.

    Args:
        draw: Seed.
        folder: Holds combined_summary.csv.
        patterns: Columns of the modalities.
        teacher: Modality of the teacher.
    """
    table = pc.read_csv(folder / "combined_summary.csv")
    (other,) = set(patterns) - {teacher}
    actor_N = np.array([str(one) for one in table.column("actor").to_pylist()])
    actors = np.random.default_rng([draw, 0]).permutation(np.unique(actor_N))
    splits = np.repeat([LABELLED, PROBE, UNLABELED, TEST], [4, 9, 6, 5])
    split_of = dict(zip(actors, splits, strict=True))
    split_N = np.array([split_of[one] for one in actor_N])
    known_N = split_N == UNLABELED
    _, label_N = np.unique(table.column("emotion").to_pylist(), return_inverse=True)
    filled = [_filled(_matrix(table, patterns[name]), known_N) for name in (teacher, other)]
    return PairTable(filled[0], filled[1], label_N, split_N, actor_N)


Spoil = Callable[[PairTable, int], PairTable]


def as_it_is(table: PairTable, draw: int) -> PairTable:
    """Return the table."""
    return table


def broken_pairs(table: PairTable, draw: int) -> PairTable:
    """Shuffle the other modality among the unlabeled rows."""
    rows = np.flatnonzero(table.split_N == UNLABELED)
    other_NB = table.other_NB.copy()
    other_NB[rows] = other_NB[np.random.default_rng([draw, 1]).permutation(rows)]
    return replace(table, other_NB=other_NB)


def noise(table: PairTable, draw: int) -> PairTable:
    """Put noise in the place of the other modality, in all splits."""
    shape = table.other_NB.shape
    return replace(table, other_NB=np.random.default_rng([draw, 2]).normal(size=shape))


def shifted_probe(table: PairTable, draw: int) -> PairTable:
    """Move all rows of the probe, as if other devices had made them; every second has no pairs."""
    moved = broken_pairs(table, draw) if draw % 2 else table
    probe_N1 = (table.split_N == PROBE)[:, None]
    rng = np.random.default_rng([draw, 3])
    deviation_A, deviation_B = table.teacher_NA.std(axis=0), table.other_NB.std(axis=0)
    offset_A = 0.5 * deviation_A * rng.normal(size=len(deviation_A))
    offset_B = 0.5 * deviation_B * rng.normal(size=len(deviation_B))
    return replace(
        moved,
        teacher_NA=moved.teacher_NA + probe_N1 * offset_A,
        other_NB=moved.other_NB + probe_N1 * offset_B,
    )


def every_second_broken(table: PairTable, draw: int) -> PairTable:
    """Break the pairs of every second draw."""
    return broken_pairs(table, draw) if draw % 2 else table


def _matrix(table: pa.Table, patterns: list[str]) -> np.ndarray:
    """Return the columns that fit one of the patterns [N, D]."""
    names = [
        name
        for name in table.column_names
        if any(fnmatch.fnmatchcase(name, one) for one in patterns)
    ]
    return np.stack([table.column(name).to_numpy() for name in names], axis=1).astype(float)


def _filled(values_ND: np.ndarray, known_N: np.ndarray) -> np.ndarray:
    """Put the mean of the known rows in the place of what is missing."""
    values_ND = np.where(np.isfinite(values_ND), values_ND, np.nan)
    return np.where(np.isnan(values_ND), np.nanmean(values_ND[known_N], axis=0), values_ND)


def _decode(name: str, num_features: int) -> str:
    return f"+decode.{name}={{kind: features, num_features: {num_features}}}"


def _encoder(name: str, num_features: int) -> str:
    encoder: dict[str, Any] = {"type": "features", "num_inputs": num_features, "hidden": "[64]"}
    return f"+student.encoders.{name}={{{', '.join(f'{k}: {v}' for k, v in encoder.items())}}}"
