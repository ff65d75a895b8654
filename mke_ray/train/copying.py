"""Batches on their way to a GPU: from memory that cannot be paged out, one ahead of the loop."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from mke_ray.schema import Batch
from mke_ray.train.batches import FeedItem

_Item = TypeVar("_Item")
_Begun = TypeVar("_Begun")


def is_copied_ahead(device: torch.device) -> bool:
    """Return whether batches for a device are pinned and copied ahead."""
    return device.type == "cuda"


def pinned(batch: Batch, device: torch.device) -> Batch:
    """Return the batch in pinned memory where its device copies from there, else itself."""
    return batch.map(Tensor.pin_memory) if is_copied_ahead(device) else batch


def copied_ahead(items: Iterable[FeedItem], device: torch.device) -> Iterator[FeedItem]:
    """Yield items on a device; on a GPU the next one is copied while the loop uses this one.

    Args:
        items: Items in pinned memory where the device is a GPU.
        device: Where they are wanted.
    """
    if not is_copied_ahead(device):
        yield from items
        return
    copier = _Copier(device)
    yield from one_ahead(items, copier.begin, copier.finish)


def one_ahead(
    items: Iterable[_Item], begin: Callable[[_Item], _Begun], finish: Callable[[_Begun], _Item]
) -> Iterator[_Item]:
    """Yield items finished, each begun before the one before it is yielded.

    Args:
        items: The items.
        begin: Begins something with an item and does not wait for it.
        finish: Makes sure that it is done before the item is used.
    """
    last: _Begun | None = None
    for item in items:
        begun = begin(item)
        if last is not None:
            yield finish(last)
        last = begun
    if last is not None:
        yield finish(last)


class _Copier:
    """Copies on a stream of its own, beside the computing.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def begin(self, item: FeedItem) -> tuple[FeedItem, torch.Event]:
        """Begin to copy an item."""
        with torch.cuda.stream(self._stream):
            batch = item.batch.map(lambda one: one.to(self._device, non_blocking=True))
            return replace(item, batch=batch), self._stream.record_event()

    def finish(self, begun: tuple[FeedItem, torch.Event]) -> FeedItem:
        """Let the computing wait for the copies of an item, and keep their memory meanwhile."""
        item, copied = begun
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(copied)
        for tensor in item.batch.tensors():
            tensor.record_stream(computing)
        return item
