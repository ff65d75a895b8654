"""Batches made by tasks of Ray Data on any node: the plan of the rank, carried out elsewhere."""

import logging
import uuid
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
import ray.data
from ray.data import DataContext, ExecutionOptions, TaskPoolStrategy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.interfaces import ExecutionResources
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)

from mke_ray.errors import MkeRayError, TrainingError
from mke_ray.labels.living_nodes import living_nodes
from mke_ray.node_pools import selector_of
from mke_ray.train.batches import BatchMaker, FeedItem
from mke_ray.train.copying import pinned
from mke_ray.train.feeding import Ahead
from mke_ray.train.making import ThreadSource
from mke_ray.train.packing import packed, unpacked
from mke_ray.train.pool_makers import PoolMakers, Shipped
from mke_ray.train.taking import TakenAhead

logger = logging.getLogger(__name__)

_CHUNKS_AT_ONCE = 1024  # of one execution; the next one begins behind it
_HANDED_ON_BYTES = 1 << 10  # so that a batch goes on when it is made
_NEVER = -1.0
_EXECUTION = "mke_ray.execution"
_TRIES = 3  # to get a batch


class _EndedEarlyError(Exception):
    """An execution ended before its last batch."""


_LOST = (NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError, _EndedEarlyError)

_makers = PoolMakers()
_ended: set[str] = set()  # executions whose batches nobody wants any longer


