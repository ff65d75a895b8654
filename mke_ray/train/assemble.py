"""The objects of a fit, built from its plain specification on the side that trains it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mke_ray.config import build
from mke_ray.data.manifest import Manifest
from mke_ray.data.views import View
from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels.folds import FoldDivision
from mke_ray.labels.label_rule import LabelRule
from mke_ray.labels.label_weights import LabelWeight
from mke_ray.labels.origin import Origin
from mke_ray.labels.probe import SELECT, ProbeDivision
from mke_ray.labels.store import UnitStore
from mke_ray.models.student import Network, build_student
from mke_ray.objectives import Objective
from mke_ray.schema import DecodeSpec, LabelSpace, Split, decode_spec_from_dict
from mke_ray.storage import Root
from mke_ray.train.accumulation import StepRules
from mke_ray.train.average import WeightAverage
from mke_ray.train.blocks import TargetSpec, UnitReader
from mke_ray.train.class_repeats import with_repeats
from mke_ray.train.class_weights import objective_spec
from mke_ray.train.compiling import compile_network
from mke_ray.train.engine import Engine, TorchEngine, rank, world_size
from mke_ray.train.feed import Feed
from mke_ray.train.feeding import Feeding
from mke_ray.train.fits import FitSpec, RowSelection, revisions_of
from mke_ray.train.loop import FitParts
from mke_ray.train.plan import RowPlan
from mke_ray.train.recomputation import recompute
from mke_ray.train.sharded import ShardedTorchEngine
from mke_ray.train.starting import start_from
from mke_ray.train.usable import usable_entries
from mke_ray.train.validation import Validation
from mke_ray.train.waiting import LOOK_WAIT
from mke_ray.train.zero import DeepSpeedEngine, deepspeed_config, resized_config

logger = logging.getLogger(__name__)

_NORM_BATCH = 64
_VALIDATION_BATCH = 256


@dataclass(slots=True)
class Workplace:
    """Where fits are trained: stores, device, memory. Decoded units are kept from fit to fit.

    Args:
        root: Root of the run.
        engine: ``type`` (torch or deepspeed) and its keys, see ``engine_settings``.
        device: Where to compute.
        cache_bytes: Memory for decoded units.
        feeding: How batches get to the loop.
        verbose: Whether DeepSpeed may talk.
        origin: Where samples are read again if their store keeps no media.
        rules: How steps are made.
    """

    root: Root
    engine: Mapping[str, Any]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    cache_bytes: int = 1 << 30
    feeding: Feeding = field(default_factory=Feeding)
    verbose: bool = False
    origin: Origin | None = None
    rules: StepRules = field(default_factory=StepRules)
    _reader: tuple[object, UnitReader] | None = None

    def reader(self, spec: FitSpec) -> UnitReader:
        """Return the reader for a fit; the last one where it reads the same."""
        key = (spec.samples, spec.labels, spec.modalities, spec.label_kind, spec.temperature)
        key = (*key, json.dumps(dict(spec.label_rule), sort_keys=True))
        if self._reader is None or self._reader[0] != key:
            self._reader = None  # frees its memory before the next one fills up
            opened = open_reader(spec, self.root, cache_bytes=self.cache_bytes, origin=self.origin)
            self._reader = (key, opened)
        return self._reader[1]


def open_reader(
    spec: FitSpec, root: Root, *, cache_bytes: int, origin: Origin | None = None
) -> UnitReader:
    """Open the stores that a fit reads.

    Args:
        spec: The fit.
        root: Root of the run.
        cache_bytes: Memory for decoded units.
        origin: Where samples are read again if their store keeps no media.

    Raises:
        StoreError: A store is missing, or the manifest has changed since the fit was planned.
        ConfigError: The student reads a modality that is not stored.
    """
    manifest = Manifest.open(root.child("manifest"))
    if spec.data and manifest.digest(spec.splits) != spec.data:
        raise StoreError(
            f"{manifest.root.uri} has other rows of {list(spec.splits)} than when the fit "
            f"{spec.name} was planned; start the job again"
        )
    samples = UnitStore.open(root.child("samples", spec.samples))
    if spec.data and revisions_of(samples, spec.splits) != spec.revisions:
        raise StoreError(
            f"{samples.root.uri}: samples of {list(spec.splits)} were read again since the fit "
            f"{spec.name} was planned; start the job again"
        )
    labels = UnitStore.open(root.child("labels", spec.labels)) if spec.labels else None
    return UnitReader(
        samples,
        labels=labels,
        manifest=manifest,
        decode=_decode_of(spec, samples),
        targets=TargetSpec(
            manifest.label_space, spec.label_kind, spec.temperature, label_rule_of(spec)
        ),
        cache_bytes=cache_bytes,
        origin=origin,
    )


def label_rule_of(spec: FitSpec) -> LabelRule | None:
    """Return what is done to the pseudo-labels of a fit beside kind and temperature, if anything.

    Raises:
        ConfigError: ``labels.weight`` cannot be built.
    """
    rule = spec.label_rule
    if not rule:
        return None
    ratio, weight = rule.get("ratio"), rule.get("weight")
    return LabelRule(
        spec.label_kind,
        spec.temperature,
        sharpening=rule.get("sharpening", 1.0),
        ratio_KL=None if ratio is None else np.asarray(ratio, np.float64),
        weight=build(weight, LabelWeight) if weight else None,  # type: ignore[type-abstract]
        fitted=rule.get("fitted", {}),
    )


def assemble(spec: FitSpec, workplace: Workplace, *, is_resized: bool = False) -> FitParts:
    """Build everything that trains a fit, at its start.

    Args:
        spec: The fit.
        workplace: Where it is trained.
        is_resized: Whether it goes on from a checkpoint of another number of ranks.

    Raises:
        ConfigError: Something in the specification does not exist or does not fit.
        StoreError: A store or the fit to start from is missing.
    """
    reader = workplace.reader(spec)
    balance = 0.0 if reader.targets.is_dense else spec.class_balance
    plan = _plan(spec, reader, spec.rows, global_batch=spec.global_batch, balance=balance)
    folds = FoldDivision.from_dict(spec.folds) if spec.folds else None
    feed = _feed(reader, plan, spec.rows, workplace=workplace, folds=folds)
    feed.source = workplace.feeding.source_of(feed.maker, feed.ahead) or feed.source
    label_space = reader.targets.label_space
    student = new_student(spec, label_space)
    normalise(student, feed, spec)
    start_from(student, spec, workplace.root)
    objective = spec.objective
    if reader.targets.is_dense:
        objective = objective_spec(spec, feed, num_classes=label_space.num_classes)
    num_rows = feed.plan.global_batch
    engine = make_engine(student, spec, workplace, num_rows=num_rows, is_resized=is_resized)
    return FitParts(
        engine=engine,
        feed=feed,
        objective=cast(Objective, build(objective)),
        views={name: cast(View, build(one)) for name, one in spec.views.items()},
        validate=_validation(spec, workplace),
        average=_average(spec, engine),
        rules=workplace.rules,
    )


def new_student(spec: FitSpec, label_space: LabelSpace) -> Network:
    """Return the student with the random weights of the fit's seed, the same on every rank."""
    torch.manual_seed(spec.seed)
    return build_student(spec.student, label_space.num_classes, build=build)


