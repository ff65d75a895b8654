"""The loop: next batch, views, objective, backward, step; sometimes log, validate, save."""

# B samples, C classes.

import contextlib
import logging
import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mke_ray.data.views import SharedView, View
from mke_ray.errors import ConfigError
from mke_ray.objectives import Objective
from mke_ray.objectives.losses import label_mass
from mke_ray.randomness import keys_of_rows
from mke_ray.schema import MASK, Batch
from mke_ray.seeds import mix_integers
from mke_ray.train.accumulation import StepOutcome, StepRules, cut, make_step
from mke_ray.train.average import WeightAverage
from mke_ray.train.batches import FeedItem
from mke_ray.train.engine import Engine, rank, world_size
from mke_ray.train.feed import Feed
from mke_ray.train.fits import FitSpec
from mke_ray.train.memory import advice_on_memory
from mke_ray.train.non_finite import find_non_finite, leave_out
from mke_ray.train.optimizers import learning_rate

logger = logging.getLogger(__name__)

_LEAST_LOGGED = 10
_STREAM_VIEWS = 1 << 33  # plus a hash of the modality; apart from the streams of noise


@dataclass(slots=True)
class FitState:
    """How far a fit is; with the engine's state it is all that a resume needs.

    Args:
        cursor: Next global batch.
        seconds: Seconds trained so far.
        history: Logged steps and validations so far.
    """

    cursor: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FitParts:
    """The objects of one fit.

    Args:
        engine: Owns the network and the optimizer.
        feed: Gives this rank its batches.
        objective: Gives the loss.
        views: Training view per modality.
        validate: Returns the metrics on the select part of the probe; None never looks.
        average: Running mean of the weights; None keeps none.
        rules: How steps are made.
    """

    engine: Engine
    feed: Feed
    objective: Objective
    views: Mapping[str, View] = field(default_factory=dict)
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    average: WeightAverage | None = None
    rules: StepRules = field(default_factory=StepRules)


class Watch(Protocol):
    """Who looks at a fit from outside."""

    @property
    def log_every_steps(self) -> int:
        """Most steps between logged losses; 0 logs the last step alone."""
        ...

    def log(self, record: Mapping[str, Any], *, num_steps: int) -> None:
        """Take note of a logged step."""
        ...

    def after_step(self, parts: FitParts, state: FitState) -> None:
        """Save everything that a resume needs, where it is time; every rank calls it."""
        ...


def fit(spec: FitSpec, parts: FitParts, *, state: FitState, watch: Watch) -> FitState:
    """Train from a state to the end.

    Args:
        spec: What is trained.
        parts: The objects that train it.
        state: Where to start; it is changed as training goes on.
        watch: Who looks on.

    Raises:
        TrainingError: On all ranks, when losses or gradients were not finite in more steps than
            may be left out.
        DeviceMemoryError: The memory of this rank's GPU is full.
    """
    engine = parts.engine
    num_steps = spec.total_steps(parts.feed.batches_per_epoch)
    log_every_steps = logged_every(watch.log_every_steps, num_steps=num_steps)
    meter = Meter(state.seconds)
    engine.student.train()
    for item in parts.feed.batches(state.cursor, num_steps):
        step = item.cursor
        seed_step(mix_integers(spec.seed, step, rank()), engine.device)
        lr = learning_rate(
            step, num_steps=num_steps, peak=spec.optimizer["lr"], schedule=spec.schedule
        )
        share, made = step_of(item, parts, lr=lr, progress=step / num_steps)
        if math.isnan(made.grad_norm):
            found = find_non_finite(made.loss_K, made.sample_ids, step=step)
            allowed = parts.rules.skip_non_finite
            state.history.append(leave_out(found, state.history, allowed=allowed))
        elif parts.average is not None and math.isfinite(made.grad_norm):
            parts.average.update(engine.module)
        meter.add(item)
        state.cursor, state.seconds = step + 1, meter.seconds
        if is_due(step, log_every_steps, num_steps=num_steps):
            epoch = item.batch.epoch
            record = {"step": step + 1, "epoch": epoch, "lr": lr, "grad_norm": made.grad_norm}
            record |= {**mean_over_ranks(made.losses, share), **meter.lap()}
            if math.isfinite(made.grad_norm):
                state.history.append(record)
            watch.log(record, num_steps=num_steps)
        if parts.validate and is_due(step, spec.validate_every_steps, num_steps=num_steps):
            state.history.append({"step": step + 1, **validated(parts)})
        if step + 1 < num_steps:
            watch.after_step(parts, state)
    return state


def step_of(
    item: FeedItem, parts: FitParts, *, lr: float, progress: float
) -> tuple[float, StepOutcome]:
    """Make the step of a global batch; returns this rank's share and what came of the step.

    Args:
        item: What the feed gave.
        parts: The objects of the fit.
        lr: Learning rate.
        progress: Share of the training that is done.
    """
    rules, ranks = parts.rules, world_size()
    num_rows = rules.rows_of_pass(item.num_global, world_size=ranks)
    num_passes = rules.num_passes(item.num_global, world_size=ranks)
    with advice_on_memory(num_rows):
        batch = apply_views(item.batch.to(parts.engine.device), parts.views)
        share = share_of(item, batch)
        made = make_step(
            parts.engine,
            parts.objective,
            cut(batch, num_passes=num_passes, num_rows=num_rows),
            share=share,
            lr=lr,
            progress=progress,
        )
    return share, made


