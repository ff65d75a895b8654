"""The rehearsal behind ``dry_run=true``: everything is built and tried once, nothing is kept."""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from mke_ray.config import build
from mke_ray.config_schema import JobConfig
from mke_ray.data.codec import decode_modality, empty_modality
from mke_ray.data.sources import Noted, Previewed, Source
from mke_ray.data.views import View
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.cluster_room import cluster_lines
from mke_ray.expansion.estimate import (
    LABEL_BYTES_PER_CLASS,
    Each,
    Estimate,
    estimate_lines,
    means,
    workers_of,
)
from mke_ray.expansion.needed_splits import check_needed_splits
from mke_ray.expansion.preflight_keys import preflight_lines
from mke_ray.expansion.probing import Census, Probed, census, probe
from mke_ray.expansion.refining_storage import label_form, stores_of_refining
from mke_ray.expansion.run import Run
from mke_ray.expansion.teacher_trial import try_teachers
from mke_ray.expansion.token_keys import token_lines
from mke_ray.expansion.training_time import Tried, training_lines
from mke_ray.expansion.witnesses import teachers_of, witness_fit, witnessed
from mke_ray.gate import num_effective_groups
from mke_ray.labels.dense import dense_size
from mke_ray.labels.folds import even_folds
from mke_ray.models.student import build_student
from mke_ray.objectives import Objective
from mke_ray.schema import Batch, LabelKind, Split
from mke_ray.train.arms import ArmSettings
from mke_ray.train.fits import FitSpec
from mke_ray.train.loop import apply_views
from mke_ray.train.optimizers import build_optimizer

NUM_SAMPLES = 2
NUM_OF_PREVIEW = 1000
_NUM_TIMED = 32  # samples of a step that is timed
_SLOW_S = 0.5  # a first step that takes longer is not repeated with more of them

ROW_BYTES = 320  # of a sample whose media are not kept: id, status, signatures, digests
_UNKEPT = (
    "samples=off     media are not kept: training, evaluation and another teacher decode again\n"
    "                from the source"
)


def rehearse(job: JobConfig, console: Console) -> None:
    """Compose, build everything, read some samples, run one step, write nothing.

    Args:
        job: The configuration.
        console: Where the findings are printed.

    Raises:
        ConfigError: Something cannot work; it names the key and the way out.
    """
    with tempfile.TemporaryDirectory(prefix="mke_ray_dry_run_") as scratch:
        run = check_job(job)
        source, is_preview = _source_to_read(run, scratch)
        console.print(f"configuration   fine; arms {', '.join(run.arms)}")
        found = census(source, select_fraction=job.gate.select_fraction)
        if found.is_whole and found.num_samples and not is_preview:
            check_needed_splits(job, found.splits)
        good, bad = probe(source, found.in_turn(), run.decode)
        said = _source_lines(found, good, bad)
        for line in [*said[is_preview:], *gate_lines(run, found, is_preview=is_preview)]:
            console.print(line)
        for line in token_lines(run.decode, good):
            console.print(line)
        for note in source.notes() if isinstance(source, Noted) else ():
            console.print(f"noted           {note}")
        teacher_s = try_teachers(run, good, console)
        tried = _try_students(run, _batch(good[:NUM_SAMPLES], run), console)
        num_unlabeled, is_whole = found.splits[Split.UNLABELED], found.is_whole and not is_preview
        ahead = preflight_lines(job, num_unlabeled=num_unlabeled, is_whole=is_whole)
        for line in [*ahead, *_refining_lines(run)]:
            console.print(line)
        training = training_lines(job, tried)
        for line in _estimate_lines(
            run, found, good, teacher_s=teacher_s, training=training, is_preview=is_preview
        ):
            console.print(line)
        for line in cluster_lines(job):
            console.print(line)
        console.print(f"nothing was written to {run.root.uri}")


def _source_to_read(run: Run, scratch: str) -> tuple[Source, bool]:
    """Return the source; of one that makes its own data, a few samples in a scratch folder."""
    if isinstance(run.source, Previewed):
        return run.source.preview(scratch), True
    return run.source, False


