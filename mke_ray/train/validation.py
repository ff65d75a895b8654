"""What training may look at on the way: metrics on the select part of the probe."""

# B samples of a batch, N samples, C classes.

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.metrics import (
    accuracy,
    fit_temperature,
    log_likelihood,
    mean_average_precision,
)
from mke_ray.pixel_metrics import PixelCounts
from mke_ray.schema import IGNORE, LabelKind, LabelSpace
from mke_ray.train.engine import of_all_ranks
from mke_ray.train.feed import Feed

LIKELIHOOD = "select_log_likelihood"


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
        """Return ``select_accuracy``, ``select_map`` of many classes, or ``select_miou``.

        Beside the first two there is ``select_log_likelihood``: how likely the student finds the
        true labels at the temperature that makes them likeliest, in nats per answer. It is left
        out where an answer is not finite.
        """
        if self._label_space.kind == LabelKind.DENSE:
            return {"select_miou": self._dense(student).miou()}
        logits, targets = [], []
        for item in self._feed.batches(0, self._feed.batches_per_epoch):
            batch = item.batch.to(self._device)
            logits_BC = student(batch.arrays, batch.present).float()
            is_real_B = batch.weight_B > 0
            logits.append(logits_BC[is_real_B].cpu())
            targets.append(batch.target_BC[is_real_B].cpu())
        logits_NC, target_NC = _gathered(torch.cat(logits)), _gathered(torch.cat(targets))
        if self._label_space.kind == LabelKind.MULTI:
            value = {"select_map": mean_average_precision(logits_NC, target_NC)}
            return {**value, **_likelihood(logits_NC, target_NC)}
        value = {"select_accuracy": accuracy(logits_NC.argmax(1), target_NC.argmax(1))}
        return {**value, **_likelihood(logits_NC, target_NC.argmax(1))}

    def _dense(self, student: nn.Module) -> PixelCounts:
        """Return the counted pixels of the rows of all ranks."""
        counts = []
        for item in self._feed.batches(0, self._feed.batches_per_epoch):
            batch = item.batch.to(self._device)
            named_BHW = student(batch.arrays, batch.present).argmax(dim=1)
            is_real_B = batch.weight_B > 0
            truth_BHW = batch.target_BC[is_real_B]
            if truth_BHW.dim() > named_BHW.dim():  # one-hot, where pseudo-labels are soft
                nothing = truth_BHW.sum(dim=1) == 0
                truth_BHW = truth_BHW.argmax(dim=1).masked_fill(nothing, IGNORE)
            counts.append(
                PixelCounts.of_maps(
                    named_BHW[is_real_B].cpu().numpy(),
                    truth_BHW.cpu().numpy(),
                    self._label_space.num_classes,
                )
            )
        return PixelCounts.joined(of_all_ranks(PixelCounts.joined(counts)))


def _likelihood(logits_NC: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the log-likelihood of the truth at its best temperature, in nats, where there is one.

    A look does not end a fit: what is not finite ends it, or is left out, at a step.
    """
    if not np.isfinite(logits_NC).all():
        return {}
    return {LIKELIHOOD: log_likelihood(logits_NC / fit_temperature(logits_NC, truth), truth)}


def _gathered(mine_NC: Tensor) -> np.ndarray:
    """Return the rows of all ranks, in rank order."""
    return torch.cat(of_all_ranks(mine_NC)).numpy()
