"""Settings in which a pre-flight is tried: real and made data, helpful and useless modalities."""

# N samples, C classes, D features.

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import make_moons

SMALL = ("source.num_unlabeled=3000", "source.num_test=1500")
RAVDESS = "ravdess_features"
_SIZES = {"labelled": 100, "probe": 200, "unlabeled": 2000, "test": 1500}


@dataclass(frozen=True, slots=True)
class Setting:
    """Data, a teacher and what is new to it.

    Args:
        name: Name of the setting.
        family: What it is a variant of; settings of one family are held out together.
        overrides: What jobs/expand.py is told.
        num_draws: Draws of the data.
        folder: Folder of the data below ``--data``; None where the benchmark makes them.
        table: Writes the table of a draw to a path; None where the source has its own.
    """

    name: str
    family: str
    overrides: tuple[str, ...]
    num_draws: int = 1
    folder: str | None = None
    table: Callable[[Path, Path, int], None] | None = field(default=None, repr=False)


def all_settings() -> list[Setting]:
    """Return every setting."""
    return [*_av_mnist(), *_ravdess(), *_gaussian(), *_moons()]


def _av_mnist() -> list[Setting]:
    """Return a picture and a spoken digit: other noise on what is new, weak and strong teachers."""
    found = []
    for teacher, new, own_noise, noises in (
        ("image", "audio", 0.7, (1.0, 4.0, 8.0, 16.0, 40.0)),
        ("audio", "image", 1.0, (0.7, 3.0, 6.0, 12.0, 30.0)),
    ):
        for strength, labelled, scale in (("weak", 300, 1.0), ("strong", 3000, 0.2)):
            for noise in noises:
                overrides = (
                    "experiment=av_mnist_features",
                    f"teacher.modality={teacher}",
                    f"source.num_labelled={labelled}",
                    f"source.noise_{teacher}={own_noise * scale}",
                    f"source.noise_{new}={noise}",
                    *SMALL,
                )
                name = f"{teacher} {strength}, noise of {new} {noise:g}"
                found.append(Setting(name, "av_mnist", overrides, 1, "."))
    return found


def _ravdess() -> list[Setting]:
    """Return emotion from face and voice, what is new also shuffled or noisy."""
    found = []
    for teacher, new in (("face", "voice"), ("voice", "face")):
        for change in ("as it is", "noisy", "shuffled"):
            for actors in (4, 8):
                overrides = (
                    "experiment=ravdess_features",
                    f"teacher.modality={teacher}",
                    f"source.splits={{labelled: {actors}, probe: 4, unlabeled: {15 - actors}, "
                    "test: 5}",
                )
                name = f"{teacher} of {actors} actors, {new} {change}"
                table = None if change == "as it is" else _ravdess_table(new, change)
                found.append(Setting(name, "ravdess", overrides, 2, RAVDESS, table))
    return found


def _ravdess_table(new: str, change: str) -> Callable[[Path, Path, int], None]:
    """Return what writes RAVDESS with one modality that says less."""

    def write(path: Path, folder: Path, seed: int) -> None:
        table, rng = pd.read_csv(folder / "combined_summary.csv"), np.random.default_rng(seed)
        marks = ("anger_", "disgust_", "fear_", "happiness_", "sadness_", "surprise_", "neutral_",
                 "AU", "mouth_openness_")  # fmt: skip
        of_face = [one for one in table.columns if one.startswith(marks)]
        kept = {"emotion", "actor", "file", *of_face}
        numbers = table.select_dtypes("number").columns
        columns = of_face if new == "face" else [one for one in numbers if one not in kept]
        if change == "shuffled":
            table[columns] = table[columns].to_numpy()[rng.permutation(len(table))]
        else:
            spread = np.nanstd(table[columns].to_numpy(float), axis=0, ddof=1)
            table[columns] = table[columns] + 1.5 * spread * rng.normal(size=table[columns].shape)
        table.to_csv(path, index=False)

    return write


