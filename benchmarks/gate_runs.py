"""Whole runs that the gate is tried on: every arm judged on the gate part, and on the test set."""

# N samples.

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gate_tables import (
    PairTable,
    Spoil,
    as_it_is,
    av_mnist,
    broken_pairs,
    every_second_broken,
    mixture,
    noise,
    ravdess,
    shifted_probe,
)
from hydra import compose, initialize_config_dir

from mke_ray.config import jobs_from, register_schema
from mke_ray.config_schema import JobConfig
from mke_ray.evaluation import TEACHER, Evaluation
from mke_ray.expansion.checks import open_run
from mke_ray.expansion.stages import evaluate_stage, train_stage
from mke_ray.expansion.whole import before_training

REPOSITORY = Path(__file__).parents[1]
ARMS = ("um_student", "noisy_student", "mm_student_no_reg", "mke", "mm_student")
CHEAP = (
    f"arms=[{','.join(ARMS[:-1])}]",
    *("objective=expansion", "expansion.rounds=1", "expansion.members=1"),
    *("fit.num_steps=200", "teacher.fit.num_steps=200", "labelling.unit_size=256"),
    *("scaling.launch=local", "scaling.window_units=32", "tracking=off"),
    "gate.select_fraction=0.25",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of data and one way to spoil it.

    Args:
        table: Draws the table by seed and the folder of the data.
        spoil: Spoils it.
        num_draws: Draws unless another number is asked for.
    """

    table: Callable[[int, Path], PairTable]
    spoil: Spoil
    num_draws: int


@dataclass(frozen=True, slots=True, eq=False)
class PartScores:
    """Who was right on every sample of one part of the data.

    Args:
        group_N: Group of each sample.
        teacher_N: Whether the teacher is right.
        arms: By arm, whether its network is right [N].
    """

    group_N: np.ndarray
    teacher_N: np.ndarray
    arms: Mapping[str, np.ndarray]

    def gain(self, arm: str) -> float:
        """Return the gain of an arm over the teacher."""
        return float(self.arms[arm].mean() - self.teacher_N.mean())


@dataclass(frozen=True, slots=True, eq=False)
class RunScores:
    """One run.

    Args:
        setting: Name of its setting.
        draw: Its seed.
        gate: Scores on the gate part of the probe.
        test: Scores on the test set: the truth.
    """

    setting: str
    draw: int
    gate: PartScores
    test: PartScores

    def save(self, path: Path) -> None:
        """Write everything to one npz file."""
        arrays: dict[str, np.ndarray] = {}
        for name, part in (("gate", self.gate), ("test", self.test)):
            arrays[f"{name}/group"] = part.group_N
            arrays[f"{name}/{TEACHER}"] = part.teacher_N
            arrays |= {f"{name}/arms/{arm}": one for arm, one in part.arms.items()}
        np.savez_compressed(
            path, allow_pickle=False, setting=self.setting, draw=self.draw, **arrays
        )

    @classmethod
    def load(cls, path: Path) -> "RunScores":
        """Read what ``save`` wrote."""
        with np.load(path) as arrays:
            parts = [
                PartScores(
                    arrays[f"{name}/group"],
                    arrays[f"{name}/{TEACHER}"],
                    {arm: arrays[f"{name}/arms/{arm}"] for arm in ARMS},
                )
                for name in ("gate", "test")
            ]
            return cls(str(arrays["setting"]), int(arrays["draw"]), *parts)


def _mixture(draw: int, folder: Path) -> PairTable:
    return mixture(draw)


def _mixture_of_few(draw: int, folder: Path) -> PairTable:
    return mixture(draw, probe_group_size=50)


def _image(draw: int, folder: Path) -> PairTable:
    return av_mnist(draw, folder=folder, teacher="image")


def _face(draw: int, folder: Path) -> PairTable:
    patterns = composed("experiment=ravdess_features", "source.root=.").source["modalities"]
    return ravdess(draw, folder=folder / "ravdess_features", patterns=patterns, teacher="face")


SETTINGS: Mapping[str, Setting] = {
    "mixture, clean": Setting(_mixture, as_it_is, 24),
    "mixture, broken pairs": Setting(_mixture, broken_pairs, 24),
    "mixture, noise": Setting(_mixture, noise, 24),
    "mixture, shifted probe": Setting(_mixture, shifted_probe, 24),
    "mixture, probe of 12 groups": Setting(_mixture_of_few, every_second_broken, 24),
    "AV-MNIST, clean": Setting(_image, as_it_is, 8),
    "AV-MNIST, broken pairs": Setting(_image, broken_pairs, 8),
    "AV-MNIST, noise": Setting(_image, noise, 8),
    "AV-MNIST, shifted probe": Setting(_image, shifted_probe, 8),
    "RAVDESS, clean": Setting(_face, as_it_is, 10),
    "RAVDESS, broken pairs": Setting(_face, broken_pairs, 10),
}


def composed(*overrides: str) -> JobConfig:
    """Return the job that some overrides stand for."""
    register_schema()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        (job,) = jobs_from(compose("config", overrides=list(overrides)))
    return job


def run_draw(name: str, draw: int, *, folder: Path, more: tuple[str, ...] = ()) -> RunScores:
    """Carry out one run in this process and return who was right on its gate part and test set.

    Args:
        name: Name of the setting.
        draw: Seed of data and networks.
        folder: Folder of the data.
        more: Further keys of jobs/expand.py.
    """
    setting = SETTINGS[name]
    with tempfile.TemporaryDirectory() as temporary:
        table = setting.spoil(setting.table(draw, folder), draw)
        keys = table.write(Path(temporary) / "table.parquet")
        job = composed(*keys, *CHEAP, f"seed={draw}", f"root={temporary}/run", *more)
        evaluation = compared(job)
    gate, test = (_scores(evaluation, part) for part in ("gate", "test"))
    return RunScores(name, draw, gate, test)


def compared(job: JobConfig) -> Evaluation:
    """Carry out all stages up to the evaluation; the gate stays closed."""
    with open_run(job) as run:
        found = before_training(run)
        train_stage(run, found.fits)
        return evaluate_stage(run, found.manifest, found.labels, found.fits)[1]


def _scores(evaluation: Evaluation, part: str) -> PartScores:
    found = getattr(evaluation, part)
    arms = {arm: found.scores[evaluation.columns[arm][0]] for arm in ARMS}
    return PartScores(np.asarray(found.group_N, dtype=str), found.scores[TEACHER], arms)
