"""Batches of a fit, read by index: a fixed plan, one integer of state, every row once."""

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from mke_ray.errors import ConfigError
from mke_ray.labels.folds import FoldDivision
from mke_ray.schema import Batch
from mke_ray.train.batches import BatchMaker, FeedItem
from mke_ray.train.blocks import UnitReader
from mke_ray.train.copying import copied_ahead
from mke_ray.train.feeding import Ahead, Source
from mke_ray.train.fits import RowSelection
from mke_ray.train.making import ThreadSource
from mke_ray.train.plan import RowPlan
from mke_ray.train.waiting import WAIT


class Feed:
    """Batches of one rank.

    Args:
        reader: The stores.
        plan: The order of all rows.
        selections: The selections that the plan was made from.
        rank: Which rank.
        world_size: Number of ranks.
        ahead: How much is done ahead.
        folds: Folds that batches tell; None tells none.

    Attributes:
        source: Who makes the batches; threads of this process, unless another one is put here.
        waits_as: The kind of time that waiting for its batches is, of ``FeedTimes``.
    """

    def __init__(
        self,
        reader: UnitReader,
        plan: RowPlan,
        *,
        selections: Sequence[RowSelection],
        rank: int = 0,
        world_size: int = 1,
        ahead: Ahead | None = None,
        folds: FoldDivision | None = None,
    ) -> None:
        if plan.num_rows == 0:
            splits = [f"{one.split} (targets {one.targets})" for one in selections]
            raise ConfigError(f"no usable row in {', '.join(splits)}; check the source's splits")
        self.plan = plan
        self.maker = BatchMaker(
            reader, plan, selections=selections, rank=rank, world_size=world_size, folds=folds
        )
        self.times = reader.times
        self.waits_as = WAIT
        self.ahead = ahead or Ahead()
        self.source: Source = ThreadSource(self.maker, self.ahead)
        self._whole: FeedItem | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Global batches in one epoch."""
        return self.plan.batches_per_epoch

    def batches(self, start: int, stop: int) -> Iterator[FeedItem]:
        """Yield this rank's part of the global batches from start to stop, on their device.

        Args:
            start: First global batch; the only state there is.
            stop: The global batch to stop before.
        """
        if self.plan.is_full_batch:
            yield from self._whole_batches(start, stop)
            return
        made = self.source.items(start, stop)
        try:
            yield from copied_ahead(self._waited_for(made), self.ahead.device)
        finally:
            made.close()

    def item(self, cursor: int) -> FeedItem:
        """Return this rank's part of one global batch."""
        return self.maker.item(cursor)

    def first_batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the rows of epoch 0 in batches, as far as asked for; the same on every rank.

        Args:
            batch_size: Rows per batch.
        """
        for start in range(0, self.plan.num_rows, batch_size):
            yield self.maker.rows_from(start, batch_size)

    def _waited_for(self, made: Iterator[FeedItem]) -> Generator[FeedItem, None, None]:
        """Yield items with the seconds that each was waited for."""
        while True:
            began = time.perf_counter()
            item = next(made, None)
            wait_s = time.perf_counter() - began
            if item is None:
                return
            self.times.add(self.waits_as, wait_s)
            yield replace(item, wait_s=wait_s)

    def _whole_batches(self, start: int, stop: int) -> Iterator[FeedItem]:
        """Yield the same rows again and again; only the epoch changes."""
        for cursor in range(start, stop):
            began = time.perf_counter()
            if self._whole is None:
                made = self.maker.item(cursor)
                self._whole = replace(made, batch=made.batch.to(self.ahead.device))
            batch = replace(self._whole.batch, epoch=self.plan.epoch_of(cursor))
            wait_s = time.perf_counter() - began
            self.times.add(self.waits_as, wait_s)
            yield replace(self._whole, batch=batch, cursor=cursor, wait_s=wait_s)