def _source_lines(found: Census, good: Sequence[Probed], bad: Sequence[Probed]) -> list[str]:
    """Say what the source lists and what of it can be read."""
    named = ", ".join(f"{found.splits[one]:,} {one}" for one in Split if found.splits[one])
    unread = ""
    if bad:
        reasons = Counter(next(iter(one.stored.missing.values())) for one in bad)
        first = f"{bad[0].row.key}: {bad[0].stored.error}"
        unread = f"; {len(bad)} cannot be read ({dict(reasons)}; the first is {first})"
    return [
        f"samples         {'' if found.is_whole else 'at least '}{found.num_samples:,}: {named}",
        f"source          {len(good)} samples read of {len(good) + len(bad)} tried{unread}",
    ]


def gate_lines(run: Run, found: Census, *, is_preview: bool = False) -> list[str]:
    """Say whether the gate will have enough samples to verify the student."""
    gate = run.job.gate
    num_probe = found.splits[Split.PROBE]
    if not num_probe and found.is_whole:
        return [
            "gate            no rows with split=probe: the gate cannot verify the student, and the "
            "teacher\n                stays; give some labelled samples that split"
        ]
    if is_preview or not found.is_whole:
        return []
    num_groups = len(found.gate_groups)
    said = (
        f"gate            {found.num_gate:,} of {num_probe:,} probe samples are the gate's part, "
        f"of {num_groups:,} groups"
    )
    if found.num_gate < gate.min_samples:
        said += _unverified(run, f"fewer samples than gate.min_samples={gate.min_samples}")
    elif round(num_effective_groups(list(found.gate_groups.values()))) < gate.min_groups:
        said += _unverified(run, f"fewer of like size than gate.min_groups={gate.min_groups}")
    return [said]


def _unverified(run: Run, shortage: str) -> str:
    """Say that the gate will have too little, and what helps."""
    return (
        f", {shortage}:\n                the verdict will be unverified; "
        f"{_way_to_more_probe(run)},\n"
        "                or lower gate.select_fraction or that key"
    )


def _way_to_more_probe(run: Run) -> str:
    """Say how the probe gets more samples."""
    is_drawn = bool(run.job.source.get("splits"))
    return "draw more by source.splits.probe" if is_drawn else "add samples with split=probe"


def _estimate_lines(
    run: Run,
    found: Census,
    good: Sequence[Probed],
    *,
    teacher_s: float | None,
    training: Sequence[str],
    is_preview: bool,
) -> list[str]:
    """Say what the pass over all samples will take, per thousand of a source yet to be made."""
    ray_address = run.job.ray.address or os.environ.get("RAY_ADDRESS") or "local"
    estimate = Estimate(
        num_samples=NUM_OF_PREVIEW if is_preview else found.num_samples,
        each=_kept(means(good, found.splits), run),
        teacher_s=teacher_s,
        workers=workers_of(run.job, is_cluster=ray_address != "local"),
        num_classes=run.source.label_space.num_classes,
        label_bytes_each=_label_bytes(run),
        cost_per_hour=run.job.labelling.cost_per_hour,
        num_stores=1 + len(run.job.more_teachers),
        refining_bytes=_refining_bytes(run, found, is_preview=is_preview),
        unit_size=run.job.labelling.unit_size,
    )
    least = "" if found.is_whole else "at least"
    whole = f"each {NUM_OF_PREVIEW:,}" if is_preview else f"{least} {found.num_samples:,}".strip()
    unkept = [] if run.job.samples else [_UNKEPT]
    return [
        *unkept,
        f"estimate        for {whole} samples, from {len(good)} that were read",
        *estimate_lines(estimate, least=least, is_local=run.root.is_local, training=training),
    ]


def _refining_bytes(run: Run, found: Census, *, is_preview: bool) -> float:
    """Return the bytes of all stores of refining, 0 where there is none."""
    scale = NUM_OF_PREVIEW / max(found.num_samples, 1) if is_preview else 1.0
    splits = {split: scale * num for split, num in found.splits.items()}
    return sum(one.num_bytes for one in stores_of_refining(run, splits))


def _label_bytes(run: Run) -> int:
    """Return the bytes of one teacher's label of a sample, before compression."""
    form, num_classes = label_form(run), run.source.label_space.num_classes
    return LABEL_BYTES_PER_CLASS * num_classes if form is None else form.num_bytes


def _kept(each: Each, run: Run) -> Each:
    """Return what a sample takes where its media are kept, or are not."""
    return each if run.job.samples else replace(each, stored_bytes=ROW_BYTES)


