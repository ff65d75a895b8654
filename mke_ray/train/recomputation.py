"""Activation checkpointing: blocks whose inside is computed again in the backward pass."""

from collections.abc import Iterable, Iterator
from functools import wraps
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

_STACKS = (nn.Sequential, nn.ModuleList)
_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


@runtime_checkable
class HasBlocks(Protocol):
    """A network that says itself what is computed again."""

    def recomputed_blocks(self) -> Iterable[nn.Module]:
        """Return modules, none within another."""
        ...


def recompute(network: nn.Module) -> list[str]:
    """Let the blocks of a network keep nothing but their input in training.

    Names of weights stay. Dropout draws the same again.

    Args:
        network: The network; it is changed.

    Returns:
        Names of the blocks.
    """
    names = {one: name for name, one in network.named_modules()}
    found = list(blocks_of(network))
    for one in found:
        one.forward = _checkpointed(one.forward)
    return [names[one] for one in found]


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a module: what it names, layers of transformers, and parts of stacks.

    A part of a stack is a block where it has parts itself (a residual block); a stack of plain
    layers is one block as a whole.
    """
    if isinstance(module, HasBlocks):
        yield from module.recomputed_blocks()
    elif isinstance(module, _LAYERS):
        yield module
    elif isinstance(module, _STACKS):
        yield from _blocks_of_stack(module)
    else:
        for one in module.children():
            yield from blocks_of(one)


def _blocks_of_stack(stack: nn.Sequential | nn.ModuleList) -> Iterator[nn.Module]:
    """Yield the blocks of a stack."""
    parts = list(stack)
    if isinstance(stack, nn.Sequential) and not any(list(one.children()) for one in parts):
        if any(True for _ in stack.parameters()):
            yield stack
        return
    for one in parts:
        if isinstance(one, (HasBlocks, *_STACKS)):
            yield from blocks_of(one)
        elif list(one.children()):
            yield one


def _checkpointed(forward: Any) -> Any:
    """Return a forward pass that keeps nothing but its input where a gradient is wanted."""

    @wraps(forward)
    def recomputed(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return recomputed