def normalise(student: Network, feed: Feed, spec: FitSpec) -> None:
    """Set the statistics of normalisation from the first rows of the fit's own order.

    Every rank reads the same rows, so nothing is exchanged. A modality that hardly one of the
    first rows shows (labelled rows may have the teacher's alone) is looked for further on.

    Args:
        student: The student.
        feed: The fit's feed.
        spec: The fit; ``num_norm_samples`` says how many rows.
    """
    seen = dict.fromkeys(student.modalities, 0)
    for number, batch in enumerate(feed.first_batches(_NORM_BATCH)):
        is_first = number * _NORM_BATCH < spec.num_norm_samples
        wanted = [name for name in seen if is_first or seen[name] < _NORM_BATCH]
        if not wanted:
            break
        student.observe({name: batch.arrays[name] for name in wanted}, batch.present)
        for name in wanted:
            seen[name] += int(batch.present[name].sum())
    if never := [name for name, number in seen.items() if number == 0]:
        logger.warning("fit %s: no row shows %s, so it is not normalised", spec.name, never)
    student.freeze_normalisation()


def make_engine(
    student: nn.Module,
    spec: FitSpec,
    workplace: Workplace,
    *,
    num_rows: int,
    is_resized: bool = False,
) -> Engine:
    """Return the engine that the workplace names.

    Args:
        student: The network.
        spec: The fit.
        workplace: Where it is trained.
        num_rows: Rows of a global batch.
        is_resized: Whether the state to load is of another number of ranks.
    """
    settings, rules = workplace.engine, workplace.rules
    if settings.get("checkpoint_activations"):
        recompute(student)
    compile_network(student, settings.get("compile"))
    common: dict[str, Any] = {"optimizer": spec.optimizer, "device": workplace.device}
    if settings["type"] == "deepspeed":
        asked = settings.get("config", {})
        config = deepspeed_config(
            resized_config(asked) if is_resized else asked,
            micro_batch=rules.rows_of_pass(num_rows, world_size=world_size()),
            num_passes=rules.num_passes(num_rows, world_size=world_size()),
            clip_norm=spec.clip_norm,
        )
        return DeepSpeedEngine(student, config=config, verbose=workplace.verbose, **common)
    common |= {"clip_norm": spec.clip_norm, "bf16": settings.get("bf16", False)}
    if settings.get("shard"):
        return ShardedTorchEngine(student, **common)
    unused = settings.get("find_unused_parameters", False)
    return TorchEngine(student, find_unused_parameters=unused, **common)


