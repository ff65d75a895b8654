"""Weights of the classes of dense labels, from the labelled pixels of a fit's own rows."""

# B samples, C classes.

from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch

from mke_ray.errors import ConfigError
from mke_ray.schema import IGNORE, LabelKind
from mke_ray.train.feed import Feed
from mke_ray.train.fits import FitSpec

_BATCH = 64
_MAX_ROWS = 4096  # of a random order, so that more would change little


def objective_spec(spec: FitSpec, feed: Feed, *, num_classes: int) -> Mapping[str, Any]:
    """Return the specification of a fit's objective, with class weights where it wants them.

    Every rank reads the same rows, some thousand at most, so nothing is exchanged.

    Args:
        spec: The fit.
        feed: Its feed.
        num_classes: Number of classes C.

    Raises:
        ConfigError: Class weights are wanted of labels that are not dense.
    """
    if spec.class_balance == 0:
        return spec.objective
    if spec.objective.get("kind") != LabelKind.DENSE:
        raise ConfigError(
            f"fit {spec.name}: class_balance={spec.class_balance} needs an objective of mke_ray "
            "for dense labels; set it to 0"
        )
    return {**spec.objective, "class_weights": class_weights(spec, feed, num_classes=num_classes)}


def class_weights(spec: FitSpec, feed: Feed, *, num_classes: int) -> list[float]:
    """Return the share of each class in the labelled pixels, to the power of minus class_balance.

    Weights are scaled to a mean of 1 over the labelled pixels; classes without any weigh 0.

    Args:
        spec: The fit.
        feed: Its feed.
        num_classes: Number of classes C.

    Raises:
        ConfigError: No pixel has a label.
    """
    count_C = torch.zeros(num_classes, dtype=torch.float64)
    for batch in islice(feed.first_batches(_BATCH), _MAX_ROWS // _BATCH):
        count_C += _counted(batch.target_BC, num_classes)
    occurs_C = count_C > 0
    if not occurs_C.any():
        raise ConfigError(
            f"fit {spec.name}: class_balance={spec.class_balance}, but no pixel of the first "
            f"{_MAX_ROWS} samples has a label; set it to 0, or look at the class maps"
        )
    share_C = count_C / count_C.sum()
    weight_C = share_C.clamp(min=1e-12) ** -spec.class_balance * occurs_C
    return (weight_C / (share_C * weight_C).sum()).tolist()


def _counted(target: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Return the labelled pixels of each class in hard or soft targets [C]."""
    if target.dim() == 4:
        return target.double().sum(dim=(0, 2, 3))
    return torch.bincount(target[target != IGNORE].long(), minlength=num_classes).double()
