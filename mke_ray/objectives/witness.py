"""The objective of witnesses: the networks of all folds, each of which learns from the others."""

# B samples, M modalities, K folds, C classes, X any.

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.objectives.asking import modalities_of
from mke_ray.objectives.losses import pseudo_label_loss
from mke_ray.objectives.perturbing import Noise
from mke_ray.schema import Batch, LabelKind


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
        names, folds = modalities_of(student), self.num_folds
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
