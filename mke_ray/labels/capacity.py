"""How many actors a cluster can run without starving the tasks that feed them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mke_ray.errors import ConfigError

FREE_CPUS = 1.0

_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class ActorPool:
    """The pool of actors that a pass asks for.

    Args:
        min_actors: Least number of actors.
        max_actors: Most of them; None takes what the cluster can run.
        num_cpus: CPUs per actor.
        num_gpus: GPUs per actor, fractions allowed.
    """

    min_actors: int = 1
    max_actors: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What one node of the cluster offers.

    Args:
        cpus: Its CPUs.
        gpus: Its GPUs.
    """

    cpus: float
    gpus: float = 0.0


def fit_pool(pool: ActorPool, nodes: Sequence[NodeRoom]) -> tuple[int, int]:
    """Return the least and the most actors to run.

    An actor lies on one node with all that it asks for. One CPU stays free for the tasks that Ray
    Data runs beside the actors: without it they wait for each other for ever, silently.

    Args:
        pool: The actors asked for.
        nodes: The nodes of the cluster.

    Raises:
        ConfigError: The cluster cannot run the pool; the error names the number to change.
    """
    _check_numbers(pool)
    room = _room(pool, nodes)
    cluster_cpus, cluster_gpus = sum(one.cpus for one in nodes), sum(one.gpus for one in nodes)
    wanted = pool.min_actors if pool.max_actors is None else pool.max_actors
    key = "min_actors" if pool.max_actors is None else "max_actors"
    if room < 1:
        raise ConfigError(
            f"labelling.num_cpus={pool.num_cpus:g}, labelling.num_gpus={pool.num_gpus:g}: not one "
            f"actor fits a node of the cluster ({cluster_cpus:g} CPUs of which {FREE_CPUS:g} stays "
            f"free and {cluster_gpus:g} GPUs on {len(nodes)} nodes, {_largest(nodes)}); lower "
            "them, or give Ray more (ray.num_cpus)"
        )
    if wanted > room:
        raise ConfigError(
            f"labelling.{key}={wanted} actors of {pool.num_cpus:g} CPUs and {pool.num_gpus:g} GPUs "
            f"would starve a cluster of {cluster_cpus:g} CPUs and {cluster_gpus:g} GPUs on "
            f"{len(nodes)} nodes, of which {FREE_CPUS:g} CPU must stay free; set "
            f"labelling.{key}={room} or less"
        )
    return pool.min_actors, room if pool.max_actors is None else pool.max_actors


def _check_numbers(pool: ActorPool) -> None:
    """Refuse numbers that no cluster could serve."""
    if pool.num_cpus <= 0:
        raise ConfigError(f"labelling.num_cpus={pool.num_cpus:g} must be above zero")
    if pool.min_actors < 1:
        raise ConfigError(f"labelling.min_actors={pool.min_actors} must be at least 1")
    if pool.max_actors is not None and pool.max_actors < pool.min_actors:
        raise ConfigError(
            f"labelling.max_actors={pool.max_actors} is below "
            f"labelling.min_actors={pool.min_actors}; raise the one or lower the other"
        )


def _room(pool: ActorPool, nodes: Sequence[NodeRoom]) -> int:
    """Return how many actors fit, each on one node, beside the CPU that stays free on some node."""
    fits = [_fits(pool, one) for one in nodes]
    left = [one.cpus - number * pool.num_cpus for one, number in zip(nodes, fits, strict=True)]
    if max(left, default=0.0) + _EPSILON >= FREE_CPUS:
        return sum(fits)
    given_up = [
        math.ceil((FREE_CPUS - rest) / pool.num_cpus - _EPSILON)
        for one, rest in zip(nodes, left, strict=True)
        if one.cpus + _EPSILON >= FREE_CPUS
    ]
    return sum(fits) - min(given_up, default=sum(fits))


def _fits(pool: ActorPool, node: NodeRoom) -> int:
    """Return how many actors fit a node."""
    by_cpu = int(node.cpus / pool.num_cpus + _EPSILON)
    if pool.num_gpus <= 0:
        return by_cpu
    return min(by_cpu, int(node.gpus / pool.num_gpus + _EPSILON))


def _largest(nodes: Sequence[NodeRoom]) -> str:
    """Say what the largest node offers."""
    largest = max(nodes, key=lambda one: (one.gpus, one.cpus), default=NodeRoom(0.0))
    return f"the largest with {largest.cpus:g} CPUs and {largest.gpus:g} GPUs"
