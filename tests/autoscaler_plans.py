"""What Ray's own autoscaler would start for a demand, by the files of ``cluster/``."""

import copy
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cluster_files import RAY_CLUSTER, RAY_JOB, RAY_UP, cluster_spec, document
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig, FileConfigReader
from ray.autoscaler.v2.scheduler import (
    ResourceDemandScheduler,
    SchedulingReply,
    SchedulingRequest,
)
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest, NodeState, NodeStatus
from ray.core.generated.common_pb2 import LabelSelectorOperator
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

from mke_ray.expansion.demands import Demand
from mke_ray.node_pools import POOL_LABEL

FILES = {
    "aws": RAY_UP[0],
    "gcp": RAY_UP[1],
    "RayCluster": RAY_CLUSTER,
    "RayJob": RAY_JOB,
}


def autoscaling_config(path: Path) -> AutoscalingConfig:
    """Return what Ray's autoscaler makes of a cluster file."""
    if path in RAY_UP:
        return _read(document(path))
    resource = {"metadata": document(path)["metadata"], "spec": cluster_spec(path)}
    return AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(resource))


@dataclass(frozen=True)
class Plan:
    """What the autoscaler would do.

    Args:
        launched: Nodes to start, by node type.
        terminated: Nodes to end, by node type.
        num_refused: Requests that no node type can serve.
    """

    launched: dict[str, int]
    terminated: dict[str, int]
    num_refused: int


def plan_of(
    config: AutoscalingConfig,
    demands: list[Demand] | None = None,
    *,
    running: dict[str, int] | None = None,
    busy: bool = False,
    idle_s: float = 0.0,
) -> Plan:
    """Return what the autoscaler would do.

    Args:
        config: What it was told.
        demands: What is asked for and not yet there.
        running: Nodes that are there beside the head, by node type.
        busy: Whether all that they offer is taken.
        idle_s: For how long nothing has run on them.
    """
    types = config.get_node_type_configs()
    nodes = [_instance(types[config.get_head_node_type()], 0, is_head=True)]
    for name, number in (running or {}).items():
        nodes += [_instance(types[name], n, busy=busy, idle_s=idle_s) for n in range(number)]
    gangs = [one for one in demands or [] if one.is_gang]
    singles = [one for one in demands or [] if not one.is_gang]
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=types,
        max_num_nodes=config.get_max_num_nodes(),
        idle_timeout_s=config.get_idle_timeout_s(),
        resource_requests=ResourceRequestUtil.group_by_count(
            [_request(one) for one in singles for _ in range(one.number)]
        ),
        gang_resource_requests=[
            GangResourceRequest(requests=[_request(one)] * one.number) for one in gangs
        ],
        current_instances=nodes,
    )
    return _plan(ResourceDemandScheduler().schedule(request))


def with_pool(path: Path, name: str, **values: Any) -> AutoscalingConfig:
    """Return the configuration of a ``ray up`` file with other values of a node type."""
    changed = copy.deepcopy(document(path))
    changed["available_node_types"][name].update(values)
    return _read(changed)


def _read(cluster: dict[str, Any]) -> AutoscalingConfig:
    """Return what Ray's autoscaler reads; the key of a person is not there in a test."""
    auth = {**cluster["auth"], "ssh_private_key": os.devnull}
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, "cluster.yaml")
        other.write_text(yaml.safe_dump({**cluster, "auth": auth}))
        return FileConfigReader(str(other)).get_cached_autoscaling_config()


def _plan(reply: SchedulingReply) -> Plan:
    return Plan(
        {one.instance_type: one.count for one in reply.to_launch},
        dict(Counter(one.instance_type for one in reply.to_terminate)),
        len(reply.infeasible_resource_requests) + len(reply.infeasible_gang_resource_requests),
    )


def _request(demand: Demand) -> Any:
    """Return one of the requests of a demand, as the cluster would hand it to the autoscaler.

    ``a|b`` is a node of pool a or b.
    """
    offered = {"CPU": demand.cpus, "GPU": demand.gpus}
    within = LabelSelectorOperator.Value("LABEL_OPERATOR_IN")
    pools = [] if demand.pool is None else demand.pool.split("|")
    selector = [(POOL_LABEL, within, pools)]
    return ResourceRequestUtil.make(
        {name: value for name, value in offered.items() if value > 0},
        label_selectors=[selector] if pools else None,
    )


def _instance(
    kind: Any, number: int, *, is_head: bool = False, busy: bool = False, idle_s: float = 0.0
) -> AutoscalerInstance:
    """Return a node as the autoscaler knows it."""
    name = f"{kind.name}-{number}"
    return AutoscalerInstance(
        cloud_instance_id=name,
        im_instance=Instance(
            instance_id=name,
            instance_type=kind.name,
            status=Instance.RAY_RUNNING,
            node_kind=NodeKind.HEAD if is_head else NodeKind.WORKER,
            node_id=name,
        ),
        ray_node=NodeState(
            node_id=name.encode(),
            ray_node_type_name=kind.name,
            total_resources=kind.resources,
            available_resources={} if busy else kind.resources,
            labels=kind.labels,
            idle_duration_ms=int(idle_s * 1000),
            status=NodeStatus.RUNNING if busy else NodeStatus.IDLE,
        ),
    )
