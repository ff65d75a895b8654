"""What the nodes of the cluster offer that are there now."""

from typing import Any

import ray

from mke_ray.labels.capacity import NodeRoom
from mke_ray.node_pools import POOL_LABEL


def living_nodes() -> list[NodeRoom]:
    """Return what the living nodes of the cluster offer."""
    return [_room(one) for one in ray.nodes() if one["Alive"]]


def _room(node: dict[str, Any]) -> NodeRoom:
    offered, labels = node["Resources"], node.get("Labels") or {}
    return NodeRoom(offered.get("CPU", 0.0), offered.get("GPU", 0.0), labels.get(POOL_LABEL, ""))
