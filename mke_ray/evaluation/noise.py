"""Stored samples under noise, to see how a student bears a modality that is worse than usual."""

# B samples, D features.

import zlib
from collections.abc import Iterable, Sequence

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


def spread_of(batches_BD: Iterable[Tensor]) -> list[float]:
    """Return the standard deviation of each feature over the samples of batches [B, D]."""
    num, total_2D = 0, None
    for array_BD in batches_BD:
        values_BD = array_BD.double()
        sums_2D = torch.stack([values_BD.sum(dim=0), values_BD.square().sum(dim=0)])
        total_2D = sums_2D if total_2D is None else total_2D + sums_2D
        num += len(values_BD)
    if total_2D is None or not num:
        return []
    mean_D, square_D = total_2D / num
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