def _batch(some: Sequence[Probed], run: Run) -> Batch:
    """Return samples as training would see them, with a made-up target."""
    pieces = [one.stored.pieces for one in some]
    arrays, present = {}, {}
    for name, spec in run.decode.items():
        rows = [
            decode_modality(one[name], spec) if name in one else empty_modality(spec)
            for one in pieces
        ]
        arrays[name] = torch.from_numpy(np.stack(rows))
        present[name] = torch.tensor([name in one for one in pieces])
    num = len(pieces)
    target_BC, id_B = _made_up_target(run, num), torch.arange(num)
    return Batch(id_B, arrays, present, target_BC, torch.ones(num), fold_B=id_B)


def _witness(run: Run, settings: ArmSettings) -> list[FitSpec]:
    """Return the fit of the witnesses, where there are any."""
    if not run.job.expansion.enabled:
        return []
    folds, kind = even_folds(run.job.expansion.folds), run.source.label_space.kind
    return [witness_fit(run.job, kind, settings, folds=folds, number=0)]


def _refining_lines(run: Run) -> list[str]:
    """Say what refining the labels adds to the training of the arms."""
    keys, steps = run.job.expansion, run.job.fit.num_steps
    if not keys.enabled:
        return []
    members = keys.members if keys.members > 1 else 0
    share = keys.rounds * keys.witness_steps
    said = (
        f"refining        {keys.rounds} rounds of {keys.folds} witnesses of "
        f"{', '.join(witnessed(run.job))}"
    )
    said += f", {members} students distilled into one" if members else ""
    if several := teachers_of(run.job):
        said += f", of the labels of {', '.join(several)} together"
    if steps is None:
        return [said]
    extra = round(share * steps) + members * steps
    return [f"{said}:\n                {extra:,} steps beside {steps:,} of every arm"]


def _made_up_target(run: Run, num: int) -> Tensor:
    """Return the first class for every sample, or for every pixel of its class map."""
    space = run.source.label_space
    if space.kind == LabelKind.DENSE:
        size = dense_size(run.decode, run.job.teacher.modality)
        return torch.zeros(num, *size, dtype=torch.uint8)
    target_BC = torch.zeros(num, space.num_classes)
    target_BC[:, 0] = 1.0
    return target_BC


def _repeated(batch: Batch, num: int) -> Batch:
    """Return a batch of so many samples, the same ones again and again."""
    row_B = torch.arange(num) % batch.num_samples
    return replace(
        batch,
        sample_id_B=batch.sample_id_B[row_B],
        arrays={name: one[row_B] for name, one in batch.arrays.items()},
        present={name: one[row_B] for name, one in batch.present.items()},
        target_BC=batch.target_BC[row_B],
        weight_B=batch.weight_B[row_B],
        fold_B=None if batch.fold_B is None else batch.fold_B[row_B],
    )


def _step(
    student: torch.nn.Module, objective: Objective, optimizer: torch.optim.Optimizer, batch: Batch
) -> tuple[float, float]:
    """Take a step, and return its loss and how many seconds it took."""
    begun_s = time.perf_counter()
    loss = objective(student, batch, 0.0)["loss"]
    loss.backward()
    optimizer.step()
    return float(loss.detach()), time.perf_counter() - begun_s


def _try_students(run: Run, batch: Batch, console: Console) -> list[Tried]:
    """Take a step with every arm, and some that are timed, of more samples where they are fast."""
    settings, tried = run.trial_settings(), []
    fits = settings.fits(run.arms, run.job.model_seeds[:1])
    for fit in [*_witness(run, settings), *fits]:
        student = build_student(fit.student, run.source.label_space.num_classes, build=build)
        objective: Objective = build(fit.objective)
        optimizer = build_optimizer(student.parameters(), fit.optimizer)
        views: dict[str, View] = {name: build(view) for name, view in fit.views.items()}
        step = partial(_step, student, objective, optimizer)
        loss, first_s = step(apply_views(batch, views))
        larger = batch if first_s > _SLOW_S else _repeated(batch, _NUM_TIMED)
        step_s = min(step(apply_views(larger, views))[1] for _ in range(3))
        tried.append(Tried(fit, step_s / larger.num_samples))
        num = sum(one.numel() for one in student.parameters())
        console.print(f"{fit.arm:<20} {num:,} parameters, one step, loss {loss:.3f}")
    return tried
