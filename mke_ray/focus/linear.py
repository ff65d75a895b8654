"""Many linear classifiers trained at once, each on data of its own."""

# K classifiers, N samples, D features, C classes.

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mke_ray.errors import TrainingError

Slope = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class LinearBank:
    """Linear classifiers; classes come before samples, which is several times as fast.

    Args:
        weight_KCD: Weights.
        bias_KC1: Biases.
    """

    weight_KCD: Tensor
    bias_KC1: Tensor

    @classmethod
    def drawn(cls, seeds: Sequence[int], num_features: int, num_classes: int) -> "LinearBank":
        """Return classifiers with random weights, each by its own seed."""
        weights, biases, bound = [], [], 1.0 / math.sqrt(num_features)
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            drawn_CD = torch.rand(num_classes, num_features + 1, generator=generator)
            weights.append((2.0 * drawn_CD[:, :-1] - 1.0) * bound)
            biases.append((2.0 * drawn_CD[:, -1:] - 1.0) * bound)
        return cls(torch.stack(weights), torch.stack(biases))

    def logits(self, x_KND: Tensor) -> Tensor:
        """Return logits [K, C, N]."""
        return torch.baddbmm(self.bias_KC1, self.weight_KCD, x_KND.transpose(1, 2))

    def accuracy(self, x_KND: Tensor, truth_KN: Tensor) -> Tensor:
        """Return the share of samples that each classifier has right [K]."""
        return (self.logits(x_KND).argmax(dim=1) == truth_KN).float().mean(dim=1)


def train_bank(
    bank: LinearBank, x_KND: Tensor, slope: Slope, *, num_steps: int, lr: float
) -> LinearBank:
    """Return the classifiers after full-batch gradient descent.

    Args:
        bank: Where they start.
        x_KND: Samples of each.
        slope: Derivative of the loss of a sample by its logits [K, C, N], of these logits.
        num_steps: Steps.
        lr: Learning rate.

    Raises:
        TrainingError: Weights did not stay finite.
    """
    descent = _Descent.begun(bank, x_KND)
    for _ in range(num_steps):
        descent.step(slope(descent.logits()), lr=lr, momentum=0.0)
    _check_finite(descent.bank, lr=lr)
    return descent.bank


def _check_finite(bank: LinearBank, *, lr: float) -> None:
    """Refuse classifiers whose answers mean nothing.

    Raises:
        TrainingError: A weight is not finite.
    """
    if bool(torch.isfinite(bank.weight_KCD).all() & torch.isfinite(bank.bias_KC1).all()):
        return
    raise TrainingError(
        f"focus.gaussian.lr={lr:g}: the weights of the linear classifiers did not stay finite; "
        "give a smaller one"
    )


def label_slope(target_KCN: Tensor) -> Slope:
    """Return the slope of cross-entropy to targets."""
    return lambda logits_KCN: torch.softmax(logits_KCN, dim=1) - target_KCN


def distillation_slope(
    target_KCN: Tensor, teacher_KCN: Tensor, *, rho: float, temperature: float
) -> Slope:
    """Return the slope of ``mke_ray.objectives.distillation_loss``, of one class per sample.

    Args:
        target_KCN: True labels.
        teacher_KCN: Logits of the teachers.
        rho: Share of the true labels.
        temperature: Divides the logits in the divergence.
    """
    said_KCN = torch.softmax(teacher_KCN / temperature, dim=1)
    pull = (1.0 - rho) * temperature

    def slope(logits_KCN: Tensor) -> Tensor:
        label_KCN = torch.softmax(logits_KCN, dim=1)
        warm_KCN = label_KCN if temperature == 1 else torch.softmax(logits_KCN / temperature, dim=1)
        return rho * (label_KCN - target_KCN) + pull * (warm_KCN - said_KCN)

    return slope


def train_jointly(
    banks: tuple[LinearBank, LinearBank],
    seen: tuple[Tensor, Tensor],
    target_KCN: Tensor,
    *,
    num_steps: int,
    lr: float = 0.01,
    momentum: float = 0.9,
) -> tuple[LinearBank, LinearBank]:
    """Return teachers and students whose logits are near each other, the first step of Algorithm 1.

    The loss is the cross-entropy of both and the mean squared difference of their logits.

    Args:
        banks: Where teachers and students start.
        seen: Samples [K, N, D] as teachers and as students see them.
        target_KCN: True labels.
        num_steps: Steps.
        lr: Learning rate.
        momentum: Momentum.
    """
    teachers, students = (
        _Descent.begun(bank, x_KND) for bank, x_KND in zip(banks, seen, strict=True)
    )
    labels = label_slope(target_KCN)
    for _ in range(num_steps):
        teacher_KCN, student_KCN = teachers.logits(), students.logits()
        apart_KCN = (teacher_KCN - student_KCN) * (2.0 / target_KCN.shape[1])
        teachers.step(labels(teacher_KCN) + apart_KCN, lr=lr, momentum=momentum)
        students.step(labels(student_KCN) - apart_KCN, lr=lr, momentum=momentum)
    return teachers.bank, students.bank


@dataclass(frozen=True, slots=True)
class _Descent:
    """Classifiers on their way down, on samples kept in both orders of their axes."""

    bank: LinearBank
    speed: LinearBank
    x_KND: Tensor
    x_KDN: Tensor

    @classmethod
    def begun(cls, bank: LinearBank, x_KND: Tensor) -> "_Descent":
        """Begin with a copy of some classifiers."""
        own = LinearBank(bank.weight_KCD.clone(), bank.bias_KC1.clone())
        still = LinearBank(torch.zeros_like(own.weight_KCD), torch.zeros_like(own.bias_KC1))
        return cls(own, still, x_KND, x_KND.transpose(1, 2).contiguous())

    def logits(self) -> Tensor:
        """Return the logits of the samples [K, C, N]."""
        return torch.baddbmm(self.bank.bias_KC1, self.bank.weight_KCD, self.x_KDN)

    def step(self, slope_KCN: Tensor, *, lr: float, momentum: float) -> None:
        """Take one step against the mean slope over the samples."""
        share = 1.0 / slope_KCN.shape[2]
        self.speed.weight_KCD.baddbmm_(slope_KCN, self.x_KND, beta=momentum, alpha=share)
        self.speed.bias_KC1.mul_(momentum).add_(slope_KCN.sum(dim=2, keepdim=True), alpha=share)
        self.bank.weight_KCD.sub_(self.speed.weight_KCD, alpha=lr)
        self.bank.bias_KC1.sub_(self.speed.bias_KC1, alpha=lr)
