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
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.train.engine import all_finite, build_optimizer, set_lr
from mke_ray.train.universal import CONVERTIBLE_OPTIMIZERS, is_convertible, universal_checkpoint

TAG = "engine"
SHARDED_STAGE = 3
STAGES = (0, 1, 2, 3)

_OURS = {
    "optimizer": "fit.optimizer",
    "scheduler": "fit.schedule",
    "gradient_clipping": "fit.clip_norm",
    "train_micro_batch_size_per_gpu": "fit.global_batch and scaling.num_workers",
}


class DeepSpeedEngine:
    """ZeRO over the ranks of the process group; the optimizer is torch's, so nothing is compiled.

    Args:
        module: The network.
        config: A DeepSpeed configuration, as in DeepSpeed's own documentation.
        optimizer: ``type`` and arguments of the optimizer.
        micro_batch: Most rows of a rank in a step.
        clip_norm: Largest gradient norm; None does not clip.
        device: Where to compute.
        verbose: Whether DeepSpeed may talk.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        config: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        micro_batch: int,
        clip_norm: float | None = None,
        device: torch.device | None = None,
        verbose: bool = False,
    ) -> None:
        self.device = device or torch.device("cpu")
        deepspeed = import_deepspeed(is_cpu=self.device.type == "cpu", verbose=verbose)
        full = deepspeed_config(config, micro_batch=micro_batch, clip_norm=clip_norm)
        self._optimizer = build_optimizer(module.to(self.device).parameters(), optimizer)
        self._engine = deepspeed.initialize(model=module, optimizer=self._optimizer, config=full)[0]
        self._deepspeed = deepspeed
        self.student = self._engine
        self.module = self._engine.module
        self._stage = zero_stage(config)
        self.is_sharded = self._stage == SHARDED_STAGE
        self.is_resizable = self._stage == 0 or is_convertible(optimizer)
        self._is_bf16 = bool(config.get("bf16", {}).get("enabled", False))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the objective is computed."""
        if not self._is_bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def step(self, loss: Tensor, *, share: float, lr: float) -> float:
        """Differentiate, average over ranks, clip, and update the weights.

        With stages 1 to 3 DeepSpeed tells the norm after the update: a gradient that is not
        finite under a finite loss is reported by the norm, but the weights are spoilt.
        """
        if not all_finite(loss):
            return math.nan
        set_lr(self._engine.optimizer, lr)
        self._engine.backward(loss * share)
        before = self._norm_before_step()
        if before is not None and not math.isfinite(before):
            return math.nan
        self._engine.step()
        return before if before is not None else float(self._engine.get_global_grad_norm())

    def _norm_before_step(self) -> float | None:
        """Return the norm of the gradient where every rank holds all of it (stage 0)."""
        if self._stage > 0:
            return None
        grads = [one.grad for one in self.module.parameters() if one.grad is not None]
        return torch.nn.utils.get_total_norm(grads).item()

    def weights(self) -> dict[str, Tensor]:
        """Return all weights and buffers on the CPU; every rank must call it."""
        parameters = list(self.module.parameters()) if self.is_sharded else []
        with self._deepspeed.zero.GatheredParameters(parameters, enabled=self.is_sharded):
            state = self.module.state_dict()
            return {name: one.detach().float().cpu().clone() for name, one in state.items()}

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


def check_config(config: Mapping[str, Any], *, use_gpu: bool) -> None:
    """Refuse, before any worker starts, a DeepSpeed configuration that cannot work here.

    Args:
        config: A DeepSpeed configuration.
        use_gpu: Whether workers have a GPU.

    Raises:
        ConfigError: It names the key and the way out.
    """
    for key, ours in _OURS.items():
        if key in config:
            raise ConfigError(f"engine.config.{key} is set by {ours}; remove it")
    if zero_stage(config) not in STAGES:
        raise ConfigError(
            f"engine.config.zero_optimization.stage is {zero_stage(config)}; choose of {STAGES}"
        )
    if config.get("gradient_accumulation_steps", 1) != 1:
        raise ConfigError(
            "engine.config.gradient_accumulation_steps must be 1: accumulation does not exist "
            "yet; lower fit.global_batch or raise scaling.num_workers"
        )
    if not use_gpu and config.get("fp16", {}).get("enabled", False):
        raise ConfigError(
            "engine.config.fp16 needs a GPU; use engine.config.bf16.enabled=true, or "
            "scaling.gpus_per_worker=1"
        )


def check_resizable(config: Mapping[str, Any], optimizer: Mapping[str, Any]) -> None:
    """Refuse a number of workers that may change where the optimizer's state could not follow.

    Args:
        config: A DeepSpeed configuration.
        optimizer: ``type`` and arguments of the optimizer.

    Raises:
        ConfigError: It names the keys.
    """
    if zero_stage(config) > 0 and not is_convertible(optimizer):
        raise ConfigError(
            f"scaling.num_workers may change, but DeepSpeed cannot divide the state of "
            f"fit.optimizer.type={optimizer['type']} among another number of workers; use one of "
            f"{CONVERTIBLE_OPTIMIZERS}, engine=torch or zero0, or a fixed scaling.num_workers"
        )


def check_batch(config: Mapping[str, Any], *, global_batch: int) -> None:
    """Refuse a DeepSpeed batch size that contradicts the fit's.

    Raises:
        ConfigError: The two differ.
    """
    stated = config.get("train_batch_size", global_batch)
    if stated != global_batch:
        raise ConfigError(
            f"engine.config.train_batch_size={stated} but fit.global_batch={global_batch}; "
            "remove the first, or make them equal"
        )


def deepspeed_config(
    config: Mapping[str, Any], *, micro_batch: int, clip_norm: float | None
) -> dict[str, Any]:
    """Return the configuration that DeepSpeed gets.

    Args:
        config: The user's part.
        micro_batch: Most rows of a rank in a step.
        clip_norm: Largest gradient norm; None does not clip.
    """
    full: dict[str, Any] = {
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 30,
        **copy.deepcopy(dict(config)),
        "train_micro_batch_size_per_gpu": micro_batch,
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
