"""How many actors a cluster can run without starving the tasks that feed them."""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mke_ray.errors import ConfigError
from mke_ray.node_pools import POOL_LABEL

FREE_CPUS = 1.0
NO_LIMIT = sys.maxsize

_EPSILON = 1e-9

# Nodes that offer the same are counted, not looked at one by one: a cluster has few kinds of them.
_Kinds = Mapping["NodeRoom", int]


@dataclass(frozen=True, slots=True)
class ActorPool:
    """A pool of actors that a pass asks for.

    Args:
        min_actors: Least number of actors.
        max_actors: Most of them; None takes what the cluster can run.
        num_cpus: CPUs per actor.
        num_gpus: GPUs per actor, fractions allowed.
        key: Section of the configuration that these numbers are from.
        node_pool: Label of the nodes that they may be on; None takes any.
    """

    min_actors: int = 1
    max_actors: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    key: str = "labelling"
    node_pool: str | None = None

    @property
    def wanted(self) -> int:
        """Actors that there must be room for."""
        return self.min_actors if self.max_actors is None else self.max_actors

    @property
    def wanted_key(self) -> str:
        """The key that says so."""
        return f"{self.key}.{'min_actors' if self.max_actors is None else 'max_actors'}"

    @property
    def actor_text(self) -> str:
        """What one actor takes."""
        return f"{self.num_cpus:g} CPUs and {self.num_gpus:g} GPUs"


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What one node of the cluster offers.

    Args:
        cpus: Its CPUs.
        gpus: Its GPUs.
        pool: Its label, "" where it has none.
    """

    cpus: float
    gpus: float = 0.0
    pool: str = ""

    def without(self, pool: ActorPool) -> "NodeRoom":
        """Return what is left beside one actor of a pool."""
        return replace(self, cpus=self.cpus - pool.num_cpus, gpus=self.gpus - pool.num_gpus)


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many actors of a pool to run.

    Args:
        least: Least number.
        most: Greatest number, ``NO_LIMIT`` where only the work sets one.
    """

    least: int
    most: int

    def at_most(self, number: int) -> "PoolSize":
        """Return the size of a pool that has work for so many actors."""
        return PoolSize(self.least, max(self.least, min(self.most, number)))


def fit_pools(
    pools: Sequence[ActorPool], nodes: Sequence[NodeRoom], *, is_scaling: bool = False
) -> list[PoolSize]:
    """Return the least and the most actors of every pool.

    An actor lies on one node with all that it asks for. One CPU stays free for the tasks that Ray
    Data runs beside the actors: without it they wait for each other for ever, silently. They are on
    nodes of the same pools as the actors.

    Args:
        pools: The actors asked for: of one pool, or of one that decodes and one of teachers.
        nodes: The nodes of the cluster.
        is_scaling: Whether more nodes may come; then only the numbers themselves are checked.

    Raises:
        ConfigError: The cluster cannot run the pools; the error names the number to change.
    """
    for pool in pools:
        _check_numbers(pool)
    if is_scaling:
        return [_size(pool, NO_LIMIT) for pool in pools]
    for pool in pools:
        check_node_pool(pool.node_pool, nodes, key=f"{pool.key}.pool")
    named = {pool.node_pool for pool in pools}
    usable = [one for one in nodes if None in named or one.pool in named]
    for pool in pools:
        _check_alone(pool, usable)
    if len(pools) == 1:
        return [_size(pools[0], _room(pools[0], Counter(usable)))]
    return _fit_beside(pools[0], pools[1], usable)


def missing_text(pools: Sequence[ActorPool], nodes: Sequence[NodeRoom]) -> str:
    """Return what the least actors of some pools wait for, "" where there is room for them.

    Args:
        pools: The actors asked for.
        nodes: The nodes that are there.
    """
    waiting: list[str] = []
    left: _Kinds = Counter(nodes)
    for pool in reversed(pools):
        placed = 0
        while placed < pool.min_actors and (node := _tightest_fit(pool, left)) is not None:
            left, placed = _with_one_on(left, node, pool), placed + 1
        if placed < pool.min_actors:
            number = pool.min_actors - placed
            waiting.append(f"{number} x {pool.actor_text} ({pool.key})")
    return f"waiting for nodes with room for {' and '.join(waiting)}" if waiting else ""


