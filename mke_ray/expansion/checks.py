"""A configuration is checked as far as that goes without data, and then its run is opened."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch

from mke_ray.config import build
from mke_ray.config_schema import JobConfig
from mke_ray.data.codec import empty_modality
from mke_ray.data.views import View
from mke_ray.errors import ConfigError
from mke_ray.expansion.averaged_views import check_average_views
from mke_ray.expansion.demands import check_stages
from mke_ray.expansion.dense_checks import check_alike, check_dense
from mke_ray.expansion.label_rules import check_labels
from mke_ray.expansion.more_probe import with_more_probe
from mke_ray.expansion.own_teacher import (
    check_more_teachers,
    check_own_teacher,
    with_classes,
)
from mke_ray.expansion.preflight_keys import check_preflight
from mke_ray.expansion.run import TEACHER_ARM, TEACHER_ENGINE, Run
from mke_ray.expansion.switch_notes import note_switches
from mke_ray.expansion.token_keys import check_tokens, fill_in_tokens
from mke_ray.expansion.witness_checks import check_expansion
from mke_ray.expansion.witnesses import witness_fit
from mke_ray.focus.keys import GAUSSIAN
from mke_ray.labels.doubles import WITHIN_UNLABELED
from mke_ray.labels.folds import even_folds
from mke_ray.labels.labelling_keys import check_labelling, computing_of
from mke_ray.labels.lease import Lease
from mke_ray.labels.todo import retry_reasons
from mke_ray.models.student import Network, build_student
from mke_ray.models.teachers import unmet_needs
from mke_ray.models.token_input import AT_MOST, DIGEST, PAD_ID, another_tokenizer
from mke_ray.schema import MASK, DecodeSpec, LabelKind, decode_spec_from_dict
from mke_ray.session import session_of
from mke_ray.storage import open_root
from mke_ray.train.arms import EXPANSION_ARM, PUBLISHED_ARM, choose_arms
from mke_ray.train.feeding import check_feeding
from mke_ray.train.fits import FitSpec
from mke_ray.train.scaling import Scaling, check_fits


@contextlib.contextmanager
def open_run(job: JobConfig) -> Iterator[Run]:
    """Check a configuration as far as that goes without data, and hold its root for a block.

    Raises:
        ConfigError: Something in the configuration cannot work.
        StoreError: Another driver works on the root, or it ignores conditional writes.
    """
    run = check_job(job)
    with run.stack:
        if not job.storage.single_driver:
            run.root.check_create_only()
        run.lease = run.stack.enter_context(Lease(run.root).held(job.name))
        yield run


def check_job(job: JobConfig) -> Run:
    """Build everything that a run will use, on the driver, before anything starts.

    Raises:
        ConfigError: It names the key and the way out.
    """
    _check_choices(job)
    fill_in_tokens(job)
    run = Run(
        job=job,
        root=open_root(job.root, job.storage.options, patience_s=job.storage.patience_s),
        source=build(job.source),
        decode=decode_spec_from_dict(job.decode),
        arms=choose_arms(
            job.arms, shipped=EXPANSION_ARM if job.expansion.enabled else PUBLISHED_ARM
        ),
    )
    run.source = with_more_probe(run)
    _tell_classes(run)
    _check_modalities(run)
    check_tokens(job, run.decode)
    check_expansion(job)
    check_preflight(job.preflight)
    check_labels(job.labels, run.source.label_space)
    _check_ranges(job)
    check_stages(job)
    fits_with = (run.decode, run.source.label_space, computing_of(job.labelling))
    if not job.teacher.train:
        check_own_teacher(job.teacher, *fits_with)
    check_more_teachers(job.more_teachers, *fits_with)
    check_networks(run)
    check_dense(run)
    note_switches(job)
    _check_views(run)
    return run


def check_networks(run: Run) -> None:
    """Build what every fit of a run trains, before any data is read.

    Args:
        run: The run; with a job in which single keys are others it is checked on those.

    Raises:
        ConfigError: It names the key and the way out.
        RuntimeError, ValueError: torch takes no network of these sizes.
    """
    job, space = run.job, run.source.label_space
    settings, kind = run.trial_settings(), LabelKind(space.kind)
    fits = settings.fits(run.arms, job.model_seeds)
    if job.expansion.enabled:
        folds = even_folds(job.expansion.folds)
        fits = [witness_fit(job, space.kind, settings, folds=folds, number=0), *fits]
    teacher = [run.teacher_fit("samples")] if job.teacher.train else []
    for fit in [*teacher, *fits]:
        _check_decoder(fit, kind)
        student = build_student(fit.student, space.num_classes, build=build)
        _check_encoders(student, run.decode)
        if fit in teacher:
            needs = student.encoder(job.teacher.modality).needs
            check_average_views(job.teacher, needs, run.decode, kind)
        build(fit.objective)
    check_feeding(asdict(job.scaling))
    scaling = Scaling.from_dict(asdict(job.scaling))
    check_fits(fits, launch=job.scaling.launch, scaling=scaling, engine=job.engine)
    for one in teacher:
        check_fits([one], launch="local", scaling=scaling, engine=TEACHER_ENGINE)


def _check_choices(job: JobConfig) -> None:
    """Check what can be told from the configuration alone, secrets for Ray's workers too.

    Raises:
        ConfigError: It names the key and the way out.
    """
    if job.focus.study == GAUSSIAN:
        raise ConfigError(
            f"focus.study={GAUSSIAN} draws its own samples, which nothing can be expanded from; "
            "run python jobs/focus.py experiment=gaussian"
        )
    check_labelling(job.labelling)
    session_of(job)
    if job.doubles.within_unlabeled not in WITHIN_UNLABELED:
        raise ConfigError(
            f"doubles.within_unlabeled={job.doubles.within_unlabeled!r}; choose one of "
            f"{list(WITHIN_UNLABELED)}"
        )
    retry_reasons(job.retry)


def _tell_classes(run: Run) -> None:
    """Write the classes of the source into the specifications of teachers that are told them."""
    job, label_space = run.job, run.source.label_space
    if not job.teacher.train:
        job.teacher.network = with_classes(job.teacher.network, label_space)
    for name, spec in job.more_teachers.items():
        if isinstance(spec, Mapping):
            job.more_teachers[name] = with_classes(spec, label_space)


def _check_views(run: Run) -> None:
    """Try every view on an empty sample, before anything is decoded.

    Raises:
        ConfigError: A view is larger than what is stored.
    """
    for key, specs in _all_views(run.job).items():
        views: dict[str, View] = {modality: build(spec) for modality, spec in specs.items()}
        for modality, view in views.items():
            empty = torch.from_numpy(empty_modality(run.decode[modality]))
            try:
                view(empty[None], torch.zeros(1, dtype=torch.int64))
            except ConfigError as error:
                raise ConfigError(f"{key}.{modality}: {error}") from None
        if run.source.label_space.kind == LabelKind.DENSE:
            of_teacher = [run.job.teacher.modality]
            read = of_teacher if key == "teacher.views" else list(run.job.student.encoders)
            check_alike(key, views, read, run.decode)


def _all_views(job: JobConfig) -> dict[str, dict[str, Any]]:
    """Return the views of all networks by their key."""
    return {
        "views": job.views,
        "plain_views": job.plain_views or {},
        "teacher.views": job.teacher.views or {},
    }


def _check_decoder(fit: FitSpec, kind: LabelKind) -> None:
    """Refuse a network that answers by pixels where labels do not, or the other way round.

    Raises:
        ConfigError: It names the key.
    """
    key = "teacher.decoder" if fit.arm == TEACHER_ARM else "student.decoder"
    has_decoder = bool(fit.student.get("decoder"))
    if kind == LabelKind.DENSE and not has_decoder:
        raise ConfigError(
            f"{key} is empty, but the source's labels are dense; give it channels, with pyramid "
            "encoders (conf/student/nyu_depth_v2.yaml)"
        )
    if has_decoder and kind != LabelKind.DENSE:
        raise ConfigError(f"{key} is for dense labels, but the source's are {kind}; leave it empty")


def _check_ranges(job: JobConfig) -> None:
    """Refuse numbers that make no sense.

    Raises:
        ConfigError: It names the key.
    """
    bounds = {
        "gate.confidence": (job.gate.confidence, 0.5, 1.0),
        "gate.select_fraction": (job.gate.select_fraction, 0.0, 1.0),
        "labels.temperature": (job.labels.temperature, 0.0, float("inf")),
        "storage.patience_s": (job.storage.patience_s, 0.0, float("inf")),
        "labelling.sample_memory_gb": (job.labelling.sample_memory_gb, 0.0, float("inf")),
    }
    for key, fit in (("fit", job.fit), ("teacher.fit", job.teacher.fit)):
        if fit.ema_decay is not None:
            bounds[f"{key}.ema_decay"] = (fit.ema_decay, 0.0, 1.0)
    if job.labelling.sample_timeout_s is not None:
        bounds["labelling.sample_timeout_s"] = (job.labelling.sample_timeout_s, 0.0, float("inf"))
    if job.noise_levels:
        bounds["noise_levels"] = (min(job.noise_levels), 0.0, float("inf"))
    if job.labelling.part_mb < 0:
        raise ConfigError(
            f"labelling.part_mb={job.labelling.part_mb}; give the megabytes of a part file, or 0 "
            "to leave every unit in a file of its own"
        )
    for key, fit in (("fit", job.fit), ("teacher.fit", job.teacher.fit)):
        if fit.class_balance < 0:
            raise ConfigError(f"{key}.class_balance={fit.class_balance}; give a number from 0")
    for key, (value, low, high) in bounds.items():
        if not low < value < high:
            raise ConfigError(f"{key}={value}; give a number between {low} and {high}")
    at_least_one = {
        "labelling.unit_size": job.labelling.unit_size,
        "scaling.window_units": job.scaling.window_units,
        "scaling.checkpoints_kept": job.scaling.checkpoints_kept,
        "gate.min_samples": job.gate.min_samples,
        "gate.min_groups": job.gate.min_groups,
        "fit.num_steps": job.fit.num_steps,
        "fit.num_epochs": job.fit.num_epochs,
        "teacher.fit.num_steps": job.teacher.fit.num_steps,
        "teacher.fit.num_epochs": job.teacher.fit.num_epochs,
    }
    for key, number in at_least_one.items():
        if number is not None and number < 1:
            raise ConfigError(f"{key}={number}; give a number of at least 1")


def _check_encoders(student: Network, decode: DecodeSpec) -> None:
    """Refuse encoders that expect other arrays than are stored.

    Raises:
        ConfigError: It names the keys.
    """
    for modality in student.modalities:
        stored = asdict(decode[modality])
        for key, needed in unmet_needs(student.encoder(modality).needs, stored).items():
            at_most = "at most " if key in AT_MOST else ""
            said = (
                f"expects {at_most}{key}={needed}, decode.{modality}.{key} is {stored.get(key)}; "
                "set both alike"
            )
            if key == PAD_ID:
                said = (
                    f"pads with {needed}, the tokenizer of decode.{modality} with "
                    f"{stored.get(key)}; set student.encoders.{modality}.input.pad_id and "
                    "pad_token_id of the network to that, or take the tokenizer of the network"
                )
            if key == DIGEST:
                said = another_tokenizer(modality, needed, stored.get(key))
            raise ConfigError(f"student.encoders.{modality}: {said}")


def _check_modalities(run: Run) -> None:
    """Refuse networks that read what is not stored.

    Raises:
        ConfigError: It names the modality.
    """
    wanted = {"teacher.modality": [run.job.teacher.modality]}
    wanted["student.encoders"] = list(run.job.student.encoders)
    wanted |= {key: list(views) for key, views in _all_views(run.job).items()}
    for key, modalities in wanted.items():
        for modality in modalities:
            if modality not in run.decode:
                raise ConfigError(
                    f"{key}: {modality!r} is not among the stored modalities "
                    f"{sorted(run.decode)}; add decode.{modality} or leave it out"
                )
            if modality == MASK and not key.endswith("views"):
                raise ConfigError(
                    f"{key}: {MASK!r} is the true class map, which no network may read; leave it "
                    "out"
                )
    if run.job.teacher.modality not in run.job.student.encoders:
        raise ConfigError(
            f"teacher.modality={run.job.teacher.modality} has no encoder in student.encoders, "
            f"which has {sorted(run.job.student.encoders)}"
        )
