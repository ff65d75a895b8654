"""Losses and gradients that are not finite: whose samples they are, and how often they may be."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mke_ray.errors import TrainingError
from mke_ray.train.engine import of_all_ranks, rank

logger = logging.getLogger(__name__)

LEFT_OUT = "left_out"  # the key by which a record of the history tells a step that was not made
_IDS_SHOWN = 16


@dataclass(frozen=True, slots=True)
class NonFinite:
    """A step that cannot be made.

    Args:
        step: Which step, from 0.
        what: ``loss`` or ``gradient``.
        sample_ids: Samples of the micro batches concerned; of a gradient all of the step.
    """

    step: int
    what: str
    sample_ids: Sequence[int]

    def __str__(self) -> str:
        """Say what is not finite, and of which samples."""
        ids, num = self.sample_ids, len(self.sample_ids)
        more = f" and {num - _IDS_SHOWN} more" if num > _IDS_SHOWN else ""
        return (
            f"the {self.what} of step {self.step} is not finite; its samples are "
            f"{', '.join(map(str, ids[:_IDS_SHOWN]))}{more}"
        )

    def record(self) -> dict[str, Any]:
        """Return what the history keeps of it."""
        return {
            "step": self.step + 1,
            LEFT_OUT: self.what,
            "num_samples": len(self.sample_ids),
            "sample_ids": list(self.sample_ids[:_IDS_SHOWN]),
        }


def find_non_finite(
    losses: Sequence[Tensor], sample_ids: Sequence[Tensor], *, step: int
) -> NonFinite:
    """Return what spoilt a step, the same on all ranks; every rank must call it.

    Args:
        losses: Scalar loss of each micro batch of this rank.
        sample_ids: Samples [B] of each micro batch of this rank.
        step: Which step.
    """
    is_finite = [bool(torch.isfinite(one)) for one in losses]
    spoilt = [ids for ids, fine in zip(sample_ids, is_finite, strict=True) if not fine]
    of_ranks = of_all_ranks((_as_list(spoilt), _as_list(sample_ids)))
    of_losses = [one for bad, _ in of_ranks for one in bad]
    if of_losses:
        return NonFinite(step, "loss", of_losses)
    return NonFinite(step, "gradient", [one for _, whole in of_ranks for one in whole])


def leave_out(
    found: NonFinite, history: Sequence[Mapping[str, Any]], *, allowed: int
) -> dict[str, Any]:
    """Return the record of a step that is left out.

    Args:
        found: What spoilt it.
        history: Records of the fit so far.
        allowed: Most steps of the fit that may be left out.

    Raises:
        TrainingError: As many were left out before.
    """
    before = num_left_out(history)
    if before >= allowed:
        budget = f" ({before} steps were left out before)" if allowed else ""
        raise TrainingError(
            f"{found}; lower fit.optimizer.lr, set fit.clip_norm, look at these samples, or let "
            f"scaling.skip_non_finite={allowed + 1} leave such steps out{budget}"
        )
    if rank() == 0:
        logger.warning("step left out (%d of at most %d): %s", before + 1, allowed, found)
    return found.record()


def num_left_out(history: Sequence[Mapping[str, Any]]) -> int:
    """Return how many steps of a fit were left out."""
    return sum(LEFT_OUT in one for one in history)


def _as_list(sample_ids: Sequence[Tensor]) -> list[int]:
    """Return the ids of some micro batches."""
    return [one for ids in sample_ids for one in ids.tolist()]
