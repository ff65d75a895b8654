"""Channels of a named layer of a network: read, put in the place of others, or left out."""

# B samples, D channels, X any.

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError


def layer_of(network: nn.Module, name: str) -> nn.Module:
    """Return a layer of a network by its dotted name.

    Raises:
        ConfigError: There is none; the error names those that there are.
    """
    layers = dict(network.named_modules())
    if name not in layers or not name:
        known = [one for one in layers if one]
        raise ConfigError(f"focus.layer={name!r} is no layer of the network; choose one of {known}")
    return layers[name]


@contextlib.contextmanager
def recorded(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a layer says while a block runs, one tensor per call."""
    said: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _layer, _given, out: said.append(_checked(out)))
    try:
        yield said
    finally:
        handle.remove()


@contextlib.contextmanager
def replaced(layer: nn.Module, x_BX: Tensor) -> Iterator[None]:
    """Let a layer say something else while a block runs."""
    handle = layer.register_forward_hook(lambda _layer, _given, _out: x_BX)
    try:
        yield
    finally:
        handle.remove()


def keep_channels(network: nn.Module, layer: str, kept_D: Tensor, *, axis: int = 1) -> nn.Module:
    """Return a copy of a network whose layer says 0 in all but some channels.

    No gradient reaches the layers before it, so that a fit trains what comes after it alone.

    Args:
        network: The network, which stays as it is.
        layer: Dotted name of the layer.
        kept_D: Which channels are kept [D], bool.
        axis: Axis of the channels in what the layer says.
    """
    own = copy.deepcopy(network)

    def hook(_layer: nn.Module, _given: Any, out: Any) -> Tensor:
        said = _checked(out)
        shape = [1] * said.dim()
        shape[axis] = -1
        return (said * kept_D.to(said.device, said.dtype).view(shape)).detach()

    layer_of(own, layer).register_forward_hook(hook)
    return own


def num_kept_of(num: int, kept: float) -> int:
    """Return how many channels are kept: at least one, and not all.

    Args:
        num: Channels that there are.
        kept: Share of them to keep.

    Raises:
        ConfigError: There is only one channel.
    """
    if num < 2:
        raise ConfigError(
            f"focus.layer: the layer has {num} channel, so there is none to choose; name another "
            "layer"
        )
    return min(max(1, round(kept * num)), num - 1)


def random_channels(num: int, num_kept: int, generator: torch.Generator) -> Tensor:
    """Return which channels a draw without replacement keeps [D], bool."""
    kept_D = torch.zeros(num, dtype=torch.bool)
    kept_D[torch.randperm(num, generator=generator)[:num_kept]] = True
    return kept_D


def _checked(out: Any) -> Tensor:
    """Return what a layer says if it is one tensor.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(out, Tensor):
        raise ConfigError(
            f"focus.layer: the layer returns {type(out).__name__}, not one tensor of channels; "
            "name another layer"
        )
    return out
