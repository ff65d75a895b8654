"""Which nodes a cluster may start, from the file that it is made from (``ray up`` or KubeRay)."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import NodeRoom
from mke_ray.node_pools import POOL_LABEL

KEY = "ray.cluster_file"

_KINDS = ("RayCluster", "RayJob")
_MILLI = "m"


def coming_nodes(path: str) -> list[NodeRoom]:
    """Return what every node that may be there at once offers, the head among them.

    A group counts with as many nodes as it may have; that all groups together may have fewer is
    left out of account.

    Args:
        path: A cluster file of ``ray up``, or manifests with a RayCluster or a RayJob.

    Raises:
        ConfigError: There is no such file, or it says of no cluster.
    """
    try:
        with open(path, encoding="utf-8") as file:
            documents = [one for one in yaml.safe_load_all(file) if isinstance(one, Mapping)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{KEY}={path} could not be read: {error}") from error
    for one in documents:
        if "available_node_types" in one:
            return _nodes_of_ray_up(one)
        if one.get("kind") in _KINDS:
            return _nodes_of_kuberay(one, path)
    raise ConfigError(
        f"{KEY}={path} says of no cluster; give a file of ray up (available_node_types), or one "
        f"with a {' or '.join(_KINDS)}"
    )


def _nodes_of_ray_up(cluster: Mapping[str, Any]) -> list[NodeRoom]:
    """Return the nodes of a cluster file of ``ray up``."""
    nodes: list[NodeRoom] = []
    for name, group in cluster["available_node_types"].items():
        most = group.get("max_workers", cluster.get("max_workers", 0))
        number = int(most) + (name == cluster.get("head_node_type"))
        nodes += [_room(group.get("resources", {}), group.get("labels", {}))] * number
    return nodes


def _nodes_of_kuberay(manifest: Mapping[str, Any], path: str) -> list[NodeRoom]:
    """Return the nodes of a RayCluster or of the cluster of a RayJob.

    Raises:
        ConfigError: The job runs on a cluster of another file.
    """
    spec = manifest.get("spec", {})
    cluster = spec.get("rayClusterSpec") if manifest["kind"] == "RayJob" else spec
    if not cluster:
        raise ConfigError(f"{KEY}={path}: this job has no cluster of its own; name that one's file")
    nodes = [_room_of_group(cluster["headGroupSpec"])]
    for group in cluster.get("workerGroupSpecs", []):
        number = int(group["maxReplicas"]) * int(group.get("numOfHosts", 1))
        nodes += [_room_of_group(group)] * number
    return nodes


def _room_of_group(group: Mapping[str, Any]) -> NodeRoom:
    """Return what a pod of a group offers: as its ``resources`` say, else the limits of Ray's."""
    container = group["template"]["spec"]["containers"][0].get("resources", {})
    limits = {**container.get("requests", {}), **container.get("limits", {})}
    gpus = next((value for key, value in limits.items() if key.endswith("/gpu")), 0)
    offered = {"CPU": limits.get("cpu", 0), "GPU": gpus, **group.get("resources", {})}
    return _room(offered, group.get("labels", {}))


def _room(offered: Mapping[str, Any], labels: Mapping[str, str]) -> NodeRoom:
    cpus, gpus = _number(offered.get("CPU", 0)), _number(offered.get("GPU", 0))
    return NodeRoom(cpus, gpus, labels.get(POOL_LABEL, ""))


def _number(quantity: Any) -> float:
    """Return a number of CPUs or GPUs, which Kubernetes may write in thousandths.

    Raises:
        ConfigError: It is none.
    """
    text = str(quantity)
    try:
        if text.endswith(_MILLI):
            return float(Decimal(text.removesuffix(_MILLI)) / 1000)
        return float(Decimal(text))
    except InvalidOperation as error:
        raise ConfigError(f"{KEY}: {quantity!r} is no number of CPUs or GPUs") from error
