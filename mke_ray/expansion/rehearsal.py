"""The rehearsal behind ``dry_run=true``: everything is built and tried once, nothing is kept."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from itertools import islice

import numpy as np
import torch
from rich.console import Console

from mke_ray.config import build
from mke_ray.config_schema import JobConfig
from mke_ray.data.codec import decode_modality, empty_modality, encode_modality
from mke_ray.data.manifest import manifest_row
from mke_ray.data.sources import Decoded, Source
from mke_ray.data.views import View
from mke_ray.errors import ConfigError, MediaError
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.run import Run
from mke_ray.models.student import build_student
from mke_ray.models.teachers import Teacher
from mke_ray.objectives import Objective
from mke_ray.schema import Batch, Split
from mke_ray.train.engine import build_optimizer
from mke_ray.train.loop import apply_views

NUM_SAMPLES = 2
MAX_TRIES = 50
MAX_COUNTED = 200_000
_ROW_BYTES = 320  # of a sample whose media are not kept: id, status, signatures, digests


def rehearse(job: JobConfig, console: Console) -> None:
    """Compose, build everything, read two samples, run one step, write nothing.

    Args:
        job: The configuration.
        console: Where the findings are printed.

    Raises:
        ConfigError: Something cannot work; it names the key and the way out.
    """
    with tempfile.TemporaryDirectory(prefix="mke_ray_dry_run_") as scratch:
        run = check_job(job)
        source = _source_to_read(run, scratch)
        console.print(f"configuration   fine; arms {', '.join(run.arms)}")
        decoded, num_tried = _read_some(source, run)
        pieces = [_encode(one, run) for one in decoded]
        num_bytes = round(sum(_num_bytes(one) for one in pieces) / len(pieces))
        console.print(f"source          {len(decoded)} samples read of {num_tried} tried")
        _count(run, console, num_bytes=num_bytes)
        batch = _batch(pieces, run)
        _try_teacher(run, batch, console)
        _try_students(run, batch, console)
        console.print(f"nothing was written to {run.root.uri}")


def _source_to_read(run: Run, scratch: str) -> Source:
    """Return the source; of one that makes its own data, a few samples in a scratch folder."""
    preview = getattr(run.source, "preview", None)
    return run.source if preview is None else preview(scratch)


def _read_some(source: Source, run: Run) -> tuple[list[Decoded], int]:
    """Read the first samples that can be read.

    Raises:
        ConfigError: None of the first ones can be read.
    """
    reader = source.reader(run.decode)
    found: list[Decoded] = []
    reasons: Counter[str] = Counter()
    first = ""
    for number, row in enumerate(islice(source.rows(), MAX_TRIES), start=1):
        try:
            found.append(reader.read(manifest_row(row)))
        except MediaError as error:
            reasons[error.reason] += 1
            first = first or f"{row.key}: {error}"
        if len(found) == NUM_SAMPLES:
            return found, number
    if not found:
        raise ConfigError(
            f"source: none of the first {sum(reasons.values())} samples can be read "
            f"({dict(reasons)}; the first is {first}); look at source.root and the files"
        )
    return found, len(found) + sum(reasons.values())


def _encode(decoded: Decoded, run: Run) -> dict[str, list[bytes]]:
    """Return a sample as it would be stored."""
    return {name: encode_modality(x, run.decode[name]) for name, x in decoded.arrays.items()}


def _num_bytes(pieces: Mapping[str, list[bytes]]) -> int:
    """Return the bytes that a sample takes in the store."""
    return sum(len(piece) for some in pieces.values() for piece in some)


def _count(run: Run, console: Console, *, num_bytes: int) -> None:
    """Say how many samples there are and what they will take."""
    if not run.job.samples:
        console.print(
            f"samples=off     the media of a sample ({num_bytes / 1e3:.1f} kB) are not kept; "
            "training and evaluation decode again from the source"
        )
        num_bytes = _ROW_BYTES
    if hasattr(run.source, "preview"):
        console.print(f"storage         about {num_bytes / 1e3:.1f} kB per sample")
        return
    splits = Counter(row.split for row in islice(run.source.rows(), MAX_COUNTED))
    total = sum(splits.values())
    more = "at least " if total == MAX_COUNTED else ""
    named = ", ".join(f"{splits[split]:,} {split}" for split in Split if splits[split])
    console.print(f"samples         {more}{total:,}: {named}")
    console.print(
        f"storage         {more}{total * num_bytes / 1e9:.2f} GB of samples "
        f"({num_bytes / 1e3:.1f} kB each)"
    )


def _batch(pieces: list[dict[str, list[bytes]]], run: Run) -> Batch:
    """Return the samples as training would see them, with a made-up target."""
    arrays, present = {}, {}
    for name, spec in run.decode.items():
        rows = [
            decode_modality(one[name], spec) if name in one else empty_modality(spec)
            for one in pieces
        ]
        arrays[name] = torch.from_numpy(np.stack(rows))
        present[name] = torch.tensor([name in one for one in pieces])
    num = len(pieces)
    target_BC = torch.zeros(num, run.source.label_space.num_classes)
    target_BC[:, 0] = 1.0
    return Batch(torch.arange(num), arrays, present, target_BC, torch.ones(num))


def _try_teacher(run: Run, batch: Batch, console: Console) -> None:
    """Let the teacher answer; one that will be trained answers untrained."""
    modality = run.job.teacher.modality
    num_classes = run.source.label_space.num_classes
    if run.job.teacher.train:
        student = build_student(run.teacher_fit("samples").student, num_classes, build=build)
        logits = student({modality: batch.arrays[modality]}, batch.present)
        said = "will be trained on the labelled split"
    else:
        teacher: Teacher = build(run.job.teacher.network, Teacher)
        logits = teacher.predict(batch.arrays[modality])
        said = "yours"
    if tuple(logits.shape) != (batch.num_samples, num_classes):
        raise ConfigError(
            f"teacher.network answers with shape {tuple(logits.shape)}, expected "
            f"{(batch.num_samples, num_classes)}: one logit per class of the source"
        )
    console.print(f"teacher         reads {modality}, {said}")


def _try_students(run: Run, batch: Batch, console: Console) -> None:
    """Take one step with every arm."""
    settings = run.arm_settings("samples", "labels", teacher=None, num_select=1)
    for fit in settings.fits(run.arms, run.job.model_seeds[:1]):
        student = build_student(fit.student, batch.target_BC.shape[1], build=build)
        objective: Objective = build(fit.objective)
        optimizer = build_optimizer(student.parameters(), fit.optimizer)
        views: dict[str, View] = {name: build(view) for name, view in fit.views.items()}
        losses = objective(student, apply_views(batch, views), 0.0)
        losses["loss"].backward()
        optimizer.step()
        num = sum(one.numel() for one in student.parameters())
        loss = float(losses["loss"].detach())
        console.print(f"{fit.arm:<20} {num:,} parameters, one step, loss {loss:.3f}")
