"""Whether the cluster has room for the training workers: Ray would wait for it without end."""

import logging
from collections.abc import Sequence

from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import NodeRoom, check_node_pool

logger = logging.getLogger(__name__)

_EPSILON = 1e-9


def check_room(
    least: int,
    *,
    cpus: float,
    gpus: float,
    nodes: Sequence[NodeRoom],
    is_autoscaling: bool,
    pool: str | None = None,
) -> bool:
    """Refuse a worker group that the cluster cannot hold; where nodes may come, say so.

    Args:
        least: Workers without which training does not start.
        cpus: CPUs per worker.
        gpus: GPUs per worker.
        nodes: The nodes that are there.
        is_autoscaling: Whether nodes come when they are asked for.
        pool: Label of the nodes that they may be on; None takes any.

    Returns:
        Whether there is room now.

    Raises:
        ConfigError: It names the number to change.
    """
    room = sum(room_of(node, cpus, gpus, pool) for node in nodes)
    if room >= least:
        return True
    if not is_autoscaling:
        check_node_pool(pool, nodes, key="scaling.pool")
    offer = f"{sum(n.cpus for n in nodes):g} CPUs and {sum(n.gpus for n in nodes):g} GPUs"
    found = (
        f"{least} training workers of {cpus:g} CPUs and {gpus:g} GPUs do not fit the cluster "
        f"({offer} on {len(nodes)} nodes: room for {room})"
    )
    if is_autoscaling:
        logger.warning("%s; waiting for nodes", found)
        return False
    raise ConfigError(
        f"{found}; set scaling.num_workers={room} or less"
        if room
        else f"{found}; lower scaling.cpus_per_worker or scaling.gpus_per_worker, or give Ray more "
        "(ray.num_cpus); set ray.autoscaling=true where nodes come when they are asked for"
    )


def room_of(node: NodeRoom, cpus: float, gpus: float, pool: str | None = None) -> int:
    """Return how many workers fit a node; none where they are for nodes of another pool."""
    if pool not in (None, node.pool):
        return 0
    limits = [
        int(offered / wanted + _EPSILON)
        for offered, wanted in ((node.cpus, cpus), (node.gpus, gpus))
        if wanted > 0
    ]
    return min(limits, default=1)
