"""Stored samples under noise, to see how a student bears a modality that is worse than usual."""

# B samples, D features.

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

from mke_ray.schema import DecodeSpec, MaskSpec, TokenSpec
from mke_ray.seeds import mix_integers

_WITHOUT_NOISE = (TokenSpec, MaskSpec)


def can_be_noisy(decode: DecodeSpec, modality: str) -> bool:
    """Return whether noise may be added to a modality: to numbers, not to the ids of tokens."""
    return not isinstance(decode[modality], _WITHOUT_NOISE)


def noisy(
    array_B: Tensor,
    level: float,
    *,
    modality: str,
    sample_ids: Sequence[int],
    spread: Sequence[float] | None = None,
) -> Tensor:
    """Return samples of a modality under Gaussian noise that depends on each sample's id alone.

    Args:
        array_B: Samples [B, ...]; integers stay within the range of their type.
        level: Standard deviation of the noise, as a multiple of that of each sample's values, or of
            ``spread``: 1 is as much noise as signal.
        modality: Its name; each has noise of its own.
        sample_ids: Id of each sample.
        spread: Standard deviation of each feature over samples, for features, whose values within
            one sample have nothing to do with each other.
    """
    given = None if spread is None else torch.tensor(spread, dtype=torch.float32)
    return torch.stack(
        [
            _noisy_one(
                array, level, seed=mix_integers(one, zlib.crc32(modality.encode())), spread=given
            )
            for array, one in zip(array_B, sample_ids, strict=True)
        ]
    )


class Spread:
    """The standard deviation of each feature over samples, of which sums alone are kept."""

    def __init__(self) -> None:
        self._num = 0
        self._sums_2D: Tensor | None = None

    def add(self, array_BD: Tensor) -> None:
        """Take samples [B, D] in."""
        values_BD = array_BD.double()
        sums_2D = torch.stack([values_BD.sum(dim=0), values_BD.square().sum(dim=0)])
        self._sums_2D = sums_2D if self._sums_2D is None else self._sums_2D + sums_2D
        self._num += len(values_BD)

    def value(self) -> list[float]:
        """Return it [D], nothing where there was no sample."""
        if self._sums_2D is None or not self._num:
            return []
        mean_D, square_D = self._sums_2D / self._num
        return (square_D - mean_D.square()).clamp(min=0.0).sqrt().tolist()


def _noisy_one(array: Tensor, level: float, *, seed: int, spread: Tensor | None) -> Tensor:
    """Return one sample under noise."""
    values = array.float()
    drawn = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
    made = values + level * (values.std(correction=0) if spread is None else spread) * drawn
    if array.is_floating_point():
        return made.to(array.dtype)
    span = torch.iinfo(array.dtype)
    return made.round_().clamp_(span.min, span.max).to(array.dtype)