def _plan(
    spec: FitSpec,
    reader: UnitReader,
    rows: tuple[RowSelection, ...],
    *,
    global_batch: int,
    shuffle: bool = True,
    balance: float = 0.0,
) -> RowPlan:
    """Return the order of some rows, those of rare classes several times where that is wanted."""
    division = ProbeDivision(spec.probe_seed, spec.select_fraction)
    entries = usable_entries(reader, rows, division)
    return RowPlan(
        with_repeats(reader, entries, rows, balance=balance, seed=spec.seed),
        global_batch=global_batch,
        window_units=spec.window_units,
        seed=spec.seed,
        shuffle=shuffle,
    )


def _feed(
    reader: UnitReader,
    plan: RowPlan,
    rows: tuple[RowSelection, ...],
    *,
    workplace: Workplace,
    folds: FoldDivision | None = None,
) -> Feed:
    """Return this rank's feed of a plan."""
    return Feed(
        reader,
        plan,
        selections=rows,
        rank=rank(),
        world_size=world_size(),
        ahead=replace(workplace.feeding.ahead, device=workplace.device),
        folds=folds,
    )


def _decode_of(spec: FitSpec, samples: UnitStore) -> DecodeSpec:
    """Return what is stored of the modalities that the student reads."""
    stored = decode_spec_from_dict(samples.spec["decode"])
    missing = [name for name in spec.modalities if name not in stored]
    if missing:
        raise ConfigError(
            f"fit {spec.name}: student.encoders names {missing}, but the sample store holds "
            f"{list(stored)}; add it to decode, or take it out of the student"
        )
    return {name: stored[name] for name in spec.modalities}


def _average(spec: FitSpec, engine: Engine) -> WeightAverage | None:
    """Return the running mean of the weights, where the fit wants one."""
    if spec.ema_decay is None:
        return None
    return WeightAverage(engine.module, spec.ema_decay)


def _validation(spec: FitSpec, workplace: Workplace) -> Validation | None:
    """Return the look at the select part of the probe, None where there is none to look at."""
    if spec.validate_every_steps == 0:
        return None
    reader = workplace.reader(spec)
    rows = (RowSelection(Split.PROBE, targets="true", part=SELECT),)
    size = max(spec.global_batch, _VALIDATION_BATCH)
    size = workplace.rules.rows_of_pass(size, world_size=world_size()) * world_size()
    plan = _plan(spec, reader, rows, global_batch=size, shuffle=False)
    if plan.num_rows == 0:
        return None
    label_space = reader.targets.label_space
    feed = _feed(reader, plan, rows, workplace=workplace)
    feed.waits_as = LOOK_WAIT
    return Validation(feed, device=workplace.device, label_space=label_space)
