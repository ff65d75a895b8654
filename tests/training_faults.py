"""Objectives that go wrong once, for tests of what training survives."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mke_ray import errors
from mke_ray.objectives import MKEObjective
from mke_ray.schema import Batch

POLLED_S = 3.0  # in which Ray hears of checkpoints that are stored beside training


@dataclass
class KillOnce:
    """Kills its process once, at a share of the training, on one rank."""

    marker: str
    progress: float = 0.6
    rank: int = 1

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        marker = Path(self.marker)
        if dist.get_rank() == self.rank:
            with Path(f"{self.marker}.calls").open("a") as file:
                file.write(f"{progress}\n")
        if progress >= self.progress and dist.get_rank() == self.rank and not marker.exists():
            marker.write_text("killed")
            time.sleep(POLLED_S)
            os.kill(os.getpid(), signal.SIGKILL)
        return MKEObjective(alpha=0.0)(student, batch, progress)


@dataclass
class NotFinite:
    """Returns NaN at a share of the training on one rank, and notes its samples."""

    marker: str
    progress: float = 0.25
    rank: int = 1

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        losses = MKEObjective(alpha=0.0)(student, batch, progress)
        rank = dist.get_rank() if dist.is_initialized() else self.rank
        if progress >= self.progress and rank == self.rank:
            with Path(self.marker).open("a") as file:
                file.write(" ".join(map(str, batch.sample_id_B.tolist())) + "\n")
            losses["loss"] = losses["loss"] * torch.nan
        return losses


@dataclass
class Raises:
    """Raises an error of ours at a share of the training on one rank, and counts how often."""

    marker: str
    error: str
    progress: float = 0.25
    rank: int = 1

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        if progress >= self.progress and dist.get_rank() == self.rank:
            with Path(self.marker).open("a") as file:
                file.write("raised\n")
            raise getattr(errors, self.error)("the memory of this rank is full")
        return MKEObjective(alpha=0.0)(student, batch, progress)


@dataclass
class SpoiltWeight:
    """A user's weight of labels that raises."""

    def fit(self, statistics: Any) -> dict[str, Any]:
        return {}

    def weights(self, *decisions: Any, **more: Any) -> Any:
        raise ValueError("my weight has a bug")


@dataclass
class SpoiltGradient:
    """Has a finite loss at some of its calls whose gradient is infinite, on one rank."""

    calls: list[int]
    rank: int = 1
    num_calls: int = 0

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        losses = MKEObjective(alpha=0.0)(student, batch, progress)
        rank = dist.get_rank() if dist.is_initialized() else self.rank
        if self.num_calls in self.calls and rank == self.rank:
            losses["loss"] = losses["loss"] + torch.sqrt(losses["loss"] * 0.0)
        self.num_calls += 1
        return losses


@dataclass
class Hangs:
    """Waits without end at a share of the training, having written down its process."""

    marker: str
    progress: float = 0.25

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        if progress >= self.progress:
            Path(self.marker).write_text(str(os.getpid()))
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            threading.Event().wait()
        return MKEObjective(alpha=0.0)(student, batch, progress)
