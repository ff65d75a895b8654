"""How batches get to the loop: by threads of the worker, or by a pool of CPUs elsewhere."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import NodeRoom, check_node_pool
from mke_ray.train.batches import BatchMaker, FeedItem
from mke_ray.train.room import room_of

FEEDS = ("local", "ray")


@dataclass(frozen=True, slots=True)
class Ahead:
    """How much a feed does ahead of the loop.

    Args:
        num_threads: Batches made at a time; as many units, and at least two, are fetched.
        prefetch_batches: Batches ready or being made, at least 1; None takes one more than threads,
            and at least 2.
        prefetch_bytes: Bytes of these batches; one is made however large it is.
        device: Where batches are wanted; on a GPU they are copied one ahead of the loop.
    """

    num_threads: int = 1
    prefetch_batches: int | None = None
    prefetch_bytes: int = 1 << 30
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def depth(self, batch_bytes: int) -> int:
        """Return how many batches to have ready or in the making.

        Args:
            batch_bytes: Bytes of the last batch; 0 where none was made yet.
        """
        wanted = self.prefetch_batches or max(2, self.num_threads + 1)
        if batch_bytes == 0:
            return min(wanted, self.num_threads)
        return max(1, min(wanted, self.prefetch_bytes // batch_bytes))


class Source(Protocol):
    """Who makes batches."""

    def items(self, start: int, stop: int) -> Generator[FeedItem, None, None]:
        """Yield one rank's part of the global batches from start to stop, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Feeding:
    """The settings of a feed.

    Args:
        feed: ``local`` or ``ray``.
        ahead: How much the threads of a worker do ahead.
        num_cpus: CPUs per worker of the pool of ``ray``.
        timeout_s: How long to wait for a batch of this pool.
        node_pool: Label of the nodes that the pool of ``ray`` may be on; None takes any.
    """

    feed: str = "local"
    ahead: Ahead = field(default_factory=Ahead)
    num_cpus: int = 1
    timeout_s: float = 600.0
    node_pool: str | None = None

    @classmethod
    def from_scaling(cls, scaling: Mapping[str, Any]) -> "Feeding":
        """Take what belongs here out of the section ``scaling``.

        Raises:
            ConfigError: A number makes no sense.
        """
        feed = scaling.get("feed", "local")
        if feed not in FEEDS:
            raise ConfigError(f"scaling.feed={feed!r}; choose one of {list(FEEDS)}")
        least = {"feed_threads": 1, "prefetch_batches": 1, "prefetch_bytes": 1, "feed_cpus": 1}
        for key, lowest in least.items():
            value = scaling.get(key)
            if value is not None and value < lowest:
                raise ConfigError(f"scaling.{key}={value} must be at least {lowest}")
        num_threads = scaling.get("feed_threads") or int(scaling.get("cpus_per_worker", 1))
        timeout_s = scaling.get("feed_timeout_s", 600.0)
        if timeout_s <= 0:
            raise ConfigError(f"scaling.feed_timeout_s={timeout_s} must be above 0")
        ahead = Ahead(
            max(1, num_threads),
            scaling.get("prefetch_batches"),
            scaling.get("prefetch_bytes", 1 << 30),
        )
        num_cpus, node_pool = scaling.get("feed_cpus", 1), scaling.get("feed_pool")
        if node_pool is not None and feed != "ray":
            raise ConfigError(
                f"scaling.feed_pool={node_pool} is for scaling.feed=ray, and scaling.feed={feed}; "
                "set scaling.feed=ray, or leave scaling.feed_pool null"
            )
        return cls(feed, ahead, num_cpus, timeout_s, node_pool)

    def source_of(self, maker: BatchMaker, ahead: Ahead) -> "Source | None":
        """Return who makes the batches elsewhere; None where the worker does.

        Args:
            maker: Makes the batches of this rank.
            ahead: How much is done ahead, and for which device.
        """
        if self.feed == "local":
            return None
        from mke_ray.train.ray_feed import RaySource  # noqa: PLC0415  # ray.data takes seconds

        return RaySource(
            maker, self.num_cpus, ahead, timeout_s=self.timeout_s, node_pool=self.node_pool
        )


def check_feeding(scaling: Mapping[str, Any]) -> None:
    """Refuse settings that cannot work.

    Args:
        scaling: The section ``scaling``.

    Raises:
        ConfigError: It names the key and the way out.
    """
    launch = scaling["launch"]
    if Feeding.from_scaling(scaling).feed == "ray" and launch != "trainer":
        raise ConfigError(
            f"scaling.feed=ray needs scaling.launch=trainer, found {launch}; use scaling.feed=local"
        )


def check_pool(scaling: Mapping[str, Any], num_workers: int, *, nodes: Sequence[NodeRoom]) -> None:
    """Refuse a pool that a cluster cannot run beside the workers: Ray would wait for ever.

    Args:
        scaling: What a worker takes, ``feed_cpus`` and the pools of the section ``scaling``.
        num_workers: Most workers.
        nodes: The nodes that are there.

    Raises:
        ConfigError: It says to which number to change what.
    """
    own, pool, node_pool = scaling["cpus_per_worker"], scaling["feed_cpus"], scaling["feed_pool"]
    check_node_pool(node_pool, nodes, key="scaling.feed_pool")
    num_cpus = sum(node.cpus for node in nodes if node_pool in (None, node.pool))
    beside = max(0, num_workers - _room_elsewhere(scaling, nodes))
    wanted = beside * own + num_workers * pool
    if wanted <= num_cpus:
        return
    fitting = int((num_cpus - beside * own) / num_workers)
    way_out = f"set scaling.feed_cpus={fitting}" if fitting > 0 else "use scaling.feed=local"
    raise ConfigError(
        f"scaling.feed=ray takes {wanted:g} CPUs (scaling.num_workers={num_workers} times "
        f"scaling.feed_cpus={pool}"
        + (f", and {beside} times scaling.cpus_per_worker={own:g} beside it" if beside else "")
        + f"), {_where(node_pool)} {num_cpus:g}; {way_out}, fewer workers, or start more nodes"
    )


def _room_elsewhere(scaling: Mapping[str, Any], nodes: Sequence[NodeRoom]) -> int:
    """Return how many workers there is room for where the pool of the feed is not."""
    if scaling["feed_pool"] is None:
        return 0
    takes = (scaling["cpus_per_worker"], scaling["gpus_per_worker"], scaling["pool"])
    elsewhere = [one for one in nodes if one.pool != scaling["feed_pool"]]
    return sum(room_of(one, *takes) for one in elsewhere)


def _where(node_pool: str | None) -> str:
    return "the cluster has" if node_pool is None else f"scaling.feed_pool={node_pool} has"
