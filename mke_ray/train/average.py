"""A running mean of the weights (EMA), kept beside the network: whole, or in this rank's parts."""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mke_ray.errors import StoreError
from mke_ray.train.engine import rank
from mke_ray.train.shards import Piece, forget_whole, gathered, pieces_of

_FILE = "average-{:05d}.safetensors"
_FILES = "average-*.safetensors"


class WeightAverage:
    """Exponential moving average of the parameters, by name, in float32.

    Early steps count more, so that the random start is forgotten: the decay of update n is the
    smaller of ``decay`` and (1 + n) / (10 + n). Of a network whose weights are sharded (ZeRO 3,
    FSDP2) every rank averages its own part.

    Args:
        module: The network, on its device and sharded.
        decay: Weight of the past in each update.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._num_updates = 0
        self._means = {
            name: replace(one, values=one.flat().float().clone()) for name, one in pieces_of(module)
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the mean towards the weights after a step."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        for name, one in pieces_of(module):
            self._means[name].values.lerp_(one.flat().float(), 1.0 - decay)

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Put the mean into the network for a block; every rank must call it."""
        forget_whole(module)
        kept = {name: one.flat().clone() for name, one in pieces_of(module)}
        _put(module, {name: one.values for name, one in self._means.items()})
        try:
            yield
        finally:
            _put(module, kept)

    def over(
        self, weights: Mapping[str, Tensor], *, device: torch.device | None = None
    ) -> dict[str, Tensor]:
        """Return weights and buffers with the parameters replaced by their mean.

        Every rank must call it; what it returns is whole on rank 0 and nothing elsewhere.

        Args:
            weights: What ``Engine.weights`` returned.
            device: Where ranks talk to each other; that of the mean where none is given.
        """
        mean = dict(weights)
        for name, one in self._means.items():
            whole = one.values.cpu()
            if one.is_part:
                whole = gathered(
                    one.values,
                    offset=one.offset,
                    num=math.prod(one.shape),
                    device=device or one.values.device,
                )
            if whole is not None and name in mean:
                mean[name] = whole.view(one.shape).to(mean[name].dtype)
        return mean

    def save(self, folder: Path) -> None:
        """Write the mean, or this rank's part of it, by the names of the parameters.

        Args:
            folder: Folder of the checkpoint.
        """
        mine = {name: one for name, one in self._means.items() if one.is_part or rank() == 0}
        if not mine:
            return
        values = {name: one.values.cpu() for name, one in mine.items() if one.values.numel()}
        offsets = {name: mine[name].offset for name in values}
        told = {"num_updates": str(self._num_updates), "offsets": json.dumps(offsets)}
        safetensors.torch.save_file(values, folder / _FILE.format(rank()), told)

    def restore(self, folder: Path) -> None:
        """Take over a saved mean, by however many ranks and in whatever parts it was written.

        Args:
            folder: Folder of the checkpoint, with the files of all ranks.

        Raises:
            StoreError: A part of it is missing.
        """
        files = sorted(folder.glob(_FILES))
        missing = {name: one.values.numel() for name, one in self._means.items()}
        for path in files:
            with safetensors.safe_open(path, "pt") as file:
                told = file.metadata()
                self._num_updates = int(told["num_updates"])
                for name, start in json.loads(told["offsets"]).items():
                    if name in missing:
                        missing[name] -= _take(self._means[name], file.get_slice(name), start)
        if lacking := sorted(name for name, num in missing.items() if num):
            raise StoreError(
                f"the checkpoint in {folder} lacks parts of the mean of {lacking[:3]} "
                f"({len(files)} files); delete it and train the fit again"
            )


def _take(mine: Piece, stored: Any, start: int) -> int:
    """Copy what a stored part shares with this rank's, and return how many numbers that is."""
    first = max(mine.offset, start)
    last = min(mine.offset + mine.values.numel(), start + stored.get_shape()[0])
    if first >= last:
        return 0
    shared = stored[first - start : last - start]
    mine.values[first - mine.offset : last - mine.offset] = shared.to(mine.values.device)
    return last - first


@torch.no_grad()
def _put(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into the parameters."""
    forget_whole(module)
    for name, one in pieces_of(module):
        one.put(values[name])
