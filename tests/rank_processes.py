"""Fits trained by ranks that are fresh processes, without Ray, each ended at a step of choice."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 300


class StoppedError(Exception):
    """The fit was to end here."""


@dataclass(frozen=True)
class StopAt:
    """Writes one checkpoint into a folder after a step, and ends the fit."""

    step: int | None
    folder: str

    def is_urgent(self, step: int) -> bool:
        return step == self.step

    def save(self, write: Any, *, is_urgent: bool) -> None:
        import torch.distributed as dist

        folder = Path(self.folder)
        own = folder.with_name(f"{folder.name}-{dist.get_rank()}")
        own.mkdir(parents=True)
        write(own)
        for one in [one for one in own.rglob("*") if one.is_file()]:
            target = folder / one.relative_to(own)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                one.rename(target)
        dist.barrier()
        raise StoppedError


@dataclass(frozen=True)
class Phase:
    """One fit until a step.

    Args:
        root: URI of the run.
        spec: The fit, plain.
        engine: Its engine.
        stop_at: Step after which it ends; None trains to the end.
        folder: Where its checkpoint goes.
        resume_from: Folder of the checkpoint to go on from.
        micro_batch: Most rows of a pass.
    """

    root: str
    spec: dict[str, Any]
    engine: dict[str, Any]
    stop_at: int | None
    folder: str
    resume_from: str | None = None
    micro_batch: int | None = None


def run_phases(phases: Sequence[Phase], num_ranks: int) -> None:
    """Train some fits one after the other by so many ranks."""
    from conftest import free_ports

    port, spawn = free_ports(1)[0], get_context("spawn")
    ranks = [
        spawn.Process(target=_rank, args=(rank, num_ranks, port, list(phases)))
        for rank in range(num_ranks)
    ]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join(START_TIMEOUT_S)
    codes = [one.exitcode for one in ranks]
    for one in ranks:
        one.kill()
    assert codes == [0] * num_ranks


def _rank(rank: int, num_ranks: int, port: int, phases: list[Phase]) -> None:
    """Be one rank."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    import torch
    import torch.distributed as dist

    from mke_ray.storage import open_root
    from mke_ray.train.accumulation import StepRules
    from mke_ray.train.assemble import Workplace
    from mke_ray.train.checkpoints import open_checkpoint
    from mke_ray.train.fits import FitSpec
    from mke_ray.train.run import FitWatch, run_fit

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for phase in phases:
        spec = FitSpec.from_dict(json.loads(json.dumps(phase.spec)))
        watch = FitWatch(spec, None, StopAt(phase.stop_at, phase.folder), 1, 0)
        resume_from = open_checkpoint(Path(phase.resume_from)) if phase.resume_from else None
        rules = StepRules(micro_batch=phase.micro_batch)
        workplace = Workplace(open_root(phase.root), phase.engine, rules=rules)
        try:
            run_fit(spec, workplace, watch=watch, resume_from=resume_from)
        except StoppedError:
            continue
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # what DeepSpeed left behind may wait for itself
