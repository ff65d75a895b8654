"""How many actors a cluster can run without starving the tasks that feed them."""

from dataclasses import dataclass

from mke_ray.errors import ConfigError

FREE_CPUS = 1.0


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


def fit_pool(pool: ActorPool, *, cluster_cpus: float, cluster_gpus: float) -> tuple[int, int]:
    """Return the least and the most actors to run.

    One CPU stays free for the tasks that Ray Data runs beside the actors: without it they wait for
    each other for ever, silently.

    Raises:
        ConfigError: The cluster cannot run the pool; the error names the number to change.
    """
    _check_numbers(pool)
    room = _room(pool, cluster_cpus, cluster_gpus)
    wanted = pool.min_actors if pool.max_actors is None else pool.max_actors
    key = "min_actors" if pool.max_actors is None else "max_actors"
    if room < 1:
        raise ConfigError(
            f"labelling.num_cpus={pool.num_cpus:g}, labelling.num_gpus={pool.num_gpus:g}: not one "
            f"actor fits the cluster ({cluster_cpus:g} CPUs of which {FREE_CPUS:g} stays free, "
            f"{cluster_gpus:g} GPUs); lower them, or give Ray more (ray.num_cpus)"
        )
    if wanted > room:
        raise ConfigError(
            f"labelling.{key}={wanted} actors of {pool.num_cpus:g} CPUs and {pool.num_gpus:g} GPUs "
            f"would starve a cluster of {cluster_cpus:g} CPUs and {cluster_gpus:g} GPUs, of which "
            f"{FREE_CPUS:g} CPU must stay free; set labelling.{key}={room} or less"
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


def _room(pool: ActorPool, cluster_cpus: float, cluster_gpus: float) -> int:
    """Return how many actors fit beside the CPU that stays free."""
    by_cpu = int((cluster_cpus - FREE_CPUS) / pool.num_cpus + 1e-9)
    if pool.num_gpus <= 0:
        return by_cpu
    return min(by_cpu, int(cluster_gpus / pool.num_gpus + 1e-9))
