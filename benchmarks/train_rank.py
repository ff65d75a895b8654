"""What one rank of a rival does: the bare loop, DeepSpeed's or Lightning's, on batches in memory.

It is started by ``train_ranks.py``, a process per rank, with a plan as JSON.
"""

# B samples, C classes.

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mke_ray.objectives import Objective
from mke_ray.schema import Batch
from mke_ray.storage import open_root
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.engine import rank
from mke_ray.train.fits import FitSpec
from mke_ray.train.loop import FitParts, apply_views
from mke_ray.train.zero import deepspeed_config, import_deepspeed


@dataclass
class Marked:
    """An objective that notes the wall clock and this process's CPU seconds at every step.

    Args:
        folder: Where each rank has its file of marks.
        objective: Gives the loss.
    """

    folder: str
    objective: Objective

    def __post_init__(self) -> None:
        """Note that engine and feed are there."""
        mark(self.folder)

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Note the step, and return what the objective does."""
        mark(self.folder)
        return self.objective(student, batch, progress)


def mark(folder: str) -> None:
    """Write one mark of this rank.

    It is the time, CPU seconds of the process, when it was started, and of this thread.
    """
    with Path(folder, f"rank{rank()}").open("a") as file:
        file.write(f"{time.time()} {time.process_time()} {_STARTED_S} {time.thread_time()}\n")


def _started_s() -> float:
    """Return when this process was started, seconds since 1970."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")


_STARTED_S = _started_s()


def main() -> None:
    """Be a rank of the rival that the plan names."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    spec = FitSpec.from_dict(plan["spec"])
    began_s = time.time()
    parts = assemble(spec, Workplace(open_root(plan["root"]), {"type": "torch"}))
    Path(plan["folder"], f"start{rank()}").write_text(str(time.time() - began_s))
    batches = [one.batch for one in parts.feed.batches(0, parts.feed.batches_per_epoch)]
    LOOPS[plan["way"]](spec, parts, batches)
    mark(plan["folder"])
    dist.barrier()
    os._exit(0)  # what DeepSpeed left behind may wait for itself


def ddp_loop(spec: FitSpec, parts: FitParts, batches: list[Batch]) -> None:
    """Train by DistributedDataParallel as it stands in torch's documentation."""
    student = parts.engine.student.train()  # DDP, without the broadcast of buffers
    optimizer = torch.optim.AdamW(student.parameters(), **_optimizer_settings(spec))
    _loop(
        spec,
        parts,
        batches,
        student=student,
        backward=lambda loss: loss.backward(),
        step=partial(_torch_step, optimizer, student, spec.clip_norm or math.inf),
    )


def zero1_loop(spec: FitSpec, parts: FitParts, batches: list[Batch]) -> None:
    """Train by DeepSpeed as it stands in its documentation."""
    deepspeed = import_deepspeed(is_cpu=True, verbose=False)
    module = parts.engine.module.train()
    config = deepspeed_config(
        {"zero_optimization": {"stage": 1}},
        micro_batch=batches[0].num_samples,
        clip_norm=spec.clip_norm,
    )
    optimizer = torch.optim.AdamW(module.parameters(), **_optimizer_settings(spec))
    engine = deepspeed.initialize(model=module, optimizer=optimizer, config=config)[0]
    _loop(spec, parts, batches, student=engine, backward=engine.backward, step=engine.step)


def lightning_loop(spec: FitSpec, parts: FitParts, batches: list[Batch]) -> None:
    """Train by Lightning's Trainer, with all that it need not do switched off."""
    import lightning  # noqa: PLC0415  # pyright: ignore[reportMissingImports] - of --rivals alone

    num_steps = spec.num_steps or 0

    class Fit(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.student = parts.engine.module.train()

        def training_step(self, batch: Batch, number: int) -> Tensor:
            viewed = apply_views(batch, parts.views)
            return parts.objective(self.student, viewed, number / num_steps)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), **_optimizer_settings(spec))

        def transfer_batch_to_device(self, batch: Batch, *_: Any) -> Batch:
            return batch

    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=dist.get_world_size(),
        strategy="ddp",
        max_steps=num_steps,
        gradient_clip_val=spec.clip_norm,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(Fit(), torch.utils.data.DataLoader(batches, batch_size=None))  # type: ignore[arg-type]


def _loop(
    spec: FitSpec,
    parts: FitParts,
    batches: list[Batch],
    *,
    student: nn.Module,
    backward: Callable[[Tensor], Any],
    step: Callable[[], Any],
) -> None:
    """Train on one epoch of batches, again and again."""
    num_steps = spec.num_steps or 0
    for number in range(num_steps):
        batch = apply_views(batches[number % len(batches)], parts.views)
        backward(parts.objective(student, batch, number / num_steps)["loss"])
        step()


def _torch_step(optimizer: torch.optim.Optimizer, student: nn.Module, clip_norm: float) -> None:
    """Clip the gradient and update the weights."""
    torch.nn.utils.clip_grad_norm_(student.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad()


def _optimizer_settings(spec: FitSpec) -> dict[str, Any]:
    """Return the arguments of the fit's AdamW."""
    return {name: value for name, value in spec.optimizer.items() if name != "type"}


LOOPS = {"bare": ddp_loop, "bare zero1": zero1_loop, "lightning": lightning_loop}


if __name__ == "__main__":
    main()
