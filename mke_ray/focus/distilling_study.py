"""Distillation on features from configuration to content of its page; finished draws are kept."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mke_ray import __version__
from mke_ray.config import build, shown
from mke_ray.config_schema import JobConfig
from mke_ray.data.sources import Source
from mke_ray.errors import ConfigError
from mke_ray.focus.carrying import LOCAL, carried_out
from mke_ray.focus.channels import layer_of
from mke_ray.focus.distilling import ARMS, measure_draw
from mke_ray.focus.distilling_figures import distilling_pictures
from mke_ray.focus.distilling_summary import said_of, summary_of, tables_of, tiles_of
from mke_ray.focus.draw import TEACHERS, data_version, network_spec, roles_of
from mke_ray.focus.fitting import num_steps_of
from mke_ray.focus.keys import FEATURES
from mke_ray.focus.page import FocusContent
from mke_ray.focus.samples import check_store, sample_store
from mke_ray.models.device import training_device
from mke_ray.models.student import build_student
from mke_ray.schema import FeatureSpec, LabelKind, decode_spec_from_dict, fingerprint
from mke_ray.storage import open_root
from mke_ray.train.optimizers import check_optimizer, check_schedule

RECORD_NAME = "focus.json"

_VERSION = 2
_APART = ("root", "scaling", "ray", "tracking", "verbose", "dry_run", "data_seeds", "storage")


def distilling_content(jobs: Sequence[JobConfig]) -> FocusContent:
    """Carry out the study on every draw and return what there is to say of it.

    Raises:
        ConfigError: Something cannot be trained.
    """
    began_s, job = time.monotonic(), jobs[0]
    num_gpus = job.scaling.gpus_per_worker
    records = carried_out(recorded_draw, jobs, job, unit="draws", num_gpus=num_gpus)
    summary, roles = summary_of(records), roles_of(job)
    (student,) = roles["student"]
    return FocusContent(
        title=f"{job.name} · student of {student} · {len(jobs)} draws of the data",
        said=said_of(summary, student=student),
        tiles=tiles_of(summary),
        pictures=distilling_pictures(summary, records, kept=job.focus.kept),
        tables=tables_of(summary),
        plain={
            "experiment": job.name,
            "study": FEATURES,
            "metric": "accuracy",
            "seed": job.seed,
            "roles": roles,
            "layer": job.focus.layer,
            "select_from": job.focus.select_from,
            "kept": job.focus.kept,
            "rho": job.focus.rho,
            "temperature": job.focus.temperature,
            **summary,
            "records": records,
        },
        seconds=time.monotonic() - began_s,
        notes=[
            f"{records[0]['num_train']:,} samples to train on and {records[0]['num_test']:,} to "
            f"test, drawn anew for every draw. Teachers read {_read(roles)}. A distilled student "
            f"learns {job.focus.rho:.2f} of the true labels and the rest from the teacher, at "
            f"temperature {job.focus.temperature:g}; all students of a draw begin with the same "
            "weights and see the same batches.",
            f"Channels are those of layer {job.focus.layer} of the {job.focus.select_from} teacher "
            f"trained together with a student; {job.focus.num_permutations} permutations within "
            f"batches of {job.focus.batch_rows} samples.",
            _not_used(records[0]["left_out"]),
            *_left_aside(job),
        ],
    )


def _left_aside(job: JobConfig) -> list[str]:
    """Say which keys are set that this job does nothing with."""
    asked = {
        "fit.ema_decay": job.fit.ema_decay is not None,
        "fit.class_balance": job.fit.class_balance != 0,
        "fit.validate_every_steps": job.fit.validate_every_steps != 0,
        "views": bool(job.views),
        "tracking.enabled": job.tracking.enabled,
    }
    names = [name for name, is_asked in asked.items() if is_asked]
    return [f"Set, and left aside by this job: {', '.join(names)}."] if names else []


def _not_used(left_out: Mapping[str, Mapping[str, int]]) -> str:
    """Say which samples of the first draw were left out."""
    parts = [
        f"{number:,} to {name} ({why})"
        for name, reasons in left_out.items()
        for why, number in reasons.items()
    ]
    return f"Left out of the first draw: {'; '.join(parts) or 'no sample'}."


def recorded_draw(job: JobConfig) -> dict[str, Any]:
    """Return the record of a draw, measured now or read where an earlier start left it."""
    folder, inputs = open_root(job.root, job.storage.options), _inputs(job)
    if folder.exists(RECORD_NAME):
        known = json.loads(folder.read(RECORD_NAME))
        if known["inputs"] == inputs:
            return known
    record = {"inputs": inputs, **measure_draw(job)}
    folder.write(RECORD_NAME, json.dumps(record, allow_nan=False).encode())
    return record


def distilling_plan(jobs: Sequence[JobConfig]) -> list[str]:
    """Return in lines what would be trained.

    Raises:
        ConfigError: Something cannot be trained.
    """
    job, roles = jobs[0], roles_of(jobs[0])
    # A teacher each, the joint pair, three refits and all; a student per arm.
    num_fits = len(TEACHERS) + 1 + (len(ARMS) - len(TEACHERS) - 1) + len(ARMS)
    steps = "" if job.fit.num_steps is None else f" of {num_steps_of(job.fit, 1):,} steps at most"
    return [
        f"study           features: student of {', '.join(roles['student'])}; {_read(roles)}",
        f"draws           {len(jobs)}, {num_fits} fits each{steps}, {job.scaling.launch}",
    ]


def check_distilling(job: JobConfig) -> None:
    """Refuse what cannot be distilled or ranked, before any sample is read.

    Raises:
        ConfigError: It names the key and the way out, also of a GPU that is not there.
        StoreError: ``focus.samples`` is no store of these modalities.
    """
    source: Source = build(job.source)
    if source.label_space.kind is not LabelKind.SINGLE:
        raise ConfigError(
            f"focus.study=features: labels of kind {source.label_space.kind} have no accuracy; "
            "give data with one class per sample"
        )
    decode, roles = decode_spec_from_dict(job.decode), roles_of(job)
    for name in job.student.encoders:
        if not isinstance(decode.get(name), FeatureSpec):
            raise ConfigError(
                f"focus.study=features: decode.{name} is no row of features; give features "
                "(source=table), or leave that encoder out of student.encoders"
            )
    unknown = sorted(set(job.focus.teacher_encoders) - set(job.student.encoders))
    if unknown:
        raise ConfigError(
            f"focus.teacher_encoders.{unknown[0]}: student.encoders has "
            f"{sorted(job.student.encoders)}; name one of these"
        )
    if job.scaling.launch == LOCAL:
        training_device(job.scaling.gpus_per_worker)
    check_optimizer(job.fit.optimizer)
    check_schedule(job.fit.schedule)
    if job.fit.num_steps is None and job.fit.num_epochs is None:
        raise ConfigError("fit.num_steps and fit.num_epochs are both null; give one of them")
    spec = network_spec(job, roles[job.focus.select_from], is_teacher=True)
    teacher = build_student(spec, source.label_space.num_classes, build=build)
    layer_of(teacher, job.focus.layer)
    if job.focus.samples is not None:
        _check_samples(job, job.focus.samples)


def _check_samples(job: JobConfig, folder: str) -> None:
    """Refuse a store that lacks the modalities, or that would be every draw's.

    Raises:
        ConfigError: There would be several draws of it.
        StoreError: There is none, or not of these modalities.
    """
    if (job.data_seeds or 1) > 1:
        raise ConfigError(
            f"data_seeds={job.data_seeds}: focus.samples={folder} holds one draw of the data, so "
            "every draw would be the same samples; leave data_seeds out, or focus.samples"
        )
    decode = decode_spec_from_dict(job.decode)
    store, _ = sample_store(folder, job.storage.options)
    check_store(store, {name: decode[name] for name in job.student.encoders})


def _inputs(job: JobConfig) -> str:
    """Return a fingerprint of all that a record depends on."""
    plain = {key: value for key, value in shown(job).items() if key not in _APART}
    made = str(plain["source"].get("made") or "")
    if made.startswith(f"{job.root}/"):
        plain["source"] = {key: one for key, one in plain["source"].items() if key != "made"}
    return fingerprint([_VERSION, __version__, plain, data_version(job)])


def _read(roles: dict[str, list[str]]) -> str:
    """Say what each teacher reads."""
    return "; ".join(f"the {name} one {' and '.join(roles[name])}" for name in TEACHERS)
