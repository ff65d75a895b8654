"""DeepSpeed behind the Engine Protocol: ZeRO 0 to 3 from a plain DeepSpeed configuration."""

import contextlib
import copy
import gc
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mke_ray.train.engine import autocast_of, precision_of, rank, spoiling, world_size
from mke_ray.train.optimizers import build_optimizer, set_lr
from mke_ray.train.universal import is_convertible, universal_checkpoint

TAG = "engine"
SHARDED_STAGE = 3


class DeepSpeedEngine:
    """ZeRO over the ranks of the process group; the optimizer is torch's, so nothing is compiled.

    Args:
        module: The network.
        config: What DeepSpeed gets, see ``deepspeed_config``.
        optimizer: ``type`` and arguments of the optimizer.
        device: Where to compute.
        verbose: Whether DeepSpeed may talk.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        config: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        device: torch.device | None = None,
        verbose: bool = False,
    ) -> None:
        self.device = device or torch.device("cpu")
        deepspeed = import_deepspeed(is_cpu=self.device.type == "cpu", verbose=verbose)
        self._optimizer = build_optimizer(module.to(self.device).parameters(), optimizer)
        self._engine = deepspeed.initialize(
            model=module, optimizer=self._optimizer, config=dict(config)
        )[0]
        self._deepspeed = deepspeed
        self.student = self._engine
        self.module = self._engine.module
        self._stage = zero_stage(config)
        self.is_sharded = self._stage == SHARDED_STAGE
        self.is_resizable = self._stage == 0 or is_convertible(optimizer)
        self._precision = precision_of({"config": config})
        self._is_finite = torch.ones((), dtype=torch.bool, device=self.device)

    def one_pass(self, *, is_last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a pass; DeepSpeed is told whether it is the last one of a step."""
        self._engine.set_gradient_accumulation_boundary(is_last)
        return contextlib.nullcontext()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the objective is computed."""
        dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16}
        return autocast_of(self.device, dtypes.get(self._precision))

    def backward(self, loss: Tensor, *, share: float | Tensor) -> None:
        """Add the gradient of a loss to that of the step; shares of passes are in it already."""
        self._is_finite = self._is_finite & torch.isfinite(loss.detach())
        self._engine.backward(spoiling(loss, share), scale_wrt_gas=False)

    def step(self, *, lr: float) -> float:
        """Average the gradient over ranks, clip it, and update the weights.

        DeepSpeed drops a gradient whose norm is not finite, but for stage 0 in float32, where
        every rank holds all of it and it is looked at here.
        """
        set_lr(self._engine.optimizer, lr)
        is_finite, self._is_finite = self._is_finite, torch.ones_like(self._is_finite)
        if self._stage == 0 and self._precision == "float32":
            return self._plain_step()
        self._engine.step()
        if self._engine.was_step_applied():
            return float(self._engine.get_global_grad_norm())
        is_scaled_down = self._precision == "float16" and _everywhere(is_finite)
        return math.inf if is_scaled_down else math.nan

    def _plain_step(self) -> float:
        """Update the weights unless the gradient is not finite."""
        grads = [one.grad for one in self.module.parameters() if one.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads).item()
        if not math.isfinite(norm):
            self._engine.zero_grad()
            return math.nan
        self._engine.step()
        return norm

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers on the CPU of rank 0; every rank must call it.

        What is sharded is gathered one weight after the other.
        """
        whole = {}
        for name, one in self.module.state_dict(keep_vars=True).items():
            is_sharded = self.is_sharded and isinstance(one, nn.Parameter)
            with self._deepspeed.zero.GatheredParameters([one], enabled=is_sharded):
                if rank() == 0:
                    whole[name] = one.detach().float().cpu().clone()
        return whole

    def save(self, folder: Path) -> None:
        """Write this rank's part of the state; every rank must call it."""
        self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path, *, world_size: int) -> None:
        """Read what ``save`` wrote on all ranks, also where there were more or fewer of them."""
        if self._stage == 0 or world_size == self._engine.world_size:
            self._engine.load_checkpoint(str(folder), tag=TAG)
            return
        with universal_checkpoint(folder, TAG) as converted:
            self._engine.load_checkpoint(str(converted), tag=TAG)

    def close(self) -> None:
        """Let go of memory and hooks, so that the next fit starts clean."""
        optimizer = self._engine.optimizer
        self._engine.destroy()
        if self.is_sharded:
            # ZeRO 3 leaves the network in a list of DeepSpeed's and hooks in cycles that are
            # never collected: without this, every fit of a run would stay in memory.
            self._deepspeed.runtime.zero.parameter_offload.FWD_MODULE_STACK.clear()
            for parameter in self.module.parameters():
                vars(parameter).clear()
            vars(optimizer).clear()
            self._optimizer.state.clear()
            self._optimizer.param_groups.clear()
        del self._engine, self.student, self.module
        gc.collect()


def resized_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration that loads a checkpoint of another number of ranks."""
    if zero_stage(config) == 0:
        return dict(config)
    return {**config, "checkpoint": {**config.get("checkpoint", {}), "load_universal": True}}


def zero_stage(config: Mapping[str, Any]) -> int:
    """Return the ZeRO stage of a DeepSpeed configuration, 0 by default."""
    return int(config.get("zero_optimization", {}).get("stage", 0))


def _everywhere(flag: Tensor) -> bool:
    """Return whether a flag is set on all ranks; every rank must call it."""
    num = flag.to(torch.float32)
    if world_size() > 1:
        dist.all_reduce(num, op=dist.ReduceOp.MIN)
    return bool(num.item())


def deepspeed_config(
    config: Mapping[str, Any], *, micro_batch: int, num_passes: int = 1, clip_norm: float | None
) -> dict[str, Any]:
    """Return the configuration that DeepSpeed gets.

    Args:
        config: The user's part.
        micro_batch: Most rows of a rank in one pass.
        num_passes: Most passes of a step; batches may have fewer, and the engine says which is
            the last.
        clip_norm: Largest gradient norm; None does not clip.
    """
    full: dict[str, Any] = {
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 30,
        **copy.deepcopy(dict(config)),
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": num_passes,
        "gradient_clipping": clip_norm or 0.0,  # left out, DeepSpeed clips at 1
    }
    full.pop("train_batch_size", None)  # ours may be uneven over ranks; checked on the driver
    return full


def import_deepspeed(*, is_cpu: bool, verbose: bool) -> Any:
    """Import DeepSpeed so that it is quiet and compiles nothing on a CPU.

    Args:
        is_cpu: Whether there is no GPU to use.
        verbose: Whether DeepSpeed may talk.
    """
    if is_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"  # before the import, which picks the accelerator
    if not verbose:
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed  # noqa: PLC0415 - seconds, and only where it is used

    if not verbose:
        deepspeed.utils.logger.setLevel(logging.ERROR)
    if is_cpu:
        # gloo is used, but initialize would compile this operator for two minutes.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
