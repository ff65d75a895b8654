"""Witnesses: nets of one modality each, several folds of them trained together in one read."""

# B samples, M modalities, K folds, C classes; of dense labels logits are [B, C, H, W].

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from torch import Tensor, nn

from mke_ray.models.seeing import Perturb

if TYPE_CHECKING:
    from mke_ray.models.dense import DenseStudent
    from mke_ray.models.encoders import Encoder
    from mke_ray.models.pyramid import DenseEncoder
    from mke_ray.models.student import Student

    Witness: TypeAlias = Student | DenseStudent


class WitnessBank(nn.Module):
    """For every modality one unimodal network per fold; they share nothing but the samples read.

    Args:
        nets: Per modality the networks of its folds, equally many.
    """

    def __init__(self, nets: Mapping[str, Sequence["Witness"]]) -> None:
        super().__init__()
        self.modalities = tuple(sorted(nets))
        self.num_folds = len(nets[self.modalities[0]])
        self.nets = nn.ModuleDict({name: nn.ModuleList(nets[name]) for name in self.modalities})

    def encoder(self, modality: str) -> "Encoder | DenseEncoder":
        """Return the encoder of a modality in the first fold; the others are like it."""
        return self._of(modality)[0].encoder(modality)

    def forward(
        self,
        arrays: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        perturb: Perturb | None = None,
    ) -> Tensor:
        """Return the logits of all networks side by side [B, M * K * C], folds within modalities.

        Of dense labels they are [B, M * K * C, H, W]. Outside training those of a modality that a
        sample lacks are NaN.

        Args:
            arrays: Per modality the array [B, ...] as it is stored.
            present: Per modality whether the sample has it [B], bool.
            perturb: Transformation of the representations and of the first hidden layers.
        """
        said = []
        for name in self.modalities:
            for net in self._of(name):
                logits_BC = net(arrays, present, perturb)
                if not self.training:
                    lacks_B = ~present[name].view(-1, *[1] * (logits_BC.dim() - 1))
                    logits_BC = logits_BC.masked_fill(lacks_B, torch.nan)
                said.append(logits_BC)
        return torch.cat(said, dim=1)

    def of_fold(self, fold: int) -> "WitnessBank":
        """Return the networks of one fold alone, in the mode of this bank."""
        alone = WitnessBank({name: [self._of(name)[fold]] for name in self.modalities})
        return alone.train(self.training)

    def observe(self, arrays: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        """Add samples to the normalisation statistics of every network."""
        for net in self._all():
            net.observe(arrays, present)

    def freeze_normalisation(self) -> None:
        """Set every normaliser to the statistics that were observed."""
        for net in self._all():
            net.freeze_normalisation()

    def _of(self, modality: str) -> Sequence["Witness"]:
        """Return the networks of a modality by fold."""
        return cast("Sequence[Witness]", self.nets[modality])

    def _all(self) -> list["Witness"]:
        return [net for name in self.modalities for net in self._of(name)]
