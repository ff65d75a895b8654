"""Objectives: what a student is trained to minimise, given a batch with the teacher's labels."""

# B samples, C classes, M modalities, D features, X any.

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.losses import consistency, pseudo_label_loss
from mke_ray.randomness import gaussian_like, keys_for, uniform
from mke_ray.schema import Batch, LabelKind


class Objective(Protocol):
    """A loss of a student on a batch; it gets the student, since it may need several passes."""

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return ``loss``, to be minimised, and its named parts without gradient.

        Args:
            student: The student, wrapped for distributed training or not.
            batch: Micro batch on the student's device.
            progress: Share of the training that is done, from 0 to 1.
        """
        ...


@dataclass(frozen=True, slots=True)
class MKEObjective:
    """Pseudo-label loss on the perturbed student, with an optional separate consistency term.

    With ``alpha=0`` and no dropout it is the arm without regularisation; on a student of one
    modality it is the noisy student. The scale of the noise is the mean of ``|x|`` over the
    samples of the micro batch that have the modality, so it depends on the batch, while the noise
    itself depends on (seed, epoch, sample_id) alone.

    Args:
        alpha: Input noise, in units of the mean absolute value; one number, or one per modality.
        beta: The same on the first hidden layer of the head, or on the coarsest fused map of a
            dense student.
        consistency_weight: Weight of the divergence of the perturbed student from the clean one.
        consistency_ramp: Share of the training over which that weight rises from 0.
        modality_dropout: Per modality the share of samples that lose it in training; a sample
            never loses its last modality.
        kind: ``single`` (softmax), ``multi`` (sigmoid per class) or ``dense`` (softmax per pixel).
        class_weights: Weight of each class in the pseudo-label loss, of ``kind=dense`` alone; None
            weighs all alike.

    Source:
        Xue, Ren, Gao, Zhao, Multimodal Knowledge Expansion, ICCV 2021, equations 2 to 4, and the
        authors' notebook for the noise ``x + alpha * mean|x| * N(0, I)``.
    """

    alpha: float | Mapping[str, float] = 1.0
    beta: float = 0.0
    consistency_weight: float = 0.0
    consistency_ramp: float = 0.0
    modality_dropout: Mapping[str, float] | None = None
    kind: str = LabelKind.SINGLE
    class_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        _check_settings(self)

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return ``loss``, ``pseudo_label`` and, where it has a weight, ``consistency``."""
        present = self._visible(student, batch)
        logits_BC = student(batch.arrays, present, self._perturb(batch, present))
        weight_B = batch.weight_B
        loss = pseudo_label_loss(
            logits_BC,
            batch.target_BC,
            weight_B=weight_B,
            kind=self.kind,
            class_weights=self.class_weights,
            label_weight=batch.label_weight,
        )
        parts = {"pseudo_label": loss.detach()}
        weight = self.consistency_weight * ramp(progress, self.consistency_ramp)
        if self.consistency_weight > 0:
            clean_BC = _clean_logits(student, batch)
            divergence = consistency(
                logits_BC,
                clean_BC,
                weight_B=weight_B,
                kind=self.kind,
                label_weight=batch.label_weight,
            )
            parts["consistency"] = divergence.detach()
            loss = loss + weight * divergence
        return {"loss": loss, **parts}

    def _visible(self, student: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return which modalities the student sees of each sample."""
        if not self.modality_dropout:
            return batch.present
        modalities = [name for name in _modalities(student) if name in batch.present]
        return drop_modalities(batch, modalities=modalities, share=self.modality_dropout)

    def _perturb(self, batch: Batch, present: dict[str, Tensor]) -> "Noise | None":
        """Return the noise of this step, None where there is none."""
        strengths = self.alpha.values() if isinstance(self.alpha, Mapping) else [self.alpha]
        if self.beta == 0 and not any(strengths):
            return None
        return Noise(batch, present, self.alpha, self.beta)


@dataclass(frozen=True, slots=True)
class WitnessObjective:
    """Loss of a ``WitnessBank``: each network learns from all folds but its own.

    The loss is the sum over the networks, so that each learns as if it were alone (a largest
    gradient norm is one for all of them). That of a network counts what it may see alone, scaled to
    the whole batch, so that the loss of a batch is the same however it is spread over ranks.

    Args:
        num_folds: Number of folds K.
        alpha: Input noise, as in ``MKEObjective``.
        kind: ``single`` (softmax), ``multi`` (sigmoid per class) or ``dense`` (softmax per pixel).
    """

    num_folds: int
    alpha: float = 1.0
    kind: str = LabelKind.SINGLE

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return ``loss`` and ``witness``, its mean over the networks.

        Raises:
            ConfigError: The batch does not tell folds.
        """
        del progress
        if batch.fold_B is None:
            raise ConfigError("witnesses need the fold of every sample; the fit names no folds")
        noise = Noise(batch, batch.present, self.alpha, 0.0) if self.alpha else None
        said_BX = student(batch.arrays, batch.present, noise)
        names, folds = _modalities(student), self.num_folds
        logits_BMKC = said_BX.unflatten(1, (len(names), folds, -1))
        losses = []
        for number, name in enumerate(names):
            for fold in range(folds):
                seen_B = (batch.fold_B != fold) & batch.present[name]
                losses.append(
                    pseudo_label_loss(
                        logits_BMKC[:, number, fold],
                        batch.target_BC,
                        weight_B=batch.weight_B * seen_B,
                        kind=self.kind,
                    )
                    * (batch.weight_B * seen_B).sum()
                )
        usual = batch.weight_B.sum().clamp(min=1e-12) * (folds - 1) / folds
        loss = torch.stack(losses).sum() / usual
        return {"loss": loss, "witness": loss.detach() / len(losses)}


@dataclass(frozen=True, slots=True)
class Noise:
    """Gaussian noise on representations and on the first hidden layer, drawn per sample.

    Args:
        batch: Batch whose samples are perturbed.
        present: Per modality whether the sample has it [B], bool.
        alpha: Strength on the input, one number or one per modality (0 where not named).
        beta: Strength on the hidden layer.
    """

    batch: Batch
    present: Mapping[str, Tensor]
    alpha: float | Mapping[str, float]
    beta: float

    def input(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the representation of a modality with noise."""
        alpha = self.alpha.get(modality, 0.0) if isinstance(self.alpha, Mapping) else self.alpha
        if alpha == 0:
            return x_BX
        scale = alpha * _mean_magnitude(x_BX, self.present[modality])
        return x_BX + scale * gaussian_like(x_BX, _keys(self.batch, f"noise/{modality}"))

    def hidden(self, x_BD: Tensor) -> Tensor:
        """Return the hidden layer, or the coarsest fused map, with noise."""
        if self.beta == 0:
            return x_BD
        noise_BD = gaussian_like(x_BD, _keys(self.batch, "noise of the hidden layer"))
        return x_BD + self.beta * x_BD.detach().abs().mean() * noise_BD


def ramp(progress: float, length: float) -> float:
    """Return a weight that rises smoothly from nearly 0 to 1 over a share of the training.

    Source:
        Laine, Aila, Temporal Ensembling for Semi-Supervised Learning, ICLR 2017.
    """
    if length <= 0 or progress >= length:
        return 1.0
    return math.exp(-5.0 * (1.0 - progress / length) ** 2)


def drop_modalities(
    batch: Batch, *, modalities: Sequence[str], share: Mapping[str, float]
) -> dict[str, Tensor]:
    """Hide modalities from samples at random, by (seed, epoch, sample_id), never the last one.

    A sample that would lose all that it has keeps the one whose draw was the furthest from losing.

    Args:
        batch: Batch of the samples.
        modalities: The modalities that count as what a sample has.
        share: Probability of hiding, per modality (0 where not named).

    Returns:
        Per modality whether it is visible [B], bool; other modalities as they were.
    """
    present_BM = torch.stack([batch.present[name] for name in modalities], dim=1)
    margin_BM = torch.stack(
        [
            uniform(_keys(batch, f"dropout/{name}"), 1)[:, 0] - share.get(name, 0.0)
            for name in modalities
        ],
        dim=1,
    ).masked_fill(~present_BM, -2.0)
    best_B = margin_BM.argmax(dim=1)
    kept_BM = (margin_BM >= 0).scatter(1, best_B[:, None], True) & present_BM
    return {**batch.present, **dict(zip(modalities, kept_BM.unbind(dim=1), strict=True))}


def _keys(batch: Batch, purpose: str) -> Tensor:
    """Return random keys [B] for a purpose; different purposes are independent."""
    stream = zlib.crc32(purpose.encode())
    return keys_for(batch.sample_id_B, seed=batch.seed, epoch=batch.epoch, stream=stream)


def _mean_magnitude(x_BX: Tensor, present_B: Tensor) -> Tensor:
    """Return the mean absolute value over the samples that are there; 0 when none is."""
    magnitude_B = x_BX.detach().abs().flatten(1).mean(dim=1)
    weight_B = present_B.to(magnitude_B.dtype)
    return (magnitude_B * weight_B).sum() / weight_B.sum().clamp(min=1.0)


def _modalities(student: nn.Module) -> Sequence[str]:
    """Return the modalities of a student, which may be wrapped for distributed training."""
    inner = getattr(student, "module", student)
    return inner.modalities  # type: ignore[return-value]


@torch.no_grad()
def _clean_logits(student: nn.Module, batch: Batch) -> Tensor:
    """Return the logits without perturbation, dropout or hidden modalities."""
    was_training = student.training
    student.eval()
    logits_BC = student(batch.arrays, batch.present)
    student.train(was_training)
    return logits_BC


def _check_settings(objective: MKEObjective) -> None:
    """Raise when a setting of the objective makes no sense."""
    alphas = objective.alpha if isinstance(objective.alpha, Mapping) else {"": objective.alpha}
    amounts = {f"alpha.{name}".rstrip("."): value for name, value in alphas.items()}
    for key in ("beta", "consistency_weight", "consistency_ramp"):
        amounts[key] = getattr(objective, key)
    for key, value in amounts.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"objective.{key} is {value}; give a number from 0 upwards")
    for name, share in (objective.modality_dropout or {}).items():
        if not 0 <= share <= 1:
            raise ConfigError(
                f"objective.modality_dropout.{name} is {share}; give a share from 0 to 1"
            )
    if objective.kind not in list(LabelKind):
        raise ConfigError(
            f"objective.kind is {objective.kind!r}; choose one of {[*map(str, LabelKind)]}"
        )
    weights = objective.class_weights
    is_fit = objective.kind == LabelKind.DENSE and len(weights or ()) > 1
    if weights is not None and not (is_fit and all(one >= 0 for one in weights)):
        raise ConfigError(
            f"objective.class_weights is {list(weights)} with kind={objective.kind}; give numbers "
            "from 0 upwards, for kind=dense alone"
        )
