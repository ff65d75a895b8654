"""Stored samples under noise, to see how a student bears a modality that is worse than usual."""

# B samples.

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


def noisy(array_B: Tensor, level: float, *, modality: str, sample_ids: Sequence[int]) -> Tensor:
    """Return samples of a modality under Gaussian noise that depends on each sample's id alone.

    Args:
        array_B: Samples [B, ...]; integers stay within the range of their type.
        level: Standard deviation of the noise, as a multiple of that of each sample's values: 1 is
            as much noise as signal.
        modality: Its name; each has noise of its own.
        sample_ids: Id of each sample.
    """
    return torch.stack(
        [
            _noisy_one(array, level, seed=mix_integers(one, zlib.crc32(modality.encode())))
            for array, one in zip(array_B, sample_ids, strict=True)
        ]
    )


def _noisy_one(array: Tensor, level: float, *, seed: int) -> Tensor:
    """Return one sample under noise."""
    values = array.float()
    drawn = torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))
    made = values + level * values.std(correction=0) * drawn
    if array.is_floating_point():
        return made.to(array.dtype)
    span = torch.iinfo(array.dtype)
    return made.round_().clamp_(span.min, span.max).to(array.dtype)
