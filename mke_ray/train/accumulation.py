"""A step in several passes: a rank's rows cut in micro batches whose gradients are added up."""

# B samples, K micro batches.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mke_ray.errors import ConfigError
from mke_ray.objectives import Objective
from mke_ray.objectives.losses import label_mass
from mke_ray.schema import Batch
from mke_ray.train.engine import Engine


@dataclass(frozen=True, slots=True)
class StepRules:
    """How steps are made, beside what the fit says.

    Args:
        micro_batch: Most rows of a rank in one pass; None takes all of a rank's at once.
        skip_non_finite: Most steps of a fit that may be left out because a loss or a gradient is
            not finite.
    """

    micro_batch: int | None = None
    skip_non_finite: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ConfigError(
                f"scaling.micro_batch={self.micro_batch}; give at least 1, or null for all rows "
                "of a worker in one pass"
            )
        if self.skip_non_finite < 0:
            raise ConfigError(f"scaling.skip_non_finite={self.skip_non_finite}; give 0 or more")

    @classmethod
    def of(cls, scaling: Mapping[str, Any]) -> "StepRules":
        """Take the keys that belong here from the section ``scaling``."""
        return cls(**{key: scaling[key] for key in cls.__slots__ if key in scaling})

    def num_passes(self, num_global: int, *, world_size: int) -> int:
        """Return the passes of a step, the same on all ranks.

        Args:
            num_global: Rows of the global batch.
            world_size: Number of ranks.
        """
        largest = -(-num_global // world_size)
        return 1 if self.micro_batch is None else max(-(-largest // self.micro_batch), 1)

    def rows_of_pass(self, num_global: int, *, world_size: int) -> int:
        """Return the most rows of a rank in one pass of a step."""
        largest = -(-num_global // world_size)
        return largest if self.micro_batch is None else min(self.micro_batch, largest)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of one pass.

    Args:
        batch: The rows; the one row of an empty pass weighs nothing.
        part: What its labels weigh, as a share of those of the rank's rows.
    """

    batch: Batch
    part: float | Tensor


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What came of a step.

    Args:
        grad_norm: See ``Engine.step``.
        losses: Loss and its parts over the rows of this rank.
        loss_K: Loss of each pass.
        sample_ids: Samples [B] of each pass.
    """

    grad_norm: float
    losses: dict[str, Tensor]
    loss_K: Sequence[Tensor]
    sample_ids: Sequence[Tensor]


def make_step(
    engine: Engine,
    objective: Objective,
    micro_batches: Sequence[MicroBatch],
    *,
    share: float,
    lr: float,
    progress: float,
) -> StepOutcome:
    """Make a step of the passes of one global batch.

    Args:
        engine: Owns the network and the optimizer.
        objective: Gives the loss.
        micro_batches: Rows of each pass.
        share: What to multiply the mean loss of this rank's rows with.
        lr: Learning rate.
        progress: Share of the training that is done.
    """
    told: list[dict[str, Tensor]] = []
    for number, one in enumerate(micro_batches, start=1):
        with engine.one_pass(is_last=number == len(micro_batches)):
            with engine.autocast():
                losses = objective(engine.student, one.batch, progress)
            engine.backward(losses["loss"], share=share * one.part)
        told.append({name: value.detach() for name, value in losses.items()})
    return StepOutcome(
        engine.step(lr=lr),
        _mean(told, [one.part for one in micro_batches]),
        [one["loss"] for one in told],
        [one.batch.sample_id_B for one in micro_batches],
    )


def cut(batch: Batch, *, num_passes: int, num_rows: int) -> list[MicroBatch]:
    """Cut a rank's rows into those of each pass.

    The mean loss of the whole is the sum of the means of the passes, each times its part, wherever
    the loss of a row does not depend on other rows.

    Args:
        batch: All rows of this rank.
        num_passes: Number of passes; ranks have the same.
        num_rows: Most rows of a pass.
    """
    if num_passes == 1:
        return [MicroBatch(batch, 1.0)]
    starts = range(0, num_passes * num_rows, num_rows)
    batches = [_rows(batch, start, start + num_rows) for start in starts]
    mass_K = torch.stack([label_mass(one.weight_B, one.label_weight).sum() for one in batches])
    part_K = mass_K / mass_K.sum().clamp(min=torch.finfo(mass_K.dtype).tiny)
    return [MicroBatch(one, part) for one, part in zip(batches, part_K, strict=True)]


def _rows(batch: Batch, start: int, stop: int) -> Batch:
    """Return some rows of a batch; beyond its end one row without weight."""
    if start < batch.num_samples:
        return _sliced(batch, slice(start, stop))
    row = _sliced(batch, slice(0, 1))
    return replace(row, weight_B=torch.zeros_like(row.weight_B))


def _sliced(batch: Batch, rows: slice) -> Batch:
    """Return a slice of every tensor of a batch."""
    return replace(
        batch,
        sample_id_B=batch.sample_id_B[rows],
        arrays={name: one[rows] for name, one in batch.arrays.items()},
        present={name: one[rows] for name, one in batch.present.items()},
        target_BC=batch.target_BC[rows],
        weight_B=batch.weight_B[rows],
        fold_B=None if batch.fold_B is None else batch.fold_B[rows],
        repeat_B=None if batch.repeat_B is None else batch.repeat_B[rows],
        label_weight=None if batch.label_weight is None else batch.label_weight[rows],
    )


def _mean(
    told: Sequence[Mapping[str, Tensor]], parts: Sequence[float | Tensor]
) -> dict[str, Tensor]:
    """Return the loss and its parts over all passes."""
    if len(told) == 1:
        return dict(told[0])
    return {
        name: torch.stack([one[name] * part for one, part in zip(told, parts, strict=True)]).sum()
        for name in told[0]
    }