class RaySource:
    """Has the batches of one rank made by a pool of tasks, in the order of the plan.

    A task makes the batches of one window of units, so that each unit is read by one or two tasks.
    What a lost node takes away is made again from the batch on that is wanted next.

    Args:
        maker: Makes a batch; a copy goes to every process of the pool.
        num_cpus: Tasks of one CPU at a time.
        ahead: Bounds the bytes of batches that wait, and tells where they are wanted.
        timeout_s: How long to wait for a batch, beside the time for which stores are asked.
        node_pool: Label of the nodes that tasks may be on; None takes any.
    """

    def __init__(
        self,
        maker: BatchMaker,
        num_cpus: int,
        ahead: Ahead,
        *,
        timeout_s: float = 600.0,
        node_pool: str | None = None,
    ) -> None:
        self._maker = maker
        self._num_cpus = num_cpus
        self._ahead = ahead
        self._timeout_s = timeout_s
        self._selector = selector_of(node_pool) or None
        self._try_s = timeout_s / _TRIES + maker.reader.samples.root.patience_s
        self._shipped: Shipped | None = None
        self._execution: str | None = None

    def items(self, start: int, stop: int) -> Generator[FeedItem, None, None]:
        """Yield one rank's part of the global batches from start to stop, in order.

        Raises:
            TrainingError: The pool made no batch in time, or its tasks die again and again.
        """
        cursor, tries = start, 0
        while cursor < stop:
            taken = TakenAhead(self._made(cursor, stop), self._end)
            try:
                while (item := taken.next(self._try_s)) is not None:
                    cursor, tries = item.cursor + 1, 0
                    yield item
            except (TimeoutError, *_LOST) as error:
                tries += 1
                if tries == _TRIES:
                    raise self._gave_up(cursor, error) from error
                logger.warning("the pool lost batch %d, and begins anew: %r", cursor, error)
            finally:
                taken.close()

    def _made(self, start: int, stop: int) -> Generator[FeedItem, None, None]:
        """Yield the batches of one execution after the other.

        Raises:
            _EndedEarlyError: One ended without an error before its last batch.
        """
        size = self._batches_per_chunk()
        for begin in range(start, stop, size * _CHUNKS_AT_ONCE):
            end = min(begin + size * _CHUNKS_AT_ONCE, stop)
            self._execution = uuid.uuid4().hex
            coming = begin
            for table in _tables(self._dataset(begin, end, size)):
                for made in unpacked(table):
                    coming += 1
                    yield self._received(made)
            if coming < end:
                raise _EndedEarlyError(f"an execution ended before batch {coming} of {end}")
        self._execution = None

    def _end(self) -> None:
        """Have the present execution end."""
        if self._execution is not None:
            _ended.add(self._execution)

    def _gave_up(self, cursor: int, error: Exception) -> TrainingError:
        """Return the error of a pool that makes no batch."""
        num_cpus = sum(node.cpus for node in living_nodes())
        found = (
            f"made no batch {cursor} in {self._timeout_s:g} s (scaling.feed_timeout_s)"
            if isinstance(error, TimeoutError)
            else f"lost batch {cursor} {_TRIES} times, at last by {error!r}"
        )
        return TrainingError(
            f"the pool of scaling.feed=ray {found}; it needs a CPU that no worker takes, and the "
            f"cluster has {num_cpus:g} in all now. Start more nodes, lower scaling.num_workers, "
            "take scaling.feed=local, or raise scaling.feed_timeout_s where a batch takes that "
            "long, and start the job again: it goes on at its last checkpoint"
        )

    def _received(self, made: tuple[FeedItem, dict[str, float]]) -> FeedItem:
        """Count what a task took, and return its batch as the loop wants it."""
        item, seconds = made
        for kind, value in seconds.items():
            self._maker.reader.times.add(kind, value)
        return replace(item, batch=pinned(item.batch, self._ahead.device))

    def _dataset(self, begin: int, end: int, size: int) -> ray.data.Dataset:
        """Return the dataset whose rows are the batches from begin to end."""
        if self._shipped is None:
            self._shipped = Shipped.of(self._maker)
        chunks = [
            {"start": first, "stop": min(first + size, end)} for first in range(begin, end, size)
        ]
        cache_bytes = self._maker.reader.cache_bytes // self._num_cpus
        with DataContext.current(self._context(size)):
            # Tables would be looked at by tasks, for which a full cluster has no CPU.
            rows = ray.data.from_items(chunks, override_num_blocks=len(chunks))
            return rows.map_batches(
                cast(Any, _make),
                batch_size=None,
                batch_format="pyarrow",
                fn_kwargs={"shipped": self._shipped, "cache_bytes": cache_bytes},
                compute=TaskPoolStrategy(size=min(self._num_cpus, len(chunks))),
                num_cpus=1,
                label_selector=self._selector,
            )

    def _batches_per_chunk(self) -> int:
        """Return how many batches a task makes: those of a window, or fewer large ones."""
        fitting = self._ahead.prefetch_bytes // (2 * self._num_cpus * self._maker.bytes_per_batch)
        return max(1, min(self._maker.batches_per_window, fitting))

    def _context(self, size: int) -> DataContext:
        """Return settings that keep the order, stay within the pool and outlast long waits."""
        context = DataContext.get_current().copy()
        context.execution_options = ExecutionOptions(
            preserve_order=True,
            label_selector=self._selector,
            resource_limits=ExecutionResources.for_limits(
                cpu=self._num_cpus, object_store_memory=self._ahead.prefetch_bytes
            ),
        )
        context.target_max_block_size = _HANDED_ON_BYTES
        # A task that waits until its batches are taken would keep its CPU, for which the pool of
        # another worker may wait, and the first worker for that one.
        context._max_num_blocks_in_streaming_gen_buffer = size + 1
        context.custom_execution_callback_classes = [_EndsWhenTold]
        context.set_config(_EXECUTION, self._execution)
        context.execution_no_progress_timeout_s = _NEVER
        context.memory_usage_poll_interval_s = None
        context.enable_progress_bars = False
        context.enable_operator_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        return context


def _tables(dataset: ray.data.Dataset) -> Generator[pa.Table, None, None]:
    """Yield what tasks made.

    Raises:
        MkeRayError: A task met it.
    """
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
    except RayTaskError as error:
        if isinstance(error.cause, (MkeRayError, *_LOST)):
            raise error.cause from None
        raise


class _EndsWhenTold(ExecutionCallback):
    """Ends an execution whose batches nobody wants; its consumer may wait for one for ever."""

    def on_execution_step(self, executor: StreamingExecutor) -> None:
        """Look whether it is over."""
        execution = executor._data_context.get_config(_EXECUTION)
        if execution in _ended:
            _ended.discard(execution)
            raise ExecutionTimeoutError("no more batches are wanted")


def _make(chunk: pa.Table, shipped: Shipped, cache_bytes: int) -> Iterator[pa.Table]:
    """Make the batches of a chunk in a task; what was read stays in its process for the next."""
    maker = _makers.maker(shipped, cache_bytes)
    times = maker.reader.times
    for start, stop in zip(*(one.to_pylist() for one in chunk.columns), strict=True):
        before = dict(times.seconds)
        for item in ThreadSource(maker, Ahead(1)).items(start, stop):
            yield packed(item, times.since(before))
            before = dict(times.seconds)
