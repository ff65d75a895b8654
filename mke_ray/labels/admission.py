"""How many actors a job that has begun runs where nodes are gone: fewer, down to the least."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import ActorPool, NodeRoom, PoolSize, fit_pools
from mke_ray.labels.pass_record import FOLDER
from mke_ray.storage import Root

_MARK = f"{FOLDER}/admitted.json"

logger = logging.getLogger(__name__)


def fit_admitted(
    pools: Sequence[ActorPool], nodes: Sequence[NodeRoom], *, root: Root, is_scaling: bool = False
) -> list[PoolSize]:
    """Return the least and the most actors of every pool, of a job that may have begun.

    A job that has not is refused where its actors do not fit, with the number to change: nothing is
    lost by that. One that has begun, in this process or before, runs as many as there is room for.

    Args:
        pools: The actors asked for: of one pool, or of one that decodes and one of teachers.
        nodes: The nodes of the cluster.
        root: Root of the run, which remembers that it has begun.
        is_scaling: Whether more nodes may come; then only the numbers themselves are checked.

    Raises:
        ConfigError: The cluster cannot run the pools, or not even the least of them.
    """
    has_begun = any(root.names(FOLDER, recursive=False))
    if has_begun and not is_scaling:
        sizes = fit_pools(_shrunk_and_said(pools, nodes), nodes)
    else:
        sizes = fit_pools(pools, nodes, is_scaling=is_scaling)
    if not has_begun:
        wanted = {pool.key: pool.wanted for pool in pools}
        root.create(_MARK, json.dumps(wanted).encode())
    return sizes


def shrink_pools(pools: Sequence[ActorPool], nodes: Sequence[NodeRoom]) -> list[ActorPool]:
    """Return pools whose ``max_actors`` are lowered to what there is room for.

    Two pools shrink alike, and what room is left then goes to the first, then to the second.

    Args:
        pools: The actors asked for: of one pool, or of one that decodes and one of teachers.
        nodes: The nodes of the cluster.

    Raises:
        ConfigError: There is no room for the least actors; the error names the number to change.
    """
    if _is_room(pools, nodes):
        return list(pools)
    fit_pools([replace(pool, max_actors=None) for pool in pools], nodes)
    of = max(pool.max_actors or 0 for pool in pools)
    part = _largest(lambda one: _is_room(_parts(pools, one, of=of), nodes), 0, of)
    found = _parts(pools, part, of=of)
    for place, pool in enumerate(pools):
        if pool.max_actors is not None:
            found[place] = _grown(found, place, pool.max_actors, nodes)
    return found


def _shrunk_and_said(pools: Sequence[ActorPool], nodes: Sequence[NodeRoom]) -> list[ActorPool]:
    """Return pools that fit, and warn of each that is smaller than what was asked for."""
    found = shrink_pools(pools, nodes)
    for pool, smaller in zip(pools, found, strict=True):
        if smaller != pool:
            logger.warning(
                "%s.max_actors=%d, but the %d nodes that are there have room for %d such actors; "
                "the job has begun and goes on with %d",
                pool.key,
                pool.max_actors,
                len(nodes),
                smaller.max_actors,
                smaller.max_actors,
            )
    return found


def _is_room(pools: Sequence[ActorPool], nodes: Sequence[NodeRoom]) -> bool:
    """Return whether some pools fit as they are."""
    try:
        fit_pools(pools, nodes)
    except ConfigError:
        return False
    return True


def _parts(pools: Sequence[ActorPool], part: int, *, of: int) -> list[ActorPool]:
    """Return pools that ask for a part of their actors, and for the least of them always."""
    return [
        pool
        if pool.max_actors is None
        else replace(pool, max_actors=max(pool.min_actors, pool.max_actors * part // of))
        for pool in pools
    ]


def _grown(
    pools: Sequence[ActorPool], place: int, asked: int, nodes: Sequence[NodeRoom]
) -> ActorPool:
    """Return one of some pools as large as it fits beside the other."""

    def with_number(number: int) -> list[ActorPool]:
        one = replace(pools[place], max_actors=number)
        return [*pools[:place], one, *pools[place + 1 :]]

    least = pools[place].max_actors or pools[place].min_actors
    return with_number(_largest(lambda one: _is_room(with_number(one), nodes), least, asked))[place]


def _largest(is_possible: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number up to ``high`` that is possible, where ``low`` is."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_possible(middle) else (low, middle - 1)
    return low
