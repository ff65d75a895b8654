"""What the section ``labelling`` says of pools of actors and of teachers, checked."""

from collections.abc import Callable, Sequence
from typing import Any

from mke_ray.config_schema import LabellingConfig, TeachersPoolConfig
from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import ActorPool, NodeRoom
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.models.computing import PRECISIONS, Computing

RUNNERS = ("ray", "local")
PLANS = ("fused", "split")
TEACHERS_KEY = "labelling.teachers_pool"


def check_labelling(labelling: LabellingConfig) -> None:
    """Refuse values that mean nothing, before anything starts.

    Raises:
        ConfigError: It names the key and the way out.
    """
    choices = {"runner": RUNNERS, "plan": PLANS, "precision": PRECISIONS}
    for name, known in choices.items():
        value = getattr(labelling, name)
        if value not in known:
            raise ConfigError(f"labelling.{name}={value!r}; choose one of {list(known)}")
    if labelling.units_ahead < 0:
        raise ConfigError(f"labelling.units_ahead={labelling.units_ahead}; give 0 or more")
    if labelling.top_k < 1:
        raise ConfigError(f"labelling.top_k={labelling.top_k}; give a number of classes, from 1")
    if labelling.plan == "split" and labelling.num_gpus > 0:
        raise ConfigError(
            f"labelling.num_gpus={labelling.num_gpus:g}: under labelling.plan=split the actors "
            f"that decode use no GPU; set labelling.num_gpus=0 and {TEACHERS_KEY}.num_gpus="
            f"{labelling.num_gpus:g}"
        )
    if labelling.plan == "fused" and labelling.teachers_pool != TeachersPoolConfig():
        raise ConfigError(
            f"{TEACHERS_KEY} is for labelling.plan=split, and labelling.plan=fused; set "
            f"labelling.plan=split, or leave {TEACHERS_KEY} as it is"
        )


def computing_of(labelling: LabellingConfig) -> Computing:
    """Return how teachers compute."""
    return Computing(labelling.precision, labelling.compile, labelling.channels_last)


def limits_of(labelling: LabellingConfig) -> SampleLimits | None:
    """Return what reading one sample may take, None for reading without a process of its own."""
    if labelling.sample_timeout_s is None:
        return None
    return SampleLimits(labelling.sample_timeout_s, int(labelling.sample_memory_gb * 2**30))


def threads_of(num_cpus: float) -> int:
    """Return the threads of a worker."""
    return max(1, int(num_cpus))


def plan_keys(labelling: LabellingConfig) -> dict[str, Any]:
    """Return what the plan of a pass takes from the keys, as arguments of ``LabelPlan``."""
    is_split = labelling.plan == "split" and labelling.runner == "ray"
    return {
        "max_bad_fraction": labelling.max_bad_fraction,
        "num_threads": threads_of(labelling.num_cpus),
        "limits": limits_of(labelling),
        "units_ahead": labelling.units_ahead,
        "teacher_threads": threads_of(labelling.teachers_pool.num_cpus) if is_split else None,
    }


def num_gpus_of(labelling: LabellingConfig) -> float:
    """Return the GPUs of an actor in which networks compute."""
    return labelling.teachers_pool.num_gpus if labelling.plan == "split" else labelling.num_gpus


def actor_pools(labelling: LabellingConfig) -> list[ActorPool]:
    """Return the actors that a pass asks for, those of the teachers last."""
    pools = [_pool(labelling, "labelling")]
    if labelling.plan == "split":
        pools.append(_pool(labelling.teachers_pool, TEACHERS_KEY))
    return pools


def ray_runner(
    labelling: LabellingConfig,
    *,
    is_scaling: bool,
    coming: Sequence[NodeRoom],
    verbose: bool,
    say: Callable[[str], None] | None,
) -> RayDataRunner:
    """Return what carries out units on the Ray that is connected.

    Args:
        labelling: The section ``labelling``.
        is_scaling: Whether the cluster starts nodes when they are asked for.
        coming: The nodes that may be there at once, where that is known.
        verbose: Whether Ray Data shows its own progress.
        say: Called with what the units wait for.
    """
    pool, *teachers = actor_pools(labelling)
    return RayDataRunner(
        pool,
        teachers[0] if teachers else None,
        is_scaling=is_scaling,
        coming=coming,
        verbose=verbose,
        say=say,
    )


def _pool(config: LabellingConfig | TeachersPoolConfig, key: str) -> ActorPool:
    size = (config.min_actors, config.max_actors, config.num_cpus, config.num_gpus)
    return ActorPool(*size, key, config.pool)
