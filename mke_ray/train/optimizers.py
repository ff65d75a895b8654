"""Optimizers and learning rates by name, from plain data."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from mke_ray.errors import ConfigError

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], tuple[str, ...]]] = {
    "adamw": (torch.optim.AdamW, ("lr", "weight_decay", "betas", "eps", "fused")),
    "sgd": (torch.optim.SGD, ("lr", "weight_decay", "momentum", "nesterov", "fused")),
}
SCHEDULES = ("constant", "cosine")
SCHEDULE_KEYS = ("type", "warmup_fraction")


def build_optimizer(
    parameters: Iterable[nn.Parameter], spec: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Build the optimizer that ``fit.optimizer`` names.

    Args:
        parameters: Weights of the network; those that are frozen are left out.
        spec: ``type`` and the arguments of the optimizer.

    Raises:
        ConfigError: The type or a key is unknown, or ``lr`` is missing or below 0.
    """
    check_optimizer(spec)
    kind, _ = OPTIMIZERS[spec["type"]]
    trained = [one for one in parameters if one.requires_grad]
    return kind(trained, **{key: value for key, value in spec.items() if key != "type"})


def check_optimizer(spec: Mapping[str, Any]) -> None:
    """Refuse an optimizer that cannot be built.

    Raises:
        ConfigError: The type or a key is unknown, or ``lr`` is missing.
    """
    kind = spec.get("type")
    if kind not in OPTIMIZERS:
        raise ConfigError(f"fit.optimizer.type is {kind!r}; choose one of {sorted(OPTIMIZERS)}")
    known = OPTIMIZERS[kind][1]
    for key in spec:
        if key not in ("type", *known):
            raise ConfigError(f"fit.optimizer.{key} is no key of {kind}; choose of {list(known)}")
    if "lr" not in spec:
        raise ConfigError("fit.optimizer.lr is missing; give a learning rate")
    if spec["lr"] < 0:
        raise ConfigError(f"fit.optimizer.lr={spec['lr']}; give a learning rate of at least 0")


def check_schedule(spec: Mapping[str, Any]) -> None:
    """Refuse a schedule that does not exist.

    Raises:
        ConfigError: The type or a key is unknown.
    """
    if spec.get("type", "constant") not in SCHEDULES:
        raise ConfigError(f"fit.schedule.type is {spec['type']!r}; choose one of {SCHEDULES}")
    for key in spec:
        if key not in SCHEDULE_KEYS:
            raise ConfigError(f"fit.schedule.{key} is no such key; choose of {SCHEDULE_KEYS}")


def learning_rate(step: int, *, num_steps: int, peak: float, schedule: Mapping[str, Any]) -> float:
    """Return the learning rate of a step: linear warm-up, then constant or half a cosine to 0.

    Args:
        step: Which step, from 0.
        num_steps: Steps of the fit.
        peak: Learning rate after the warm-up.
        schedule: ``type`` (constant or cosine) and ``warmup_fraction``.
    """
    warmup = math.ceil(schedule.get("warmup_fraction", 0.0) * num_steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule.get("type", "constant") == "constant":
        return peak
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def set_lr(optimizer: Any, lr: float) -> None:
    """Set the learning rate of every group of parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr
