"""One draw of the data: teachers, students distilled from them, and from chosen channels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.config import build
from mke_ray.config_schema import JobConfig
from mke_ray.data.sources import Source
from mke_ray.errors import ConfigError
from mke_ray.focus.channels import keep_channels, num_kept_of, random_channels
from mke_ray.focus.fitting import (
    REFIT_SHARE,
    by_objective,
    fit_networks,
    jointly,
    num_steps_of,
)
from mke_ray.focus.keys import CROSSMODAL, MULTIMODAL
from mke_ray.focus.left_out import NO_CLASS, LeftOut
from mke_ray.focus.saliency import Permuting, Saliency, answer, channel_saliency
from mke_ray.focus.samples import (
    joined,
    labelled,
    rebatched,
    sample_store,
    source_batches,
    stored_batches,
    version_of_rows,
)
from mke_ray.models.student import build_student
from mke_ray.objectives import DistillationObjective, MKEObjective
from mke_ray.schema import Batch, DecodeSpec, LabelKind, Split, decode_spec_from_dict
from mke_ray.seeds import mix_integers

UNIMODAL = "unimodal"
NO_KD = "no_kd"
ALL, GENERAL, SPECIFIC, RANDOM = "all_channels", "general", "specific", "random"
TEACHERS = (UNIMODAL, CROSSMODAL, MULTIMODAL)
CHOICES = (ALL, GENERAL, SPECIFIC, RANDOM)
ARMS = (NO_KD, *TEACHERS, *CHOICES)

_STREAMS = {name: number for number, name in enumerate((*TEACHERS, "joint", "student", "order"))}


@dataclass(slots=True)
class Draw:
    """One draw of the data with what is trained on it.

    Args:
        job: Its configuration.
        decode: Specification of the modalities.
        train: Samples to train on.
        test: Samples of the test.
        num_classes: Number of classes.
        left_out: Samples that are not used, by what they are for and why they are not.
        teachers: Trained teachers by name.
    """

    job: JobConfig
    decode: DecodeSpec
    train: Batch
    test: Batch
    num_classes: int
    left_out: dict[str, dict[str, int]]
    teachers: dict[str, nn.Module] = field(default_factory=dict)

    def seed(self, stream: str) -> int:
        """Return the seed of something that is drawn."""
        return mix_integers(self.job.seed, self.job.data_seed, _STREAMS[stream])

    def network(self, modalities: Sequence[str], stream: str, *, is_teacher: bool) -> nn.Module:
        """Return a network with random weights that has seen the scale of its inputs."""
        spec = network_spec(self.job, modalities, is_teacher=is_teacher)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed(stream))
            network = build_student(spec, self.num_classes, build=build)
        network.observe(self.train.arrays, self.train.present)
        network.freeze_normalisation()
        return network

    def accuracies(self, network: nn.Module) -> dict[str, float]:
        """Return the share of the samples of the test that a network has right."""
        return {"test": _accuracy(network, self.test)}


def measure_draw(job: JobConfig) -> dict[str, Any]:
    """Train and measure everything on one draw of the data.

    Args:
        job: Its configuration.

    Returns:
        Accuracies of students and teachers by arm, and the saliency of every channel.
    """
    draw = open_draw(job)
    roles = roles_of(job)
    for name in TEACHERS:
        draw.teachers[name] = draw.network(roles[name], name, is_teacher=True)
        _learn(draw, draw.teachers[name])
    ranked, base = _ranked(draw)
    for name, kept_D in _choices(draw, ranked).items():
        draw.teachers[name] = _refitted(draw, base, kept_D)
    students = {NO_KD: draw.accuracies(_student(draw, None))}
    for name, teacher in draw.teachers.items():
        students[name] = draw.accuracies(_student(draw, teacher))
    return {
        "data_seed": job.data_seed,
        "num_train": draw.train.num_samples,
        "num_test": draw.test.num_samples,
        "left_out": draw.left_out,
        "students": students,
        "teachers": {name: draw.accuracies(one) for name, one in draw.teachers.items()},
        "saliency": [round(float(one), 6) for one in ranked.shares()],
        "distance": {
            "unpermuted": ranked.unpermuted,
            "least": float(ranked.distance_D.min()),
            "largest": float(ranked.distance_D.max()),
        },
    }


def open_draw(job: JobConfig) -> Draw:
    """Read the samples of a draw.

    Raises:
        ConfigError: A split has none that are labelled and have all modalities.
    """
    source: Source = build(job.source)
    if job.focus.samples is None:
        source.prepare()
    specs = decode_spec_from_dict(job.decode)
    decode = {name: specs[name] for name in job.student.encoders}
    num_classes = source.label_space.num_classes
    (train, few), (test, fewer) = (
        _labelled_samples(job, decode, splits, num_classes)
        for splits in (job.focus.splits, [Split.TEST])
    )
    left_out = {"train": dict(few.reasons), "test": dict(fewer.reasons)}
    return Draw(job, decode, train, test, num_classes, left_out)


def _labelled_samples(
    job: JobConfig, decode: DecodeSpec, splits: Sequence[str], num_classes: int
) -> tuple[Batch, LeftOut]:
    """Return the samples of some splits that are labelled and have all modalities, and the others.

    Raises:
        ConfigError: There are none, or too many cannot be read.
    """
    some, left_out = [], LeftOut()
    for one in batches_of(job, decode, splits, num_classes, left_out=left_out):
        some.append(labelled(one))
        if num_unknown := one.num_samples - some[-1].num_samples:
            left_out.reasons[NO_CLASS] += num_unknown
    left_out.check(job.labelling.max_bad_fraction)
    if not sum(one.num_samples for one in some):
        raise ConfigError(
            f"focus.splits={job.focus.splits}: no sample of {[*map(str, splits)]} has all of "
            f"{list(decode)} and a true class; give rows of these splits their labels"
        )
    return joined(some), left_out


def batches_of(
    job: JobConfig,
    decode: DecodeSpec,
    splits: Sequence[str],
    num_classes: int,
    *,
    left_out: LeftOut | None = None,
) -> Iterator[Batch]:
    """Yield the samples of some splits, from the source or the store that the job names."""
    if job.focus.samples is None:
        return source_batches(job.source, decode, splits, left_out=left_out)
    store, manifest = sample_store(job.focus.samples, job.storage.options)
    return stored_batches(store, manifest, decode, splits, num_classes, left_out=left_out)


def data_version(job: JobConfig) -> str:
    """Return what changes with the rows that a draw reads, of the source or the store."""
    splits = [*job.focus.splits, Split.TEST]
    if job.focus.samples is not None:
        _, manifest = sample_store(job.focus.samples, job.storage.options)
        return manifest.digest(splits)
    source: Source = build(job.source)
    source.prepare()
    return version_of_rows(source, splits)


def roles_of(job: JobConfig) -> dict[str, list[str]]:
    """Return the modalities of the student and of every teacher.

    Raises:
        ConfigError: The student's modality has no encoder, or there is no other.
    """
    names = sorted(job.student.encoders)
    student = job.focus.student
    if student is None:
        others = [one for one in names if one != job.teacher.modality]
        student = others[0] if others else job.teacher.modality
    if student not in names or len(names) < 2:
        raise ConfigError(
            f"focus.student={student}: student.encoders has {names}; a crossmodal teacher needs "
            "the student's modality and at least one other among them"
        )
    others = [one for one in names if one != student]
    return {"student": [student], UNIMODAL: [student], CROSSMODAL: others, MULTIMODAL: names}


def network_spec(job: JobConfig, modalities: Sequence[str], *, is_teacher: bool) -> dict[str, Any]:
    """Return what a network of some modalities is built from."""
    encoders = {**job.student.encoders, **(job.focus.teacher_encoders if is_teacher else {})}
    is_joined = len(modalities) > 1
    return {
        "encoders": {name: encoders[name] for name in modalities},
        "fusion": job.student.fusion if is_joined else {"type": "concat"},
        "head_hidden": list(job.student.head_hidden),
        "dropout": job.student.dropout,
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
        rebatched(
            batches_of(job, draw.decode, job.focus.splits, draw.num_classes), job.focus.batch_rows
        ),
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


@torch.no_grad()
def _accuracy(network: nn.Module, batch: Batch) -> float:
    """Return the share of samples that a network has right."""
    said_B = answer(network.eval(), batch).argmax(dim=1)
    return float((said_B == batch.target_BC.argmax(dim=1)).float().mean())
