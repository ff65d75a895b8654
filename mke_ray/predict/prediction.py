"""jobs/predict.py: a student over all samples of a source, to files of answers."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from rich.console import Console

from mke_ray.config_predict import PredictConfig
from mke_ray.data.codec import decode_modality, empty_modality
from mke_ray.data.manifest import Manifest, manifest_row, write_manifest
from mke_ray.data.sources import Previewed, Source
from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels.dense import DenseForm
from mke_ray.labels.labelling import PassReport
from mke_ray.labels.lazy_runner import LazyRunner
from mke_ray.labels.plan import LabelPlan
from mke_ray.labels.rows import decode_row
from mke_ray.labels.verify import verify
from mke_ray.predict.answers import AnswerForm
from mke_ray.predict.asking import ask, asking_plan
from mke_ray.predict.publishing import ANSWERS_FOLDER, AnswersPlan, Published, publish
from mke_ray.predict.setting import Setting, checked, opened
from mke_ray.report.progress import stage_progress
from mke_ray.report.terminal import counts_line, terminal
from mke_ray.schema import Status

logger = logging.getLogger(__name__)

_MOST_TRIED = 20
_NUM_TRIED = 2
_PLACES = ("table", "root")  # keys that say where a source is


def predict(jobs: Sequence[PredictConfig]) -> None:
    """Carry out some jobs, or rehearse them."""
    for job in jobs:
        if job.dry_run:
            rehearse(job, terminal())
        else:
            predict_all(job)


def predict_all(job: PredictConfig) -> tuple[PassReport, Published]:
    """Ask the student about every sample and publish its answers; finished work is not repeated.

    Args:
        job: The configuration.

    Returns:
        What the pass did and found, and the files of answers.

    Raises:
        ConfigError: Something in the configuration cannot work.
        MediaError: More samples are unreadable than ``labelling.max_bad_fraction`` allows.
        StoreError: There is no student, or another driver works on the root.
    """
    with opened(job) as setting:
        manifest = _listed(setting)
        plan = asking_plan(setting, manifest)
        refs = list(manifest.unit_refs())
        report = ask(setting, plan, refs)
        logger.info("%s", counts_line(report.counts))
        if job.verify:
            _verify(plan)
        with stage_progress("write answers", unit="units") as progress:
            published = publish(
                _answers_plan(setting, plan),
                refs,
                report,
                LazyRunner(setting.runner, lambda text: progress(0, 0, text), is_light=True),
                progress=progress,
                lease=setting.lease,
            )
        logger.info(
            "answers: %s (%d files, %d written now)",
            setting.root.child(ANSWERS_FOLDER).uri,
            len(published.names),
            published.num_written,
        )
        return report, published


def rehearse(job: PredictConfig, console: Console) -> None:
    """Load the student, read two samples, answer them, and write nothing.

    Args:
        job: The configuration.
        console: Where the findings are printed.

    Raises:
        ConfigError: Something cannot work; it names the key and the way out.
    """
    with tempfile.TemporaryDirectory(prefix="mke_ray_dry_run_") as scratch:
        setting = checked(job)
        source = setting.source
        if isinstance(source, Previewed):
            source = source.preview(scratch)
        source.prepare()
        space, names = setting.student.label_space, setting.student.modalities
        console.print(
            f"student         reads {', '.join(names)}; {space.num_classes} classes, "
            f"temperature {setting.temperature:.2f}"
        )
        for line in _tried(setting, source):
            console.print(line, soft_wrap=True)
        console.print(f"nothing was written to {setting.root.uri}", soft_wrap=True)


def _tried(setting: Setting, source: Source) -> list[str]:
    """Return what the student says of the first samples that can be read.

    Raises:
        ConfigError: None of those tried can be.
    """
    decode, lines, why = setting.decode, [], "it lists no samples"
    reader = source.reader(decode)
    for row in islice(source.rows(), _MOST_TRIED):
        stored = decode_row(reader, manifest_row(row), decode)
        if stored.status in (Status.OK, Status.PARTIAL):
            lines.append(f"sample          {row.key}: {_said(setting, stored.pieces)}")
        else:
            why = f"{row.key}: {stored.error}"
        if len(lines) == _NUM_TRIED:
            return lines
    if lines:
        return lines
    raise ConfigError(
        f"source: none of the first {_MOST_TRIED} samples can be read ({why}); look at "
        "source.root and the files"
    )


def _said(setting: Setting, pieces: Mapping[str, list[bytes]]) -> str:
    """Return what the student says of one sample, of dense labels the class of most pixels."""
    arrays, present = {}, {}
    for name in setting.student.modalities:
        spec, there = setting.decode[name], name in pieces
        arrays[name] = (decode_modality(pieces[name], spec) if there else empty_modality(spec))[
            None
        ]
        present[name] = np.array([there])
    loaded = setting.student.loaded
    logits_BC = torch.as_tensor(setting.student.predict(arrays, present))
    mean_C = loaded.probabilities(logits_BC).reshape(logits_BC.shape[1], -1).mean(dim=1)
    top = int(mean_C.argmax())
    return f"{loaded.label_space.classes[top]}, {float(mean_C[top]):.0%}"


def _listed(setting: Setting) -> Manifest:
    """Return the newest manifest of the source.

    Raises:
        ConfigError: It lists no sample.
    """
    job = setting.job
    with stage_progress("list the source", unit="files") as progress:
        setting.source.prepare(progress)
    manifest = write_manifest(
        setting.root.child("manifest"),
        setting.source,
        unit_size=job.labelling.unit_size,
        refresh=job.refresh,
        accept_loss=job.accept_loss,
    )
    if not manifest.meta["num_units"]:
        given = [f"source.{key}={job.source[key]}" for key in _PLACES if job.source.get(key)]
        raise ConfigError(
            f"{(given or ['source'])[0]} lists no samples; name the folder, bucket or table that "
            "holds them (hidden files and notes such as .txt, .json and .csv are none)"
        )
    return manifest


def _answers_plan(setting: Setting, plan: LabelPlan) -> AnswersPlan:
    """Return the plan of what is published."""
    said, *more = plan.teachers
    form = AnswerForm(
        setting.student.label_space,
        setting.student.modalities,
        setting.temperature,
        setting.student.fingerprint(),
        root=str(setting.job.source.get("root") or ""),
        is_explained=bool(more),
        dense=DenseForm.of_spec(said.labels.spec),
    )
    explained = more[0].labels if more else None
    return AnswersPlan(setting.root, plan.manifest, form, plan.samples, said.labels, explained)


def _verify(plan: LabelPlan) -> None:
    """Compare every store with the manifest row by row, and every file with its digest.

    Raises:
        StoreError: A row is missing, is there twice or is another one, or a file is damaged.
    """
    for store in plan.stores:
        of = None if store is plan.samples else plan.samples
        with stage_progress("verify", unit="rows") as progress:
            found = verify(store, plan.manifest, samples=of, progress=progress)
        if not found.ok:
            first = found.problems[0]
            raise StoreError(
                f"{store.root.uri}: {len(found.problems)} problems in {found.num_units} units, the "
                f"first: unit {first.unit} {first.kind} ({first.detail}); delete the commit record "
                "of such units (below commits/) and start jobs/predict.py again"
            )
        logger.info("%s holds each of %d rows exactly once", store.root.uri, found.num_rows)