def _fit_beside(
    decoders: ActorPool, teachers: ActorPool, nodes: Sequence[NodeRoom]
) -> list[PoolSize]:
    """Return the sizes of two pools that run side by side.

    Raises:
        ConfigError: There is room for each of them, but not for both.
    """
    placed = 0
    left: _Kinds = Counter(nodes)
    most = teachers.wanted if teachers.max_actors or not teachers.num_gpus else NO_LIMIT
    while placed < most:
        best = _best_place(decoders, teachers, left)
        if best is None or (placed >= teachers.wanted and _room(decoders, best) < decoders.wanted):
            break
        placed, left = placed + 1, best
    room = _room(decoders, left) if placed >= teachers.wanted else 0
    if room < decoders.wanted:
        raise _not_side_by_side(decoders, teachers, nodes, room)
    return [_size(decoders, room), PoolSize(teachers.min_actors, placed)]


def _best_place(decoders: ActorPool, teachers: ActorPool, left: _Kinds) -> _Kinds | None:
    """Return what is left where one teacher more takes the least room from the decoders."""
    found = [_with_one_on(left, node, teachers) for node in left if _fits(teachers, node)]
    return max(found, key=lambda kinds: _room(decoders, kinds), default=None)


def _with_one_on(left: _Kinds, node: NodeRoom, pool: ActorPool) -> _Kinds:
    """Return what is left beside one actor more on a node of a kind."""
    after, rest = dict(left), node.without(pool)
    after[node] -= 1
    if not after[node]:
        del after[node]
    after[rest] = after.get(rest, 0) + 1
    return after


def _not_side_by_side(
    decoders: ActorPool, teachers: ActorPool, nodes: Sequence[NodeRoom], room: int
) -> ConfigError:
    """Return the error for two pools that do not fit together, with the number to change."""
    key, number = decoders.wanted_key, room
    if room < max(decoders.min_actors, 1):
        key, number = teachers.wanted_key, _most_teachers(decoders, teachers, nodes)
    way_out = f"set {key}={number} or less" if number else "give Ray more (ray.num_cpus)"
    return ConfigError(
        f"{decoders.wanted_key}={decoders.wanted} actors of {decoders.actor_text} and "
        f"{teachers.wanted_key}={teachers.wanted} of {teachers.actor_text} would starve "
        f"{_offer(nodes)}, of which {FREE_CPUS:g} CPU must stay free; {way_out}, or "
        "labelling.plan=fused, which has one pool"
    )


def _most_teachers(decoders: ActorPool, teachers: ActorPool, nodes: Sequence[NodeRoom]) -> int:
    """Return how many teachers leave room for the least decoders."""
    placed = 0
    left: _Kinds = Counter(nodes)
    while (best := _best_place(decoders, teachers, left)) is not None:
        if _room(decoders, best) < decoders.min_actors:
            break
        placed, left = placed + 1, best
    return placed


def _check_alone(pool: ActorPool, nodes: Sequence[NodeRoom]) -> None:
    """Refuse a pool that does not fit the cluster even without another one."""
    room = _room(pool, Counter(nodes))
    if room < 1:
        raise ConfigError(
            f"{pool.key}.num_cpus={pool.num_cpus:g}, {pool.key}.num_gpus={pool.num_gpus:g}: not "
            f"one actor fits a node of {_offer(nodes)} (of which {FREE_CPUS:g} CPU stays free; "
            f"{_largest(nodes)}); lower them, give Ray more (ray.num_cpus), or set "
            "ray.autoscaling=true where nodes come when they are asked for"
        )
    if pool.wanted > room:
        raise ConfigError(
            f"{pool.wanted_key}={pool.wanted} actors of {pool.actor_text} would starve "
            f"{_offer(nodes)}, of which {FREE_CPUS:g} CPU must stay free; set "
            f"{pool.wanted_key}={room} or less"
        )


