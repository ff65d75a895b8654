"""The parts of a study, carried out in this process or as Ray tasks."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from mke_ray.config_schema import JobConfig
from mke_ray.labels.living_nodes import living_nodes
from mke_ray.ray_tasks import run_tasks
from mke_ray.report.progress import stage_progress
from mke_ray.session import session_of
from mke_ray.train.room import check_room

LOCAL = "local"

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def carried_out(
    work: Callable[[_Given], _Made],
    given: Sequence[_Given],
    job: JobConfig,
    *,
    unit: str,
    num_gpus: float = 0.0,
) -> list[_Made]:
    """Do some work on several things and return the results in order.

    Args:
        work: What is done on each.
        given: What it is done on.
        job: With ``scaling.launch=local`` they follow each other in this process.
        unit: What is counted.
        num_gpus: GPUs that a task takes, or a share of one.

    Raises:
        ConfigError: No node has room for a task.
    """
    if job.scaling.launch == LOCAL:
        made = []
        with stage_progress("focus", unit=unit) as report:
            for number, one in enumerate(given):
                report(number, len(given))
                made.append(work(one))
            report(len(given), len(given))
        return made
    num_cpus = job.scaling.cpus_per_worker
    with session_of(job).connected(), stage_progress("focus", unit=unit) as report:
        check_room(
            1,
            cpus=num_cpus,
            gpus=num_gpus,
            nodes=living_nodes(),
            is_autoscaling=job.ray.autoscaling,
            pool=job.scaling.pool,
        )
        return run_tasks(
            work, given, num_cpus=num_cpus, num_gpus=num_gpus, pool=job.scaling.pool, report=report
        )
