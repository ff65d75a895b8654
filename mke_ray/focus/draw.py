"""One draw of the data: its samples, who reads which modalities of them, and networks for it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mke_ray.config import build
from mke_ray.config_schema import JobConfig
from mke_ray.data.sources import Source
from mke_ray.errors import ConfigError
from mke_ray.focus.keys import CROSSMODAL, MULTIMODAL, UNIMODAL
from mke_ray.focus.left_out import NO_CLASS, LeftOut
from mke_ray.focus.samples import (
    joined,
    labelled,
    sample_store,
    source_batches,
    stored_batches,
    taken,
    version_of_rows,
)
from mke_ray.models.student import build_student
from mke_ray.schema import Batch, DecodeSpec, Split, decode_spec_from_dict
from mke_ray.seeds import mix_integers

TEACHERS = (UNIMODAL, CROSSMODAL, MULTIMODAL)

_STREAMS = {name: number for number, name in enumerate((*TEACHERS, "joint", "student", "order"))}


@dataclass(slots=True)
class Draw:
    """One draw of the data with what is trained on it.

    Args:
        job: Its configuration.
        train: Samples to train on; they, the networks and the test are on one device.
        test: Samples of the test.
        ranked_on: Streams the samples that channels are ranked on, which need no labels.
        num_classes: Number of classes.
        left_out: Samples that are not used, by what they are for and why they are not.
        teachers: Trained teachers by name.
    """

    job: JobConfig
    train: Batch
    test: Batch
    ranked_on: Callable[[], Iterator[Batch]]
    num_classes: int
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
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
        network.to(self.train.weight_B.device)
        network.observe(self.train.arrays, self.train.present)
        network.freeze_normalisation()
        return network


def open_draw(job: JobConfig, device: torch.device) -> Draw:
    """Read the samples of a draw.

    Args:
        job: Its configuration.
        device: Where networks are trained and asked.

    Raises:
        ConfigError: A split has none that are labelled and have all modalities.
    """
    source: Source = build(job.source)
    if job.focus.samples is None:
        source.prepare()
    decode, num_classes = decode_of(job), source.label_space.num_classes

    def samples(splits: Sequence[str], left_out: LeftOut) -> Batch:
        batches = batches_of(job, decode, splits, num_classes, left_out=left_out)
        found = labelled_samples(job, batches, splits, left_out=left_out)
        left_out.check(job.labelling.max_bad_fraction)
        return found.to(device)

    of_train, of_test = LeftOut(), LeftOut()
    return Draw(
        job,
        samples(job.focus.splits, of_train),
        samples([Split.TEST], of_test),
        lambda: (one.to(device) for one in batches_of(job, decode, job.focus.splits, num_classes)),
        num_classes,
        {"train": dict(of_train.reasons), "test": dict(of_test.reasons)},
    )


def decode_of(job: JobConfig) -> DecodeSpec:
    """Return the specification of the modalities that are read."""
    specs = decode_spec_from_dict(job.decode)
    return {name: specs[name] for name in job.student.encoders}


def labelled_samples(
    job: JobConfig,
    batches: Iterable[Batch],
    splits: Sequence[str],
    *,
    left_out: LeftOut,
    most: int | None = None,
) -> Batch:
    """Return the samples of some batches whose true class is known.

    Args:
        job: The configuration.
        batches: Samples that have all modalities.
        splits: Splits that they are of.
        left_out: What was left out of the batches; takes note of samples without a class.
        most: How many are enough; None takes all.

    Raises:
        ConfigError: There are none.
    """
    some, num = [], 0
    for one in batches:
        some.append(labelled(one))
        num += some[-1].num_samples
        if num_unknown := one.num_samples - some[-1].num_samples:
            left_out.reasons[NO_CLASS] += num_unknown
        if most is not None and num >= most:
            break
    if not num:
        why = left_out.named() or "there is no sample"
        raise ConfigError(
            f"focus.splits={job.focus.splits}: no sample of {[*map(str, splits)]} has all of "
            f"{sorted(job.student.encoders)} and a true class ({why}); give rows of these splits "
            "their labels"
        )
    return taken(joined(some), slice(0, most))


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
        return source_batches(build(job.source), decode, splits, left_out=left_out)
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
