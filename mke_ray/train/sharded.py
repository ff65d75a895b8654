"""FSDP2 behind the Engine Protocol: every rank holds its part of weights, gradients and optimizer.

In one process the network stays as it is; states are written in the same form.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from mke_ray.train.engine import autocast_of, rank, spoiling, stepped, world_size
from mke_ray.train.optimizers import build_optimizer
from mke_ray.train.recomputation import blocks_of

SHARDS = ("fsdp2",)
_OPTIMIZER = "optimizer"
_CONTAINERS = (nn.ModuleList, nn.ModuleDict)


class ShardedTorchEngine:
    """Plain torch with weights sharded over the ranks of the process group.

    In bfloat16 weights travel in bfloat16, which halves what is sent, and gradients are added up in
    float32; autocast keeps losses and normalisation in float32 as with the other engines.

    Args:
        module: The network.
        optimizer: ``type`` and arguments of the optimizer.
        clip_norm: Largest gradient norm; None does not clip.
        device: Where to compute.
        bf16: Whether the objective is computed in bfloat16 where that is safe.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        optimizer: Mapping[str, Any],
        clip_norm: float | None = None,
        device: torch.device | None = None,
        bf16: bool = False,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.module = module.to(self.device)
        self.is_sharded = world_size() > 1
        self.is_resizable = True
        self._bf16 = bf16
        if self.is_sharded:
            self._shard()
        self.student = self.module
        self._optimizer = build_optimizer(self.module.parameters(), optimizer)
        self._clip_norm = clip_norm
        self._parameters = [one for one in self.module.parameters() if one.requires_grad]

    def _shard(self) -> None:
        """Shard the parts of the network one by one, and what is left as the last one."""
        if self.device.index is not None:
            torch.cuda.set_device(self.device)  # where torch shards to
        half = torch.bfloat16 if self._bf16 else None
        settings: dict[str, Any] = {
            "mesh": init_device_mesh(self.device.type, (world_size(),)),
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=half,
                reduce_dtype=torch.float32 if half else None,
                cast_forward_inputs=False,  # autocast does, but not where float32 is needed
            ),
            # Also of the root, which torch would leave whole after a pass without gradient.
            "reshard_after_forward": True,
        }
        for one in units_of(self.module):
            fully_shard(one, **settings)
        fully_shard(self.module, **settings)

    def one_pass(self, *, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a pass; every pass adds to sharded gradients, to save memory."""
        if isinstance(self.module, FSDPModule):
            self.module.set_is_last_backward(is_last)
        return contextlib.nullcontext()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the objective is computed."""
        return autocast_of(self.device, torch.bfloat16 if self._bf16 else None)

    def backward(self, loss: Tensor, *, share: float | Tensor) -> None:
        """Add the gradient of a loss to that of the step."""
        spoiling(loss, share).backward()

    def step(self, *, lr: float) -> float:
        """Clip the gradient, of which every rank has its part by now, and update the weights."""
        norm = stepped(self._optimizer, self._parameters, lr=lr, clip_norm=self._clip_norm)
        for one in self._parameters:
            one.grad = None
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers on the CPU of rank 0; every rank must call it."""
        whole = {}
        for name, one in self.module.state_dict().items():
            full = one.full_tensor() if isinstance(one, DTensor) else one
            if rank() == 0:
                whole[name] = full.detach().to("cpu", copy=True)
        return whole

    def save(self, folder: Path) -> None:
        """Write this rank's part of the state; every rank must call it.

        Before the first step there is no state of the optimizer: torch would make a step without
        gradient to have one, which AdamW counts.
        """
        save(self._state(with_optimizer=bool(self._optimizer.state)), checkpoint_id=str(folder))

    def load(self, folder: Path, *, world_size: int) -> None:
        """Read what ``save`` wrote on all ranks, however many they were."""
        names = FileSystemReader(folder).read_metadata().state_dict_metadata
        state = self._state(with_optimizer=any(name.startswith(_OPTIMIZER) for name in names))
        load(state, checkpoint_id=str(folder))
        set_model_state_dict(self.module, state["module"])
        if _OPTIMIZER in state:
            set_optimizer_state_dict(self.module, self._optimizer, state[_OPTIMIZER])

    def close(self) -> None:
        """Let go of the network."""
        del self.module, self.student, self._optimizer, self._parameters

    def _state(self, *, with_optimizer: bool) -> dict[str, Any]:
        """Return weights and, where asked for, optimizer by the names of the weights."""
        state: dict[str, Any] = {"module": get_model_state_dict(self.module)}
        if with_optimizer:
            state[_OPTIMIZER] = get_optimizer_state_dict(self.module, self._optimizer)
        return state


def units_of(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts of a network that are gathered one after the other, inner ones first.

    Args:
        network: A student: each encoder, the fusion, a decoder and each hidden layer is a part, and
            so is each block of a deep one. Single layers are gathered with the network itself.
    """
    for child in network.children():
        for part in _elements(child):
            if not list(part.children()) or not _has_parameters(part):
                continue
            blocks = [one for one in blocks_of(part) if _has_parameters(one)]
            if len(blocks) > 1:
                yield from blocks
            yield part


def _elements(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module, or of a container, which has no pass of its own, what it holds."""
    if not isinstance(module, _CONTAINERS):
        yield module
        return
    for one in module.children():
        yield from _elements(one)


def _has_parameters(module: nn.Module) -> bool:
    """Return whether a module has weights."""
    return any(True for _ in module.parameters())
