"""What this rank holds of each parameter: all of it, or its part under ZeRO 3 and FSDP2."""

# N numbers of a part, R ranks.

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from mke_ray.train.engine import world_size

_ZERO_PART = "ds_tensor"  # where ZeRO 3 keeps this rank's part of a parameter


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one parameter.

    Args:
        values: The numbers, the storage of the network itself.
        offset: Where they begin in the whole parameter, laid out flat.
        shape: Shape of the whole parameter.
        is_part: Whether other ranks hold the rest.
    """

    values: Tensor
    offset: int
    shape: tuple[int, ...]
    is_part: bool

    def flat(self) -> Tensor:
        """Return the numbers laid out flat [N]."""
        return self.values.reshape(-1)

    def put(self, values_N: Tensor) -> None:
        """Copy numbers that are laid out flat into the network."""
        self.values.copy_(values_N.view(self.values.shape))


def pieces_of(module: nn.Module) -> Iterator[tuple[str, Piece]]:
    """Yield the name of each parameter and what this rank holds of it."""
    for name, one in module.named_parameters():
        if hasattr(one, _ZERO_PART):
            yield name, _of_zero(one)
        elif isinstance(one, DTensor):
            yield name, _of_dtensor(one)
        else:
            yield name, Piece(one.detach(), 0, tuple(one.shape), is_part=False)


def forget_whole(module: nn.Module) -> None:
    """Free whole copies of sharded parameters, so that the next pass gathers changed parts.

    ZeRO 3 keeps small parameters whole from step to step; FSDP2 whatever a pass that failed was at.
    """
    for one in module.modules():
        if isinstance(one, FSDPModule):
            one.reshard()
    for one in module.parameters():
        if hasattr(one, _ZERO_PART) and one.numel() > 0:
            one.partition()  # type: ignore[attr-defined]


def gathered(values: Tensor, *, offset: int, num: int, device: torch.device) -> Tensor | None:
    """Return a whole parameter, laid out flat, on the CPU of rank 0; every rank must call it.

    Args:
        values: This rank's part [N].
        offset: Where it begins.
        num: Numbers of the whole.
        device: Where ranks talk to each other; parts may lie elsewhere (offloaded weights).

    Returns:
        The whole [num] on rank 0, None elsewhere.
    """
    values = values.to(device)
    bounds = torch.tensor([offset, values.numel()], device=device)
    bounds_R2 = [torch.empty_like(bounds) for _ in range(world_size())]
    dist.all_gather(bounds_R2, bounds)
    longest = max(int(one[1]) for one in bounds_R2)
    padded = values.new_zeros(longest)
    padded[: values.numel()] = values
    parts = [torch.empty_like(padded) for _ in bounds_R2]
    dist.all_gather(parts, padded)
    if dist.get_rank() != 0:
        return None
    whole = torch.empty(num, dtype=values.dtype)
    for (start, length), part in zip((one.tolist() for one in bounds_R2), parts, strict=True):
        whole[start : start + length] = part[:length].cpu()
    return whole


def _of_zero(one: nn.Parameter) -> Piece:
    """Return this rank's part under ZeRO 3, without what fills up the last one."""
    part: Tensor = getattr(one, _ZERO_PART)
    shape = tuple(one.ds_shape)  # type: ignore[attr-defined]
    offset = min(dist.get_rank() * part.numel(), math.prod(shape))
    length = min(part.numel(), math.prod(shape) - offset)
    return Piece(part.detach().view(-1)[:length], offset, shape, is_part=True)


def _of_dtensor(one: DTensor) -> Piece:
    """Return this rank's part under FSDP2: some rows, the first ranks' being the first."""
    local, shape = one.to_local().detach(), tuple(one.shape)
    mesh, per_row = one.device_mesh, math.prod(shape[1:])
    rows_per_rank = -(-shape[0] // mesh.size())
    offset = min(mesh.get_local_rank() * rows_per_rank, shape[0]) * per_row
    return Piece(local, offset, shape, is_part=True)
