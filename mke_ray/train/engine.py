"""What turns a loss into a step: plain torch here, DeepSpeed in ``zero.py``, one Protocol."""

import contextlib
import inspect
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mke_ray.errors import ConfigError, TrainingError

Value = TypeVar("Value")

ENGINES = ("torch", "deepspeed")
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], tuple[str, ...]]] = {
    "adamw": (torch.optim.AdamW, ("lr", "weight_decay", "betas", "eps")),
    "sgd": (torch.optim.SGD, ("lr", "weight_decay", "momentum", "nesterov")),
}
SCHEDULES = ("constant", "cosine")
SCHEDULE_KEYS = ("type", "warmup_fraction")
STATE_FILE = "torch.pt"
_IDS_SHOWN = 16
# Newer releases of torch renamed the key; buffers are statistics here and never change.
_DDP_KEYS = inspect.signature(nn.parallel.DistributedDataParallel.__init__).parameters
_BUFFERS_KEY = (
    "forward_sync_buffers" if "forward_sync_buffers" in _DDP_KEYS else "broadcast_buffers"
)


class Engine(Protocol):
    """Owns the network on its device, the optimizer, and how ranks agree.

    Attributes:
        student: What the objective calls; it may wrap the network.
        module: The network itself.
        device: Where batches go.
        is_sharded: Whether no rank holds all weights (ZeRO 3).
        is_resizable: Whether a saved state can be loaded by another number of workers.
    """

    student: nn.Module
    module: nn.Module
    device: torch.device
    is_sharded: bool
    is_resizable: bool

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the objective is computed."""
        ...

    def step(self, loss: Tensor, *, share: float, lr: float) -> float:
        """Differentiate, average over ranks, clip, and update the weights.

        Args:
            loss: Scalar loss of this rank.
            share: What to multiply the loss with.
            lr: Learning rate of this step.

        Returns:
            Norm of the gradient before clipping; NaN on every rank where the loss of any rank
            is not finite, and then the weights are as they were.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers on the CPU; every rank must call it."""
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

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the objective is computed."""
        if not self._bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def step(self, loss: Tensor, *, share: float, lr: float) -> float:
        """Differentiate, average over ranks, clip, and update the weights."""
        for one in self._parameters:
            one.grad = None
        # A loss that is not finite makes its factor NaN, and the average of gradients spreads it.
        (loss * (loss.detach() * 0.0 + share)).backward()
        grads = [one.grad for one in self._parameters if one.grad is not None]
        total = torch.nn.utils.get_total_norm(grads, foreach=True)
        norm = total.item()
        if not math.isfinite(norm):
            return math.nan
        if self._clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, total)
        set_lr(self._optimizer, lr)
        self._optimizer.step()
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers on the CPU."""
        return {name: one.detach().cpu() for name, one in self.module.state_dict().items()}

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


def precision_of(engine: Mapping[str, Any]) -> str:
    """Return the numbers that an engine computes in.

    Args:
        engine: ``type``, and ``bf16`` (torch) or a DeepSpeed ``config``.
    """
    config = engine.get("config", {})
    if engine.get("bf16", False) or config.get("bf16", {}).get("enabled", False):
        return "bfloat16"
    return "float16" if config.get("fp16", {}).get("enabled", False) else "float32"


def build_optimizer(
    parameters: Iterable[nn.Parameter], spec: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """Build the optimizer that ``fit.optimizer`` names.

    Args:
        parameters: What to optimise.
        spec: ``type`` and the arguments of the optimizer.

    Raises:
        ConfigError: The type or a key is unknown, or ``lr`` is missing.
    """
    check_optimizer(spec)
    kind, _ = OPTIMIZERS[spec["type"]]
    return kind(parameters, **{key: value for key, value in spec.items() if key != "type"})


def check_optimizer(spec: Mapping[str, Any]) -> None:
    """Refuse an optimizer that cannot be built.

    Raises:
        ConfigError: The type or a key is unknown, or ``lr`` is missing.
    """
    kind = spec.get("type")
    if kind not in OPTIMIZERS:
        raise ConfigError(f"fit.optimizer.type is {kind!r}; choose one of {sorted(OPTIMIZERS)}")
    known = OPTIMIZERS[kind][1]
    for key in spec:
        if key not in ("type", *known):
            raise ConfigError(f"fit.optimizer.{key} is no key of {kind}; choose of {list(known)}")
    if "lr" not in spec:
        raise ConfigError("fit.optimizer.lr is missing; give a learning rate")


def check_schedule(spec: Mapping[str, Any]) -> None:
    """Refuse a schedule that does not exist.

    Raises:
        ConfigError: The type or a key is unknown.
    """
    if spec.get("type", "constant") not in SCHEDULES:
        raise ConfigError(f"fit.schedule.type is {spec['type']!r}; choose one of {SCHEDULES}")
    for key in spec:
        if key not in SCHEDULE_KEYS:
            raise ConfigError(f"fit.schedule.{key} is no such key; choose of {SCHEDULE_KEYS}")


def learning_rate(step: int, *, num_steps: int, peak: float, schedule: Mapping[str, Any]) -> float:
    """Return the learning rate of a step: linear warm-up, then constant or half a cosine to 0.

    Args:
        step: Which step, from 0.
        num_steps: Steps of the fit.
        peak: Learning rate after the warm-up.
        schedule: ``type`` (constant or cosine) and ``warmup_fraction``.
    """
    warmup = math.ceil(schedule.get("warmup_fraction", 0.0) * num_steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if schedule.get("type", "constant") == "constant":
        return peak
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def set_lr(optimizer: Any, lr: float) -> None:
    """Set the learning rate of every group of parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def rank() -> int:
    """Return the rank of this process, 0 where there is no process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def from_rank_zero(value: Value) -> Value:
    """Return what rank 0 has, on every rank; every rank must call it."""
    values = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]


def all_finite(loss: Tensor) -> bool:
    """Return whether the losses of all ranks are finite; every rank must call it."""
    is_bad = (~torch.isfinite(loss.detach())).to(torch.float32)
    if world_size() > 1:
        dist.all_reduce(is_bad, op=dist.ReduceOp.MAX)
    return not is_bad.item()


def raise_non_finite(loss: Tensor, *, step: int, sample_id_B: Tensor) -> None:
    """Raise on all ranks, with the samples of the ranks concerned; every rank must call it.

    Args:
        loss: Scalar loss of this rank.
        step: Which step.
        sample_id_B: Samples of this rank.

    Raises:
        TrainingError: Always; where every loss is finite, the gradient is to blame.
    """
    is_loss = not all_finite(loss)
    is_mine = not (is_loss and bool(torch.isfinite(loss)))
    mine = sample_id_B.tolist() if is_mine else []
    gathered: list[Any] = [mine]
    if world_size() > 1:
        gathered = [None] * world_size()
        dist.all_gather_object(gathered, mine)
    ids = [one for of_rank in gathered for one in of_rank]
    more = f" and {len(ids) - _IDS_SHOWN} more" if len(ids) > _IDS_SHOWN else ""
    raise TrainingError(
        f"the {'loss' if is_loss else 'gradient'} of step {step} is not finite; its samples are "
        f"{', '.join(map(str, ids[:_IDS_SHOWN]))}{more}; lower fit.optimizer.lr, set "
        "fit.clip_norm, or look at these samples"
    )
