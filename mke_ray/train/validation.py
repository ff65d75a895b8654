"""What training may look at on the way: metrics on the select part of the probe."""

# B samples of a batch, N samples, C classes.

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mke_ray.metrics import accuracy, mean_average_precision
from mke_ray.schema import LabelKind, LabelSpace
from mke_ray.train.engine import world_size
from mke_ray.train.feed import Feed


class Validation:
    """Metrics on the select part of the probe, each rank on its part of the rows.

    Args:
        feed: Rows of the probe with true labels, in fixed order.
        device: Where to compute.
        label_space: Classes and their kind.
    """

    def __init__(self, feed: Feed, *, device: torch.device, label_space: LabelSpace) -> None:
        self._feed = feed
        self._device = device
        self._label_space = label_space

    @torch.no_grad()
    def __call__(self, student: nn.Module) -> dict[str, float]:
        """Return ``select_accuracy``, or ``select_map`` where a sample has many classes."""
        logits, targets = [], []
        for item in self._feed.batches(0, self._feed.batches_per_epoch):
            batch = item.batch.to(self._device)
            logits_BC = student(batch.arrays, batch.present).float()
            is_real_B = batch.weight_B > 0
            logits.append(logits_BC[is_real_B].cpu())
            targets.append(batch.target_BC[is_real_B].cpu())
        logits_NC, target_NC = _gathered(torch.cat(logits)), _gathered(torch.cat(targets))
        if self._label_space.kind == LabelKind.MULTI:
            return {"select_map": mean_average_precision(logits_NC, target_NC)}
        return {"select_accuracy": accuracy(logits_NC.argmax(1), target_NC.argmax(1))}


def _gathered(mine_NC: Tensor) -> np.ndarray:
    """Return the rows of all ranks, in rank order."""
    parts: list[Any] = [mine_NC]
    if world_size() > 1:
        parts = [None] * world_size()
        dist.all_gather_object(parts, mine_NC)
    return torch.cat(parts).numpy()
