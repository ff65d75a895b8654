"""Normalisation statistics of one modality, frozen into buffers that are saved with the weights."""

# K channels, X any other axes.

import torch
from torch import Tensor, nn

from mke_ray.errors import TrainingError

SMALLEST_STD = 1e-6


class Normaliser(nn.Module):
    """Standardise one axis by mean and standard deviation; the identity until they are set.

    ``observe`` any number of batches, then ``freeze``. Sums are kept in float64, about the mean
    of the first batch, so that the order of the batches hardly matters.

    Args:
        num_channels: Length K of the axis.
        axis: Axis of the batch that has its own mean and deviation per entry.
        enabled: False keeps the identity for good.
    """

    def __init__(self, num_channels: int, *, axis: int, enabled: bool = True) -> None:
        super().__init__()
        self.axis = axis
        self.enabled = enabled
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("std", torch.ones(num_channels))
        self._count = 0
        self._shift_K = torch.zeros(num_channels, dtype=torch.float64)
        self._sum_K = torch.zeros(num_channels, dtype=torch.float64)
        self._square_sum_K = torch.zeros(num_channels, dtype=torch.float64)

    def forward(self, x_BX: Tensor) -> Tensor:
        """Return the batch standardised along its axis."""
        if not self.enabled:
            return x_BX
        shape = [1] * x_BX.dim()
        shape[self.axis] = -1
        mean, std = self.get_buffer("mean").view(shape), self.get_buffer("std").view(shape)
        return (x_BX - mean) / std

    @torch.no_grad()
    def observe(self, x_BX: Tensor) -> None:
        """Add a batch to the statistics; a batch without samples adds nothing."""
        if not self.enabled or x_BX.numel() == 0:
            return
        values = x_BX.to(device="cpu", dtype=torch.float64).transpose(0, self.axis).flatten(1)
        if self._count == 0:
            self._shift_K = values.mean(dim=1)
        centred = values - self._shift_K[:, None]
        self._count += values.shape[1]
        self._sum_K += centred.sum(dim=1)
        self._square_sum_K += centred.square().sum(dim=1)

    def freeze(self) -> None:
        """Write the statistics observed so far into the buffers; without any, change nothing.

        Raises:
            TrainingError: What was observed is not finite.
        """
        if self._count == 0:
            return
        offset_K = self._sum_K / self._count
        variance_K = (self._square_sum_K / self._count - offset_K.square()).clamp(min=0.0)
        self.set(self._shift_K + offset_K, variance_K.sqrt())

    def set(self, mean_K: Tensor, std_K: Tensor) -> None:
        """Set the statistics; a constant channel is centred and not scaled.

        Raises:
            TrainingError: A number is not finite.
        """
        if not bool(torch.isfinite(mean_K).all() and torch.isfinite(std_K).all()):
            raise TrainingError(
                "normalisation statistics are not finite: the training samples hold NaN or "
                "infinite values; clean them at their source"
            )
        std_K = torch.where(std_K > SMALLEST_STD, std_K, torch.ones_like(std_K))
        self.get_buffer("mean").copy_(mean_K)
        self.get_buffer("std").copy_(std_K)
