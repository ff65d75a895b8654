"""Random numbers that depend on (seed, epoch, sample_id, repeat) alone, not on order or batch."""

# B samples, N elements of one sample.

import math
import zlib

import torch
from torch import Tensor

from mke_ray.schema import Batch
from mke_ray.seeds import GOLDEN, MULTIPLY_1, MULTIPLY_2, mix_integers

_LOW_32 = (1 << 32) - 1


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift a signed 64-bit tensor as if it were unsigned."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix_(x: Tensor) -> Tensor:
    """Scramble 64-bit integers in place (the finalizer of MurmurHash3)."""
    x.bitwise_xor_(_shift_right(x, 33)).mul_(MULTIPLY_1)
    x.bitwise_xor_(_shift_right(x, 33)).mul_(MULTIPLY_2)
    return x.bitwise_xor_(_shift_right(x, 33))


def keys_for(sample_id_B: Tensor, *, seed: int, epoch: int, stream: int) -> Tensor:
    """Return one 64-bit key per sample.

    Args:
        sample_id_B: Sample ids [B], int64.
        seed: Seed of the fit.
        epoch: Epoch, so that every epoch draws anew.
        stream: What the numbers are for; different streams are independent.

    Returns:
        Keys [B], int64.
    """
    return _mix_(_mix_(sample_id_B.clone()) + mix_integers(seed, epoch, stream))


def keys_of_rows(batch: Batch, stream: int) -> Tensor:
    """Return one 64-bit key per row of a batch [B], another each time that a sample comes.

    Args:
        batch: The batch.
        stream: What the numbers are for; different streams are independent.
    """
    id_B = batch.sample_id_B
    if batch.repeat_B is not None:
        id_B = id_B + batch.repeat_B * GOLDEN
    return keys_for(id_B, seed=batch.seed, epoch=batch.epoch, stream=stream)


def batch_keys(batch: Batch, purpose: str) -> Tensor:
    """Return random keys [B] of a batch for a purpose; different purposes are independent."""
    return keys_of_rows(batch, zlib.crc32(purpose.encode()))


def uniform(key_B: Tensor, num: int) -> Tensor:
    """Return uniform numbers in [0, 1).

    Args:
        key_B: Keys [B] from ``keys_for``.
        num: Numbers per sample N.

    Returns:
        float32 [B, N].
    """
    counter_N = torch.arange(1, num + 1, device=key_B.device, dtype=torch.int64) * GOLDEN
    bits_BN = _mix_(key_B[:, None] + counter_N)
    return _shift_right(bits_BN, 40).to(torch.float32).mul_(1.0 / (1 << 24))


def gaussian(key_B: Tensor, num: int) -> Tensor:
    """Return standard normal numbers by the Box-Muller transform.

    Args:
        key_B: Keys [B] from ``keys_for``.
        num: Numbers per sample N.

    Returns:
        float32 [B, N].
    """
    half = (num + 1) // 2
    counter_N = torch.arange(1, half + 1, device=key_B.device, dtype=torch.int64) * GOLDEN
    bits_BN = _mix_(key_B[:, None] + counter_N)
    radius_BN = _shift_right(bits_BN, 33).to(torch.float32).add_(1.0).mul_(1.0 / (1 << 31))
    radius_BN.log_().mul_(-2.0).clamp_(min=0.0).sqrt_()
    angle_BN = bits_BN.bitwise_and_(_LOW_32).to(torch.float32).mul_(2.0 * math.pi / (1 << 32))
    pairs = torch.cat([torch.cos(angle_BN).mul_(radius_BN), angle_BN.sin_().mul_(radius_BN)], dim=1)
    return pairs[:, :num]


def gaussian_like(x_BX: Tensor, key_B: Tensor) -> Tensor:
    """Return standard normal noise of the shape and dtype of a batch [B, ...]."""
    num = math.prod(x_BX.shape[1:])
    return gaussian(key_B, num).reshape(x_BX.shape).to(x_BX.dtype)
