"""A running mean of the weights (EMA), kept beside the network."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of the parameters, by name, in float32.

    Early steps count more, so that the random start is forgotten: the decay of update n is the
    smaller of ``decay`` and (1 + n) / (10 + n).

    Args:
        module: The network; it must hold all its weights (not ZeRO 3).
        decay: Weight of the past in each update.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._num_updates = 0
        self._mean = {name: one.detach().float().clone() for name, one in _named(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the mean towards the weights after a step."""
        self._num_updates += 1
        decay = min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        for name, one in _named(module):
            self._mean[name].lerp_(one.detach().float(), 1.0 - decay)

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Put the mean into the network for a block."""
        kept = {name: one.detach().clone() for name, one in _named(module)}
        _copy(module, self._mean)
        try:
            yield
        finally:
            _copy(module, kept)

    def over(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights and buffers with the parameters replaced by their mean."""
        mean = {name: one.cpu().to(weights[name].dtype) for name, one in self._mean.items()}
        return {**weights, **mean}

    def state(self) -> dict[str, Tensor]:
        """Return what ``restore`` needs, as tensors by name."""
        return {**self._mean, "": torch.tensor(self._num_updates)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved mean."""
        self._num_updates = int(state[""])
        for name, one in self._mean.items():
            one.copy_(state[name])


def _named(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters by name."""
    yield from module.named_parameters()


@torch.no_grad()
def _copy(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into the parameters."""
    for name, one in _named(module):
        one.copy_(values[name])
