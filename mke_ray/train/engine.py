"""What turns losses into a step: one Protocol, and plain torch behind it."""

import contextlib
import inspect
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mke_ray.train.optimizers import build_optimizer, set_lr

Value = TypeVar("Value")

ENGINES = ("torch", "deepspeed")
STATE_FILE = "torch.pt"
# Newer releases of torch renamed the key; buffers are statistics here and never change.
_DDP_KEYS = inspect.signature(nn.parallel.DistributedDataParallel.__init__).parameters
_BUFFERS_KEY = (
    "forward_sync_buffers" if "forward_sync_buffers" in _DDP_KEYS else "broadcast_buffers"
)


class Engine(Protocol):
    """Owns the network on its device, the optimizer, and how ranks agree.

    A step is one or more passes (forward and ``backward``), each within ``one_pass``, and ``step``.

    Attributes:
        student: What the objective calls; it may wrap the network.
        module: The network itself.
        device: Where batches go.
        is_sharded: Whether no rank holds all weights (ZeRO 3, FSDP2).
        is_resizable: Whether a saved state can be loaded by another number of workers.
    """

    student: nn.Module
    module: nn.Module
    device: torch.device
    is_sharded: bool
    is_resizable: bool

    def one_pass(self, *, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a forward and backward pass.

        Args:
            is_last: Whether it is the last one before ``step``; ranks agree on gradients there.
        """
        ...

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the objective is computed."""
        ...

    def backward(self, loss: Tensor, *, share: float | Tensor) -> None:
        """Add the gradient of a loss to that of the step.

        Args:
            loss: Scalar loss of this rank.
            share: What to multiply the loss with; a loss that is not finite spoils the gradient,
                whatever its share.
        """
        ...

    def step(self, *, lr: float) -> float:
        """Average the gradient over ranks, clip it, and update the weights.

        Args:
            lr: Learning rate of this step.

        Returns:
            Norm of the gradient before clipping. NaN on every rank where the loss or gradient of
            any rank is not finite, and infinity where a scaled float16 loss was too large and is
            scaled down: then the weights and the optimizer are as they were.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers on the CPU of rank 0; every rank must call it."""
        ...

    def save(self, folder: Path) -> None:
        """Write this rank's part of the state; every rank must call it."""
        ...

    def load(self, folder: Path, *, world_size: int) -> None:
        """Read what ``save`` wrote on all ranks.

        Args:
            folder: Folder with the parts of all ranks.
            world_size: How many there were.
        """
        ...

    def close(self) -> None:
        """Let go of memory and hooks."""
        ...


class TorchEngine:
    """Plain torch: one process, or DistributedDataParallel where a process group exists.

    Args:
        module: The network.
        optimizer: ``type`` and arguments of the optimizer.
        clip_norm: Largest gradient norm; None does not clip.
        device: Where to compute.
        bf16: Whether the objective is computed in bfloat16 where that is safe.
        find_unused_parameters: Whether parameters may be left out of a step.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        optimizer: Mapping[str, Any],
        clip_norm: float | None = None,
        device: torch.device | None = None,
        bf16: bool = False,
        find_unused_parameters: bool = False,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.module = module.to(self.device)
        self.student = self.module
        self.is_sharded = False
        self.is_resizable = True
        if world_size() > 1:
            buffers: dict[str, Any] = {_BUFFERS_KEY: False}
            self.student = nn.parallel.DistributedDataParallel(
                self.module,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                find_unused_parameters=find_unused_parameters,
                **buffers,
            )
        self._optimizer = build_optimizer(self.module.parameters(), optimizer)
        self._clip_norm = clip_norm
        self._bf16 = bf16
        self._parameters = [one for one in self.module.parameters() if one.requires_grad]

    def one_pass(self, *, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a pass; only the last one of a step exchanges gradients."""
        if is_last or not isinstance(self.student, nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return self.student.no_sync()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the objective is computed."""
        return autocast_of(self.device, torch.bfloat16 if self._bf16 else None)

    def backward(self, loss: Tensor, *, share: float | Tensor) -> None:
        """Add the gradient of a loss to that of the step."""
        spoiling(loss, share).backward()

    def step(self, *, lr: float) -> float:
        """Clip the gradient, on which ranks agree by now, and update the weights."""
        norm = stepped(self._optimizer, self._parameters, lr=lr, clip_norm=self._clip_norm)
        for one in self._parameters:
            one.grad = None
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers on the CPU of rank 0."""
        if rank() != 0:
            return {}
        state = self.module.state_dict()
        return {name: one.detach().to("cpu", copy=True) for name, one in state.items()}

    def save(self, folder: Path) -> None:
        """Write the state; it is the same on every rank, so rank 0 writes it."""
        if rank() == 0:
            state = {"module": self.module.state_dict(), "optimizer": self._optimizer.state_dict()}
            torch.save(state, folder / STATE_FILE)

    def load(self, folder: Path, *, world_size: int) -> None:
        """Read the state, which is the same for any number of ranks."""
        state = torch.load(folder / STATE_FILE, map_location=self.device, weights_only=True)
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])

    def close(self) -> None:
        """Let go of the wrapper and its hooks."""
        self.student = self.module


def autocast_of(
    device: torch.device, dtype: torch.dtype | None
) -> contextlib.AbstractContextManager[Any]:
    """Return autocast to a type of numbers, or nothing where there is none."""
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def spoiling(loss: Tensor, share: float | Tensor) -> Tensor:
    """Return a loss times its share whose whole gradient is NaN where the loss is not finite.

    A share of 0 would hide such a loss, and the average over ranks carries it to all of them.
    """
    return loss * (loss.detach() * 0.0 + share)


def stepped(
    optimizer: torch.optim.Optimizer,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    clip_norm: float | None,
) -> float:
    """Clip the gradient and update the weights, unless the gradient is not finite.

    Args:
        optimizer: The optimizer.
        parameters: All that it updates, whole or this rank's part of each.
        lr: Learning rate.
        clip_norm: Largest gradient norm; None does not clip.

    Returns:
        Norm before clipping, NaN where nothing was updated.
    """
    updated = [one for one in parameters if one.grad is not None]
    grads = [one.grad for one in updated if one.grad is not None]
    total = torch.nn.utils.get_total_norm(grads, foreach=True)
    total = total.full_tensor() if isinstance(total, DTensor) else total
    norm = total.item()
    if not math.isfinite(norm):
        return math.nan
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(updated, clip_norm, total)
    set_lr(optimizer, lr)
    optimizer.step()
    return norm


def precision_of(engine: Mapping[str, Any]) -> str:
    """Return the numbers that an engine computes in.

    Args:
        engine: ``type``, and ``bf16`` (torch) or a DeepSpeed ``config``.
    """
    config = engine.get("config", {})
    if engine.get("bf16", False) or config.get("bf16", {}).get("enabled", False):
        return "bfloat16"
    return "float16" if config.get("fp16", {}).get("enabled", False) else "float32"


def rank() -> int:
    """Return the rank of this process, 0 where there is no process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def of_all_ranks(mine: Value) -> list[Value]:
    """Return what every rank has, in rank order; every rank must call it."""
    parts = [mine]
    if world_size() > 1:
        parts = [mine] * world_size()
        dist.all_gather_object(parts, mine)
    return parts


def from_rank_zero(value: Value) -> Value:
    """Return what rank 0 has, on every rank; every rank must call it."""
    values = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]