def _gaussian() -> list[Setting]:
    """Return classes with Gaussian features: strengths of both, and noise that both share."""
    cases = [
        (teacher, witness, shared)
        for teacher in (1.0, 2.5)
        for witness in (0.0, 0.4, 1.0, 2.0)
        for shared in (0.0, 0.95)
    ]
    cases += [(1.5, 1.5, 0.5), (1.5, 0.7, 0.5), (4.0, 1.0, 0.0), (4.0, 4.0, 0.0)]
    return [
        Setting(
            f"teacher {teacher:g}, other {witness:g}, shared noise {shared:g}",
            "gaussian",
            _TABLE,
            1,
            None,
            _gaussian_table(teacher, witness, shared),
        )
        for teacher, witness, shared in cases
    ]


_TABLE = (
    "experiment=features",
    "source.modalities={a: 'a?', b: 'b?'}",
    "+source.columns.split=split",
    "source.classes=[c0,c1,c2,c3,c4,c5]",
    "teacher.modality=a",
    "+decode.a={kind: features, num_features: 8}",
    "+decode.b={kind: features, num_features: 8}",
    "+student.encoders.a={type: features, num_inputs: 8, hidden: [64]}",
    "+student.encoders.b={type: features, num_inputs: 8, hidden: [64]}",
)


def _gaussian_table(
    teacher: float, witness: float, shared: float
) -> Callable[[Path, Path, int], None]:
    """Return what writes samples of six classes whose means are drawn."""

    def write(path: Path, folder: Path, seed: int) -> None:
        del folder
        rng, num = np.random.default_rng(seed), sum(_SIZES.values())
        truth_N, mean_CD = rng.integers(6, size=num), rng.normal(size=(6, 8))
        noise_ND, both = rng.normal(size=(num, 8)), np.sqrt(shared)
        alone = np.sqrt(1.0 - shared)
        arrays = {
            name: strength * mean_CD[truth_N] + both * noise_ND + alone * rng.normal(size=(num, 8))
            for name, strength in (("a", 0.5 * teacher), ("b", 0.5 * witness))
        }
        _write(path, arrays, truth_N)

    return write


def _moons() -> list[Setting]:
    """Return two moons whose axes are the modalities, with little and much noise."""
    overrides = tuple(
        one.replace("features: 8", "features: 1")
        .replace("inputs: 8", "inputs: 1")
        .replace("c0,c1,c2,c3,c4,c5", "c0,c1")
        for one in _TABLE
    )
    found = []
    for noise in (0.1, 0.3):
        for teacher, number in (("x", 0), ("y", 1)):
            for is_shuffled in (False, True):
                name = f"teacher {teacher}, noise {noise:g}{', other shuffled' * is_shuffled}"
                table = _moons_table(noise, number, is_shuffled=is_shuffled)
                found.append(Setting(name, "moons", overrides, 1, None, table))
    return found


def _moons_table(
    noise: float, teacher: int, *, is_shuffled: bool
) -> Callable[[Path, Path, int], None]:
    """Return what writes two moons."""

    def write(path: Path, folder: Path, seed: int) -> None:
        del folder
        num = sum(_SIZES.values())
        points_N2, truth_N = map(np.asarray, make_moons(num, noise=noise, random_state=seed))
        other_N = points_N2[:, 1 - teacher]
        if is_shuffled:
            other_N = np.random.default_rng(seed).permutation(other_N)
        _write(path, {"a": points_N2[:, [teacher]], "b": other_N[:, None]}, truth_N)

    return write


def _write(path: Path, arrays: dict[str, Any], truth_N: np.ndarray) -> None:
    """Write a table of features with its splits."""
    columns = {
        f"{name}{number}": values_ND[:, number]
        for name, values_ND in arrays.items()
        for number in range(values_ND.shape[1])
    }
    splits = np.repeat(list(_SIZES), list(_SIZES.values()))
    labels = [f"c{one}" for one in truth_N]
    pd.DataFrame({**columns, "label": labels, "split": splits}).to_parquet(path)
