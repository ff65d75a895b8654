"""One draw of the data: teachers, students distilled from them, and from chosen channels."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.config_schema import JobConfig
from mke_ray.focus.channels import keep_channels, num_kept_of, random_channels
from mke_ray.focus.draw import TEACHERS, Draw, open_draw, roles_of
from mke_ray.focus.fitting import (
    REFIT_SHARE,
    by_objective,
    fit_networks,
    jointly,
    num_steps_of,
)
from mke_ray.focus.saliency import Permuting, Saliency, answer, channel_saliency
from mke_ray.focus.samples import rebatched
from mke_ray.models.device import training_device
from mke_ray.objectives import DistillationObjective, MKEObjective
from mke_ray.schema import Batch, LabelKind

NO_KD = "no_kd"
ALL, GENERAL, SPECIFIC, RANDOM = "all_channels", "general", "specific", "random"
CHOICES = (ALL, GENERAL, SPECIFIC, RANDOM)
ARMS = (NO_KD, *TEACHERS, *CHOICES)


def measure_draw(job: JobConfig) -> dict[str, Any]:
    """Train and measure everything on one draw of the data, on the device that is asked for.

    Args:
        job: Its configuration.

    Returns:
        See ``measured``.

    Raises:
        ConfigError: ``scaling.gpus_per_worker`` asks for a GPU, and this process has none.
    """
    return measured(open_draw(job, training_device(job.scaling.gpus_per_worker)))


def measured(draw: Draw) -> dict[str, Any]:
    """Train and measure everything on samples that were read.

    Args:
        draw: The draw; its teachers are added to it.

    Returns:
        Accuracies of students and teachers by arm, and the saliency of every channel.
    """
    roles = roles_of(draw.job)
    for name in TEACHERS:
        draw.teachers[name] = draw.network(roles[name], name, is_teacher=True)
        _learn(draw, draw.teachers[name])
    ranked, base = _ranked(draw)
    for name, kept_D in _choices(draw, ranked).items():
        draw.teachers[name] = _refitted(draw, base, kept_D)
    students = {NO_KD: _accuracies(draw, _student(draw, None))}
    for name, teacher in draw.teachers.items():
        students[name] = _accuracies(draw, _student(draw, teacher))
    return {
        "data_seed": draw.job.data_seed,
        "num_train": draw.train.num_samples,
        "num_test": draw.test.num_samples,
        "left_out": draw.left_out,
        "students": students,
        "teachers": {name: _accuracies(draw, one) for name, one in draw.teachers.items()},
        "saliency": [round(float(one), 6) for one in ranked.shares()],
        "distance": {
            "unpermuted": ranked.unpermuted,
            "least": float(ranked.distance_D.min()),
            "largest": float(ranked.distance_D.max()),
        },
    }


def _learn(draw: Draw, network: nn.Module) -> None:
    """Train a network on true labels alone."""
    loss = by_objective(MKEObjective(alpha=0.0), network)
    fit_networks([network], loss, draw.train, draw.job.fit, seed=draw.seed("order"))


def _student(draw: Draw, teacher: nn.Module | None) -> nn.Module:
    """Return a student of true labels, and of a teacher where there is one.

    All students begin with the same weights and see the samples in the same order.
    """
    roles, keys = roles_of(draw.job), draw.job.focus
    network = draw.network(roles["student"], "student", is_teacher=False)
    if teacher is None:
        _learn(draw, network)
        return network
    objective = DistillationObjective(teacher, keys.rho, keys.temperature)
    loss = by_objective(objective, network)
    fit_networks([network], loss, draw.train, draw.job.fit, seed=draw.seed("order"))
    return network


def _ranked(draw: Draw) -> tuple[Saliency, nn.Module]:
    """Rank the channels of a teacher trained together with a student, and return both."""
    job, roles = draw.job, roles_of(draw.job)
    teacher = draw.network(roles[job.focus.select_from], "joint", is_teacher=True)
    student = draw.network(roles["student"], "student", is_teacher=False)
    loss = jointly(teacher, student, kind=LabelKind.SINGLE)
    fit_networks([teacher, student], loss, draw.train, job.fit, seed=draw.seed("order"))
    ranked = channel_saliency(
        teacher,
        student,
        rebatched(draw.ranked_on(), job.focus.batch_rows),
        layer=job.focus.layer,
        permuting=Permuting(job.focus.num_permutations, draw.seed("joint")),
    )
    return ranked, teacher


def _choices(draw: Draw, ranked: Saliency) -> dict[str, Tensor]:
    """Return which channels a teacher keeps [D], by the name of the choice."""
    num = len(ranked.distance_D)
    num_kept = num_kept_of(num, draw.job.focus.kept)
    generator = torch.Generator().manual_seed(draw.seed("joint"))
    return {
        ALL: torch.ones(num, dtype=torch.bool),
        GENERAL: ranked.general(num_kept),
        SPECIFIC: ranked.specific(num_kept),
        RANDOM: random_channels(num, num_kept, generator),
    }


def _refitted(draw: Draw, base: nn.Module, kept_D: Tensor) -> nn.Module:
    """Return a teacher of some channels whose later layers were trained on these."""
    job = draw.job
    teacher = keep_channels(base, job.focus.layer, kept_D)
    num_steps = max(1, round(REFIT_SHARE * num_steps_of(job.fit, draw.train.num_samples)))
    loss = by_objective(MKEObjective(alpha=0.0), teacher)
    keys = replace(job.fit, num_steps=num_steps)
    fit_networks([teacher], loss, draw.train, keys, seed=draw.seed("order"))
    return teacher


def _accuracies(draw: Draw, network: nn.Module) -> dict[str, float]:
    """Return the share of the samples of the test that a network has right."""
    return {"test": _accuracy(network, draw.test)}


@torch.no_grad()
def _accuracy(network: nn.Module, batch: Batch) -> float:
    """Return the share of samples that a network has right."""
    said_B = answer(network.eval(), batch).argmax(dim=1)
    return float((said_B == batch.target_BC.argmax(dim=1)).float().mean())
