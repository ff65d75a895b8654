"""What the nodes of the cluster offer that are there now."""

import ray

from mke_ray.labels.capacity import NodeRoom


def living_nodes() -> list[NodeRoom]:
    """Return what the living nodes of the cluster offer."""
    offered = [one["Resources"] for one in ray.nodes() if one["Alive"]]
    return [NodeRoom(one.get("CPU", 0.0), one.get("GPU", 0.0)) for one in offered]