def logged_every(every_steps: int, *, num_steps: int) -> int:
    """Return the steps between logged losses; every fit has about ten of these at least.

    Args:
        every_steps: Steps that are wanted; 0 logs the last step alone.
        num_steps: Steps of the fit.
    """
    return min(every_steps, max(1, num_steps // _LEAST_LOGGED))


def is_due(step: int, every_steps: int, *, num_steps: int | None = None) -> bool:
    """Return whether something that happens every so many steps is due after a step.

    Args:
        step: The step just made, from 0.
        every_steps: Steps between two times.
        num_steps: Where given, it is also due after the last step.
    """
    if step + 1 == num_steps:
        return True
    return every_steps > 0 and (step + 1) % every_steps == 0


def seed_step(seed: int, device: torch.device) -> None:
    """Seed what dropout draws from; cheaper than ``torch.manual_seed``, which asks every device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def apply_views(batch: Batch, views: Mapping[str, View]) -> Batch:
    """Return the batch with a training view of each modality that has one.

    Args:
        batch: Arrays as stored.
        views: View per modality; each draws from (seed, epoch, sample id) alone. One with a
            ``stream`` draws from that, as all of the same stream do, and gets the keys of its
            modality besides. The view ``mask`` is that of dense targets.

    Raises:
        ConfigError: Targets are dense, and pictures have a view of a stream but targets none.
    """
    if not views:
        return batch
    is_dense = batch.target_BC.dim() > 2
    if is_dense and MASK not in views and any(hasattr(one, "stream") for one in views.values()):
        raise ConfigError(
            "views.mask is missing: pictures are cropped and mirrored, and their class maps would "
            "not be; add views.mask={_target_: mke_ray.data.scene_view.SceneView, of: mask, ...} "
            "with the same size, flip and scale"
        )
    arrays, target_BC, label_weight = dict(batch.arrays), batch.target_BC, batch.label_weight
    for modality, view in views.items():
        if modality != MASK:
            arrays[modality] = _viewed(view, arrays[modality], batch, modality)
        elif is_dense:
            target_BC = _viewed(view, target_BC, batch, modality)
            if label_weight is not None:  # moves as probabilities of one class would
                label_weight = _viewed(view, label_weight[:, None], batch, modality)[:, 0]
    return replace(batch, arrays=arrays, target_BC=target_BC, label_weight=label_weight)


def _viewed(view: View, array_BX: Tensor, batch: Batch, modality: str) -> Tensor:
    """Return the view of one array of a batch."""
    own_B = _view_keys(batch, modality)
    stream = getattr(view, "stream", None)
    if stream is None:
        return view(array_BX, own_B)
    return cast(SharedView, view)(array_BX, _view_keys(batch, f"stream {stream}"), own_B)


def _view_keys(batch: Batch, name: str) -> Tensor:
    """Return the keys [B] of what has a name."""
    return keys_of_rows(batch, _STREAM_VIEWS + zlib.crc32(name.encode()))


def validated(parts: FitParts) -> dict[str, float]:
    """Return the metrics on the select part of the probe, of the weights that would be kept."""
    engine, student = parts.engine, parts.engine.student
    assert parts.validate is not None
    student.eval()
    mean = parts.average.applied(engine.module) if parts.average else contextlib.nullcontext()
    with mean, engine.autocast():
        metrics = parts.validate(student)
    student.train()
    return metrics


def share_of(item: FeedItem, batch: Batch) -> float:
    """Return what to multiply this rank's mean loss with, see ``FeedItem``.

    Where labels have weights of their own, ranks tell one another what theirs weigh.

    Args:
        item: What the feed gave.
        batch: Its batch, as the student saw it.
    """
    if not item.weighs_labels or world_size() == 1:
        return item.share
    own = label_mass(batch.weight_B, batch.label_weight).sum()
    total = own.clone()
    dist.all_reduce(total)
    return float(own * world_size() / total.clamp(min=torch.finfo(total.dtype).tiny))


def mean_over_ranks(losses: Mapping[str, Tensor], share: float) -> dict[str, float]:
    """Return each part of the loss as its weighted mean over the global batch.

    Args:
        losses: Loss of this rank and its parts.
        share: What this rank's part of the mean is multiplied with.
    """
    names = sorted(losses)
    values = torch.stack([losses[name].detach().float() for name in names])
    if world_size() > 1:
        values = values * share / world_size()
        dist.all_reduce(values)
    return dict(zip(names, values.tolist(), strict=True))


class Meter:
    """Counts samples, seconds and seconds of waiting for data.

    Args:
        seconds: Seconds trained before.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._before_s = seconds
        self._began = self._lap_began = time.perf_counter()
        self._num_samples = 0
        self._wait_s = 0.0

    @property
    def seconds(self) -> float:
        """Seconds trained in all."""
        return self._before_s + time.perf_counter() - self._began

    def add(self, item: FeedItem) -> None:
        """Count one global batch."""
        self._num_samples += item.num_global
        self._wait_s += item.wait_s

    def lap(self) -> dict[str, float]:
        """Return samples per second and the share of waiting since the last lap."""
        now = time.perf_counter()
        lap_s = max(now - self._lap_began, 1e-9)
        measured = {
            "samples_per_s": self._num_samples / lap_s,
            "data_wait": self._wait_s / lap_s,
        }
        self._lap_began, self._num_samples, self._wait_s = now, 0, 0.0
        return measured
