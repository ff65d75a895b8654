"""Batches made by tasks of Ray Data on any node: the plan of the rank, carried out elsewhere."""

import logging
import pickle
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from ray.data import DataContext, ExecutionOptions, TaskPoolStrategy
from ray.data._internal.execution.interfaces import ExecutionResources
from ray.exceptions import RayTaskError

from mke_ray.errors import MkeRayError
from mke_ray.train.batches import BatchMaker, FeedItem
from mke_ray.train.copying import pinned
from mke_ray.train.feeding import Ahead
from mke_ray.train.making import ThreadSource

_CHUNKS_AT_ONCE = 1024  # of one execution; the next one begins behind it
_HANDED_ON_BYTES = 1 << 10  # so that a batch goes on when it is made
_ALIGNED_BYTES = 64
_READY = 2
_NEVER = -1.0

_makers: dict[str, BatchMaker] = {}


class RaySource:
    """Has the batches of one rank made by a pool of tasks, in the order of the plan.

    A task makes the batches of one window of units, so that each unit is read by one or two tasks.

    Args:
        maker: Makes a batch; a copy goes to every process of the pool.
        num_cpus: Tasks of one CPU at a time.
        ahead: Bounds the bytes of batches that wait, and tells where they are wanted.
    """

    def __init__(self, maker: BatchMaker, num_cpus: int, ahead: Ahead) -> None:
        self._maker = maker
        self._num_cpus = num_cpus
        self._ahead = ahead
        self._shipped: ray.ObjectRef | None = None

    def items(self, start: int, stop: int) -> Generator[FeedItem, None, None]:
        """Yield one rank's part of the global batches from start to stop, in order."""
        made = self._made(start, stop)
        pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        try:
            yield from _taken_ahead(made, pool)
        finally:
            pool.shutdown(cancel_futures=True)
            made.close()

    def _made(self, start: int, stop: int) -> Generator[FeedItem, None, None]:
        """Yield the batches of one execution after the other."""
        size = self._batches_per_chunk()
        for begin in range(start, stop, size * _CHUNKS_AT_ONCE):
            end = min(begin + size * _CHUNKS_AT_ONCE, stop)
            for table in _tables(self._dataset(begin, end, size)):
                yield from map(self._received, unpacked(table))

    def _received(self, made: tuple[FeedItem, dict[str, float]]) -> FeedItem:
        """Count what a task took, and return its batch as the loop wants it."""
        item, seconds = made
        for kind, value in seconds.items():
            self._maker.reader.times.add(kind, value)
        return replace(item, batch=pinned(item.batch, self._ahead.device))

    def _dataset(self, begin: int, end: int, size: int) -> ray.data.Dataset:
        """Return the dataset whose rows are the batches from begin to end."""
        if self._shipped is None:
            self._shipped = ray.put(self._maker)
        chunks = [
            pa.table({"start": [first], "stop": [min(first + size, end)]})
            for first in range(begin, end, size)
        ]
        cache_bytes = self._maker.reader.cache_bytes // self._num_cpus
        with DataContext.current(self._context()):
            return ray.data.from_arrow(chunks).map_batches(
                cast(Any, _make),
                batch_size=None,
                batch_format="pyarrow",
                fn_kwargs={"shipped": [self._shipped], "cache_bytes": cache_bytes},
                compute=TaskPoolStrategy(size=self._num_cpus),
                num_cpus=1,
            )

    def _batches_per_chunk(self) -> int:
        """Return how many batches a task makes: those of a window, or fewer large ones."""
        fitting = self._ahead.prefetch_bytes // (2 * self._num_cpus * self._maker.bytes_per_batch)
        return max(1, min(self._maker.batches_per_window, fitting))

    def _context(self) -> DataContext:
        """Return settings that keep the order, stay within the pool and outlast long waits."""
        context = DataContext.get_current().copy()
        context.execution_options = ExecutionOptions(
            preserve_order=True,
            resource_limits=ExecutionResources.for_limits(
                cpu=self._num_cpus, object_store_memory=self._ahead.prefetch_bytes
            ),
        )
        context.target_max_block_size = _HANDED_ON_BYTES
        context.execution_no_progress_timeout_s = _NEVER
        context.memory_usage_poll_interval_s = None
        context.enable_progress_bars = False
        context.enable_operator_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        return context


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
        sizes = table.column("sizes")[row].as_py()
        begins = np.cumsum([0] + [_aligned(size) for size in sizes[:-1]]).tolist()
        parts = [content[at : at + size] for at, size in zip(begins, sizes, strict=bool(sizes))]
        # It was pickled by a task of this job, as Ray pickles what tasks hand on.
        item, seconds = pickle.loads(table.column("head")[row].as_py(), buffers=parts)  # noqa: S301
        yield replace(item, batch=item.batch.map(torch.from_numpy)), seconds


def _tables(dataset: ray.data.Dataset) -> Generator[pa.Table, None, None]:
    """Yield what tasks made.

    Raises:
        MkeRayError: A task met it.
    """
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    except RayTaskError as error:
        if isinstance(error.cause, MkeRayError):
            raise error.cause from None
        raise


def _make(chunk: pa.Table, shipped: list[Any], cache_bytes: int) -> Iterator[pa.Table]:
    """Make the batches of a chunk in a task; what was read stays in its process for the next."""
    maker = _maker_here(shipped[0], cache_bytes)
    times = maker.reader.times
    for start, stop in zip(*(one.to_pylist() for one in chunk.columns), strict=True):
        before = dict(times.seconds)
        for item in ThreadSource(maker, Ahead(1)).items(start, stop):
            yield packed(item, times.since(before))
            before = dict(times.seconds)


def _maker_here(shipped: ray.ObjectRef, cache_bytes: int) -> BatchMaker:
    """Return the maker of this process; that of another fit is forgotten."""
    key = shipped.hex()
    if key not in _makers:
        _makers.clear()
        maker = ray.get(shipped)
        maker.reader.bound_memory(cache_bytes)
        _makers[key] = maker
    return _makers[key]


def _taken_ahead(
    made: Iterator[FeedItem], pool: ThreadPoolExecutor
) -> Generator[FeedItem, None, None]:
    """Yield items that a thread takes ahead."""
    taking: deque[Future[FeedItem | None]] = deque(
        pool.submit(next, made, None) for _ in range(_READY)
    )
    while (item := taking.popleft().result()) is not None:
        taking.append(pool.submit(next, made, None))
        yield item


def _aligned(size: int) -> int:
    """Return a number of bytes rounded up, so that what follows is aligned."""
    return -(-size // _ALIGNED_BYTES) * _ALIGNED_BYTES