def check_node_pool(node_pool: str | None, nodes: Sequence[NodeRoom], *, key: str) -> None:
    """Refuse a pool of nodes that there is not: Ray would wait for its nodes without end.

    Args:
        node_pool: Label that the nodes should have; None takes any node.
        nodes: The nodes.
        key: Key of the configuration that names the pool.

    Raises:
        ConfigError: No node has the label; the error names those that there are.
    """
    there = sorted({one.pool for one in nodes} - {""})
    if node_pool is None or node_pool in there:
        return
    raise ConfigError(
        f"{key}={node_pool}: no node has the label {POOL_LABEL}={node_pool}; "
        + (f"choose one of {there}, or {key}=null" if there else f"no node has one; set {key}=null")
        + " for any node"
    )


def _check_numbers(pool: ActorPool) -> None:
    """Refuse numbers that no cluster could serve."""
    if pool.num_cpus <= 0:
        raise ConfigError(f"{pool.key}.num_cpus={pool.num_cpus:g} must be above zero")
    if pool.num_gpus < 0:
        raise ConfigError(f"{pool.key}.num_gpus={pool.num_gpus:g} must not be below zero")
    if pool.min_actors < 1:
        raise ConfigError(f"{pool.key}.min_actors={pool.min_actors} must be at least 1")
    if pool.max_actors is not None and pool.max_actors < pool.min_actors:
        raise ConfigError(
            f"{pool.key}.max_actors={pool.max_actors} is below "
            f"{pool.key}.min_actors={pool.min_actors}; raise the one or lower the other"
        )


def _size(pool: ActorPool, room: int) -> PoolSize:
    return PoolSize(pool.min_actors, room if pool.max_actors is None else pool.max_actors)


def _room(pool: ActorPool, nodes: _Kinds) -> int:
    """Return how many actors fit, each on one node, beside the CPU that stays free on some node."""
    fits = {node: _fits(pool, node) for node in nodes}
    num_fitting = sum(number * fits[node] for node, number in nodes.items())
    left = {node: node.cpus - number * pool.num_cpus for node, number in fits.items()}
    if max(left.values(), default=0.0) + _EPSILON >= FREE_CPUS:
        return num_fitting
    given_up = [
        math.ceil((FREE_CPUS - rest) / pool.num_cpus - _EPSILON)
        for node, rest in left.items()
        if node.cpus + _EPSILON >= FREE_CPUS
    ]
    return num_fitting - min(given_up, default=num_fitting)


def _fits(pool: ActorPool, node: NodeRoom) -> int:
    """Return how many actors fit a node."""
    if pool.node_pool not in (None, node.pool):
        return 0
    by_cpu = int(node.cpus / pool.num_cpus + _EPSILON)
    if pool.num_gpus <= 0:
        return by_cpu
    return min(by_cpu, int(node.gpus / pool.num_gpus + _EPSILON))


def _tightest_fit(pool: ActorPool, nodes: _Kinds) -> NodeRoom | None:
    """Return a node on which one actor fits, and as few others as can be."""
    fitting = [one for one in nodes if _fits(pool, one)]
    return min(fitting, key=lambda node: _fits(pool, node), default=None)


def _offer(nodes: Sequence[NodeRoom]) -> str:
    """Say what nodes offer."""
    cpus, gpus = sum(one.cpus for one in nodes), sum(one.gpus for one in nodes)
    pools = ", ".join(sorted({one.pool for one in nodes} - {""}))
    of_pools = f" ({POOL_LABEL}: {pools})" if pools else ""
    return f"{cpus:g} CPUs and {gpus:g} GPUs on {len(nodes)} nodes{of_pools}"


def _largest(nodes: Sequence[NodeRoom]) -> str:
    """Say what the largest node offers."""
    largest = max(nodes, key=lambda one: (one.gpus, one.cpus), default=NodeRoom(0.0))
    return f"the largest has {largest.cpus:g} CPUs and {largest.gpus:g} GPUs"
