"""The synthetic study: how much distillation gives by what the modalities share, on Gaussians."""

# K settings, N samples, D features, C classes.

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.config_focus import GaussianConfig
from mke_ray.focus.channels import random_channels
from mke_ray.focus.gaussian_data import NUM_CLASSES, Gaussian, Layout, draw_gaussian
from mke_ray.focus.linear import (
    LinearBank,
    distillation_slope,
    label_slope,
    train_bank,
    train_jointly,
)
from mke_ray.focus.saliency import Permuting, Saliency, channel_saliency
from mke_ray.seeds import mix_integers

GAMMA, ALPHA, CHANNELS = "gamma", "alpha", "channels"
EXPERIMENTS = (GAMMA, ALPHA, CHANNELS)
NUM_SEEN = 10  # decisive features of a modality in the published settings
TRAIN, DISTILL, TEST = range(3)

TEACHER, NO_KD, REGULAR = "teacher", "no_kd", "regular"
GENERAL, RANKED, SPECIFIC, RANDOM = "general", "algorithm_1", "specific", "random"
CHOICES = (GENERAL, RANKED, SPECIFIC, RANDOM)


@dataclass(frozen=True, slots=True)
class Work:
    """One experiment on some seeds, to be carried out in one process.

    Args:
        experiment: One of ``EXPERIMENTS``.
        seeds: Seeds of the data.
        keys: How it is carried out.
        rho: Share of the true labels.
        temperature: Temperature of distillation.
        num_permutations: Permutations of Algorithm 1.
    """

    experiment: str
    seeds: tuple[int, ...]
    keys: GaussianConfig
    rho: float
    temperature: float
    num_permutations: int


def layouts_of(experiment: str, keys: GaussianConfig) -> list[Layout]:
    """Return the settings of an experiment.

    ``gamma``: both modalities have 10 of 20 decisive features and share more and more of them.
    ``alpha``: the student has 10 of 50 decisive features; the teacher has these and more and more
    others. ``channels``: the student has some, the teacher these and 10 others, and no more decide.
    """
    ten = (0, NUM_SEEN)
    if experiment == GAMMA:
        return [
            Layout(20, (NUM_SEEN - one, 2 * NUM_SEEN - one), ten, 25, 50) for one in keys.overlaps
        ]
    if experiment == ALPHA:
        return [Layout(50, (0, NUM_SEEN + one), ten, 50, 50) for one in keys.extras]
    return [
        Layout(one + NUM_SEEN, (0, one + NUM_SEEN), (0, one), 50, 50, equal=True)
        for one in keys.shared
    ]


def carry_out(work: Work) -> list[dict[str, Any]]:
    """Return one record per setting and seed: accuracies on test samples, and what was ranked."""
    layouts = layouts_of(work.experiment, work.keys)
    settings = [(seed, layout) for layout in layouts for seed in work.seeds]
    with _one_thread():
        found = (_channels if work.experiment == CHANNELS else _shares)(work, settings)
    return [
        {
            "experiment": work.experiment,
            "seed": seed,
            "at": len(layout.own) / (layout.teacher[1] - layout.teacher[0])
            if work.experiment == ALPHA
            else layout.gamma,
            **{name: float(one_K[number]) for name, one_K in found.items()},
        }
        for number, (seed, layout) in enumerate(settings)
    ]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: so small products are several times as slow in two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _part(work: Work, settings: Sequence[tuple[int, Layout]], part: int) -> Gaussian:
    """Return the samples to train on, to distill on or to test."""
    num_samples = work.keys.num_test if part == TEST else work.keys.num_train
    return draw_gaussian(settings, num_samples=num_samples, part=part)


def _shares(work: Work, settings: Sequence[tuple[int, Layout]]) -> dict[str, Tensor]:
    """Return accuracies of teacher and students of the experiments on gamma and alpha."""
    train, test = _part(work, settings, TRAIN), _part(work, settings, TEST)
    teachers = _taught(work, settings, train, train.teacher_KND)
    said_KCN = teachers.logits(train.teacher_KND)
    return {
        TEACHER: teachers.accuracy(test.teacher_KND, test.truth_KN),
        NO_KD: _student(work, settings, train, test, None),
        REGULAR: _student(work, settings, train, test, said_KCN),
    }


