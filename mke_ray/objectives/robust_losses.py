"""Losses of one distribution against another that noisy labels mislead less than cross-entropy."""

# B samples, K outcomes of which one is true, X anything.

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from mke_ray.errors import ConfigError


class Criterion(Protocol):
    """A loss of a predicted distribution against a label, element by element."""

    def __call__(self, log_probability_BKX: Tensor, target_BKX: Tensor) -> Tensor:
        """Return the loss of every element [B, X].

        Args:
            log_probability_BKX: Logarithms of the predicted probabilities, float32.
            target_BKX: Hard or soft labels, float32.
        """
        ...


@dataclass(frozen=True, slots=True)
class GeneralizedCrossEntropy:
    """``sum_k t_k (1 - p_k^q) / q``: cross-entropy as q goes to 0, the absolute error at 1.

    On soft labels it is the mean over the label, and its best answer is surer than the label.

    Args:
        q: How little a label counts that the student finds unlikely, over 0 and up to 1.

    Source:
        Zhang, Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with
        Noisy Labels, NeurIPS 2018, equation 6.
    """

    q: float = 0.7

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 < self.q <= 1:
            raise ConfigError(f"objective.loss.q is {self.q}; give a number over 0 and up to 1")

    def __call__(self, log_probability_BKX: Tensor, target_BKX: Tensor) -> Tensor:
        """Return the loss of every element [B, X]."""
        return (target_BKX * -torch.expm1(self.q * log_probability_BKX)).sum(dim=1) / self.q


@dataclass(frozen=True, slots=True)
class SymmetricCrossEntropy:
    """Cross-entropy and reverse cross-entropy, ``alpha H(t, p) + beta H(p, t)``.

    Args:
        alpha: Weight of the cross-entropy.
        beta: Weight of the reverse one.
        log_zero: What the logarithm of a label is at least, A of the paper.

    Source:
        Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, ICCV 2019,
        equations 5 to 7.
    """

    alpha: float = 0.1
    beta: float = 1.0
    log_zero: float = -4.0

    def __post_init__(self) -> None:
        """Check the settings."""
        for key in ("alpha", "beta"):
            value = getattr(self, key)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"objective.loss.{key} is {value}; give a number from 0 upwards")
        if not (self.log_zero < 0 and math.isfinite(self.log_zero)):
            raise ConfigError(
                f"objective.loss.log_zero is {self.log_zero}; give a number below 0, for example -4"
            )

    def __call__(self, log_probability_BKX: Tensor, target_BKX: Tensor) -> Tensor:
        """Return the loss of every element [B, X]."""
        log_target_BKX = target_BKX.log().clamp(min=self.log_zero)
        forward_BX = -(target_BKX * log_probability_BKX).sum(dim=1)
        reverse_BX = -(log_probability_BKX.exp() * log_target_BKX).sum(dim=1)
        return self.alpha * forward_BX + self.beta * reverse_BX


CROSS_ENTROPY = "cross_entropy"
CRITERIA: dict[str, type[GeneralizedCrossEntropy] | type[SymmetricCrossEntropy]] = {
    "generalized": GeneralizedCrossEntropy,
    "symmetric": SymmetricCrossEntropy,
}


def criterion_of(spec: Mapping[str, Any] | None) -> Criterion | None:
    """Return what ``objective.loss`` names; None for cross-entropy.

    Args:
        spec: ``type`` and its arguments, None for cross-entropy.

    Raises:
        ConfigError: The type, a key or a value is unknown.
    """
    arguments = dict(spec or {})
    kind = arguments.pop("type", CROSS_ENTROPY)
    if kind not in (CROSS_ENTROPY, *CRITERIA):
        raise ConfigError(
            f"objective.loss.type is {kind!r}; choose one of {[CROSS_ENTROPY, *CRITERIA]}"
        )
    known = [one.name for one in fields(CRITERIA[kind])] if kind in CRITERIA else []
    if unknown := sorted(set(arguments) - set(known)):
        raise ConfigError(
            f"objective.loss.{unknown[0]} is no key of {kind}; "
            + (f"choose of {known}" if known else "it has none")
        )
    return CRITERIA[kind](**arguments) if kind in CRITERIA else None
