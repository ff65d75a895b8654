"""Batches as rows of tables, so that tasks of Ray Data hand them on.

Ray Data would pickle an object in a column itself, arrays and all, and copy them once more on
either side. So its arrays go beside the pickle, as protocol 5 allows, into one column of bytes
that Arrow hands on as it is.
"""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch

from mke_ray.train.batches import FeedItem

_ALIGNED_BYTES = 64


def packed(item: FeedItem, seconds: dict[str, float]) -> pa.Table:
    """Return an item as one row, its arrays one after the other.

    Args:
        item: The item.
        seconds: What making it took, by part.
    """
    buffers: list[pickle.PickleBuffer] = []
    plain = replace(item, batch=item.batch.map(cast(Any, torch.Tensor.numpy)))
    head = pickle.dumps((plain, seconds), protocol=5, buffer_callback=buffers.append)
    parts = [np.frombuffer(one.raw(), np.uint8) for one in buffers]
    ends = np.cumsum([0] + [_aligned(len(one)) for one in parts])
    content = np.empty(int(ends[-1]), np.uint8)
    for part, begin in zip(parts, ends[:-1], strict=True):
        content[begin : begin + len(part)] = part
    bounds = np.array([0, len(content)], np.int64)
    row = {
        "head": pa.array([head], pa.binary()),
        "sizes": pa.array([[len(one) for one in parts]], pa.list_(pa.int64())),
        "content": pa.Array.from_buffers(
            pa.large_binary(), 1, [None, pa.py_buffer(bounds), pa.py_buffer(content)]
        ),
    }
    return pa.table(row)


def unpacked(table: pa.Table) -> Iterator[tuple[FeedItem, dict[str, float]]]:
    """Yield what ``packed`` packed, in memory of its own."""
    for row in range(table.num_rows):
        content = np.frombuffer(table.column("content")[row].as_buffer(), np.uint8).copy()
        parts = _parts(content, table.column("sizes")[row].as_py())
        # It was pickled by a task of this job, as Ray pickles what tasks hand on.
        item, seconds = pickle.loads(table.column("head")[row].as_py(), buffers=parts)  # noqa: S301
        yield replace(item, batch=item.batch.map(torch.from_numpy)), seconds


def _parts(content: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Return the arrays that lie one after the other in bytes."""
    if not sizes:
        return []
    begins = np.cumsum([0] + [_aligned(size) for size in sizes[:-1]]).tolist()
    return [content[at : at + size] for at, size in zip(begins, sizes, strict=True)]


def _aligned(size: int) -> int:
    """Return a number of bytes rounded up, so that what follows is aligned."""
    return -(-size // _ALIGNED_BYTES) * _ALIGNED_BYTES
