"""Which nodes a cluster may start, from the file that it is made from (``ray up`` or KubeRay)."""

import math
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
_WORKERS_OF_RAY_UP = 2  # where the file gives no max_workers
_MOST_NODES = 1000


def coming_nodes(path: str) -> list[NodeRoom]:
    """Return what every node that may be there at once offers, the head among them.

    A group counts with as many nodes as it may have; that all groups together may have fewer is
    left out of account.

    Args:
        path: A cluster file of ``ray up``, or manifests with a RayCluster or a RayJob.

    Raises:
        ConfigError: There is no such file, it says of no cluster, or it leaves out what one has.
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
    most_of_all = cluster.get("max_workers", _WORKERS_OF_RAY_UP)
    for name, group in cluster["available_node_types"].items():
        is_head = name == cluster.get("head_node_type")
        offered = _at(group, "resources", of=name)
        cpus, gpus = _number(_at(offered, "CPU", of=f"{name}.resources")), offered.get("GPU", 0)
        room = NodeRoom(cpus, _number(gpus), _pool_of(group))
        most = group.get("max_workers", 0 if is_head else most_of_all)
        nodes += [room] * (_count(most, f"{name}.max_workers") + is_head)
    return nodes


def _nodes_of_kuberay(manifest: Mapping[str, Any], path: str) -> list[NodeRoom]:
    """Return the nodes of a RayCluster or of the cluster of a RayJob.

    Raises:
        ConfigError: The job runs on a cluster of another file.
    """
    spec = manifest.get("spec") or {}
    cluster = spec.get("rayClusterSpec") if manifest["kind"] == "RayJob" else spec
    if not cluster:
        raise ConfigError(f"{KEY}={path}: this job has no cluster of its own; name that one's file")
    nodes = [_room_of_group(_at(cluster, "headGroupSpec", of="the cluster"), "headGroupSpec")]
    for number, group in enumerate(cluster.get("workerGroupSpecs") or []):
        name = _at(group, "groupName", of=f"workerGroupSpecs.{number}")
        most = _at(group, "maxReplicas", of=name)
        replicas = _count(most, f"{name}.maxReplicas")
        hosts = _count(group.get("numOfHosts", 1), f"{name}.numOfHosts")
        pods = _count(replicas * hosts, f"{name}.maxReplicas times numOfHosts")
        nodes += [_room_of_group(group, name)] * pods
    return nodes


def _room_of_group(group: Mapping[str, Any], name: str) -> NodeRoom:
    """Return what a pod of a group offers, read and rounded up as Ray's autoscaler does.

    Its ``resources`` come first, then ``rayStartParams``, the limits and the requests of its first
    container.
    """
    container = _at(group, "template", "spec", "containers", 0, of=name).get("resources") or {}
    kept = {**(container.get("requests") or {}), **(container.get("limits") or {})}
    started, own = group.get("rayStartParams") or {}, group.get("resources") or {}
    gpus = [value for key, value in kept.items() if key.endswith("gpu") and _number(value) > 0]
    offered = {
        "CPU": started.get("num-cpus", kept.get("cpu")),
        "GPU": started.get("num-gpus", next(iter(gpus), 0)),
        **own,
    }
    if offered["CPU"] is None:
        raise _missing("resources.CPU", of=name)
    cpus, gpus_of_pod = math.ceil(_number(offered["CPU"])), math.ceil(_number(offered["GPU"]))
    return NodeRoom(float(cpus), float(gpus_of_pod), _pool_of(group))


def _pool_of(group: Mapping[str, Any]) -> str:
    return (group.get("labels") or {}).get(POOL_LABEL, "")


def _at(holder: Any, *keys: str | int, of: str) -> Any:
    """Return what stands below some keys of a group.

    Raises:
        ConfigError: Nothing does.
    """
    for number, key in enumerate(keys):
        try:
            holder = holder[key]
        except (KeyError, IndexError, TypeError) as error:
            raise _missing(".".join(map(str, keys[: number + 1])), of=of) from error
    return holder


def _missing(path: str, *, of: str) -> ConfigError:
    return ConfigError(
        f"{KEY}: {of} has no {path}; give it, since nobody asks the cloud here what a node has "
        "(resources: {CPU: ..., GPU: ...}) and how many there may be"
    )


def _count(value: Any, name: str) -> int:
    """Return how many nodes there may be.

    Raises:
        ConfigError: It is no number, or one beyond what is looked through.
    """
    if isinstance(value, int) and 0 <= value <= _MOST_NODES:
        return value
    raise ConfigError(
        f"{KEY}: {name}={value!r}; give a whole number from 0 to {_MOST_NODES}, or leave {KEY} null"
    )


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