def _channels(work: Work, settings: Sequence[tuple[int, Layout]]) -> dict[str, Tensor]:
    """Return accuracies by which channels the teacher has, and how well they were ranked.

    All teachers are trained on the same samples; students are on others, as in the paper.
    """
    parts = [_part(work, settings, part) for part in (TRAIN, DISTILL, TEST)]
    train, distill, test = parts
    ranked = _rank(work, settings, train)
    found = {NO_KD: _student(work, settings, distill, test, None)}
    num_channels = train.teacher_KND.shape[2]
    for name, kept_KD in _choices(settings, ranked, num_channels).items():
        seen = [one.teacher_KND * kept_KD[:, None] for one in parts]
        teachers = _taught(work, settings, train, seen[TRAIN])
        found[f"{TEACHER}_{name}"] = teachers.accuracy(seen[TEST], test.truth_KN)
        found[name] = _student(work, settings, distill, test, teachers.logits(seen[DISTILL]))
    precisions = [
        float(one.general(len(layout.shared))[list(layout.shared)].float().mean())
        for one, (_, layout) in zip(ranked, settings, strict=True)
    ]
    return {**found, "precision": torch.tensor(precisions)}


def _choices(
    settings: Sequence[tuple[int, Layout]], ranked: Sequence[Saliency], num_channels: int
) -> Mapping[str, Tensor]:
    """Return which channels every teacher has [K, D], by the name of the choice."""
    found: dict[str, list[Tensor]] = {name: [] for name in (REGULAR, *CHOICES)}
    for (seed, layout), one in zip(settings, ranked, strict=True):
        num = len(layout.shared)
        generator = torch.Generator().manual_seed(mix_integers(seed, 10))
        found[REGULAR].append(torch.ones(num_channels, dtype=torch.bool))
        found[GENERAL].append(_chosen(num_channels, layout.shared))
        found[RANKED].append(one.general(num))
        found[SPECIFIC].append(_chosen(num_channels, layout.own))
        found[RANDOM].append(random_channels(num_channels, num, generator))
    return {name: torch.stack(some).float() for name, some in found.items()}


def _chosen(num_channels: int, chosen: Sequence[int]) -> Tensor:
    """Return which channels are some of them [D], bool."""
    kept_D = torch.zeros(num_channels, dtype=torch.bool)
    kept_D[list(chosen)] = True
    return kept_D


def _rank(work: Work, settings: Sequence[tuple[int, Layout]], train: Gaussian) -> list[Saliency]:
    """Rank the channels of every teacher by Algorithm 1."""
    seen = (train.teacher_KND, train.student_KND)
    teachers, students = train_jointly(
        (_drawn(settings, seen[0], 20), _drawn(settings, seen[1], 21)),
        seen,
        train.hot_truth(),
        num_steps=work.keys.num_steps,
    )
    return [
        channel_saliency(
            _network(teachers, number, place=0),
            _network(students, number, place=1),
            [(train.teacher_KND[number], train.student_KND[number])],
            layer="0",
            permuting=Permuting(work.num_permutations, seed),
            ask=lambda network, pair: network(pair),
        )
        for number, (seed, _) in enumerate(settings)
    ]


class _Pick(nn.Module):
    """One of several tensors."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def forward(self, several: Sequence[Tensor]) -> Tensor:
        """Return it."""
        return several[self.place]


def _network(bank: LinearBank, number: int, *, place: int) -> nn.Module:
    """Return one of the classifiers as a network whose layer 0 says its channels."""
    weight_CD = bank.weight_KCD[number]
    layer = nn.Linear(weight_CD.shape[1], weight_CD.shape[0])
    layer.load_state_dict({"weight": weight_CD, "bias": bank.bias_KC1[number, :, 0]})
    return nn.Sequential(_Pick(place), layer)


def _taught(
    work: Work, settings: Sequence[tuple[int, Layout]], train: Gaussian, x_KND: Tensor
) -> LinearBank:
    """Return teachers trained on true labels of what they see."""
    slope = label_slope(train.hot_truth())
    bank = _drawn(settings, x_KND, 22)
    return train_bank(bank, x_KND, slope, num_steps=work.keys.num_steps, lr=work.keys.lr)


def _student(
    work: Work,
    settings: Sequence[tuple[int, Layout]],
    train: Gaussian,
    test: Gaussian,
    teacher_KCN: Tensor | None,
) -> Tensor:
    """Return the accuracy of students of true labels, and of teachers where they are given [K]."""
    slope = label_slope(train.hot_truth())
    if teacher_KCN is not None:
        slope = distillation_slope(
            train.hot_truth(), teacher_KCN, rho=work.rho, temperature=work.temperature
        )
    bank = _drawn(settings, train.student_KND, 23)
    trained = train_bank(
        bank, train.student_KND, slope, num_steps=work.keys.num_steps, lr=work.keys.lr
    )
    return trained.accuracy(test.student_KND, test.truth_KN)


def _drawn(settings: Sequence[tuple[int, Layout]], x_KND: Tensor, stream: int) -> LinearBank:
    """Return classifiers with random weights by the seeds of their settings."""
    seeds = [mix_integers(seed, stream) for seed, _ in settings]
    return LinearBank.drawn(seeds, x_KND.shape[2], NUM_CLASSES)
