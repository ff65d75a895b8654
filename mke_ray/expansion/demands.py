"""What every stage of a job asks the cluster for, and whether its pools can ever serve that."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import NodeRoom, fit_pools
from mke_ray.labels.cluster_file import KEY, coming_nodes
from mke_ray.labels.labelling_keys import actor_pools
from mke_ray.train.launch import check_group
from mke_ray.train.room import check_room
from mke_ray.train.scaling import Scaling


@dataclass(frozen=True, slots=True)
class Demand:
    """What a stage asks for at the least.

    Args:
        stage: Its name.
        number: How many actors, workers or tasks.
        cpus: CPUs of each.
        gpus: GPUs of each.
        pool: Label of the nodes they may be on; None takes any.
        is_gang: Whether they come all together or not at all.
    """

    stage: str
    number: int
    cpus: float
    gpus: float
    pool: str | None
    is_gang: bool = False


def demands_of(job: JobConfig) -> list[Demand]:
    """Return what the stages of a job ask the cluster for, in the order of the stages."""
    demands = []
    if job.labelling.runner == "ray":
        demands += [
            Demand(one.key, one.wanted, one.num_cpus, one.num_gpus, one.node_pool)
            for one in actor_pools(job.labelling)
        ]
    scaling = Scaling.from_dict(asdict(job.scaling))
    each = (scaling.cpus_per_worker, scaling.gpus_per_worker, scaling.pool)
    if job.scaling.launch == "trainer":
        num_workers = scaling.worker_bounds[0]
        demands.append(Demand("training", num_workers, *each, is_gang=True))
        if scaling.feed == "ray":
            num_tasks = num_workers * scaling.feed_cpus
            demands.append(Demand("feed", num_tasks, 1.0, 0.0, scaling.feed_pool))
    elif job.scaling.launch == "tasks":
        demands.append(Demand("training", 1, *each))
    return demands


def trial_demand(job: JobConfig) -> Demand:
    """Return what one trial of a search asks for."""
    scaling = Scaling.from_dict(asdict(job.scaling))
    each = (scaling.cpus_per_worker, scaling.gpus_per_worker, scaling.pool)
    return Demand("search", job.search.workers_per_trial, *each, is_gang=True)


def check_stages(job: JobConfig) -> None:
    """Refuse a job that its cluster could never serve, where the cluster's file is known.

    Raises:
        ConfigError: It names the file, the stage and the number to change.
    """
    check_coming(job, lambda nodes: _check_labelling(job, nodes))
    check_coming(job, lambda nodes: _check_training(job, nodes))


def check_coming(job: JobConfig, check: Callable[[Sequence[NodeRoom]], Any]) -> None:
    """Hold something against the nodes that may come, where the cluster's file is known.

    Args:
        job: The configuration.
        check: Raises ``ConfigError`` where some nodes are not enough.

    Raises:
        ConfigError: They are not, or the file says nothing of them.
    """
    path = job.ray.cluster_file
    if path is None:
        return
    if not job.ray.autoscaling:
        raise ConfigError(
            f"{KEY}={path} says which nodes may come; set ray.autoscaling=true, or leave {KEY} null"
        )
    nodes = coming_nodes(path)
    try:
        check(nodes)
    except ConfigError as error:
        raise ConfigError(
            f"{path} starts no cluster that could do this: {error}; or change its pools"
        ) from None


def _check_labelling(job: JobConfig, nodes: Sequence[NodeRoom]) -> None:
    if job.labelling.runner == "ray":
        fit_pools(actor_pools(job.labelling), nodes)


def _check_training(job: JobConfig, nodes: Sequence[NodeRoom]) -> None:
    scaling = Scaling.from_dict(asdict(job.scaling))
    if job.scaling.launch == "trainer":
        check_group(scaling, nodes)
    elif job.scaling.launch == "tasks":
        check_room(
            1,
            cpus=scaling.cpus_per_worker,
            gpus=scaling.gpus_per_worker,
            nodes=nodes,
            is_autoscaling=False,
            pool=scaling.pool,
        )
