"""What training will take, from the steps that a dry run takes with every network."""

from collections.abc import Sequence
from dataclasses import dataclass

from mke_ray.config_schema import JobConfig
from mke_ray.expansion.witnesses import WITNESS_ARM
from mke_ray.labels.pass_words import time_text
from mke_ray.train.arms import EXPANSION_ARM
from mke_ray.train.fits import FitSpec


@dataclass(frozen=True, slots=True)
class Tried:
    """A network that was tried.

    Args:
        fit: Its fit.
        sample_s: Seconds per sample of a step after the first one.
    """

    fit: FitSpec
    sample_s: float


def training_lines(job: JobConfig, tried: Sequence[Tried]) -> list[str]:
    """Say how long this machine's processor would train, nothing where steps follow from epochs.

    Args:
        job: The configuration.
        tried: Each network once, whatever the number of seeds, rounds and members.
    """
    spent_s, num_networks = 0.0, 0
    for one in tried:
        if not one.fit.num_steps or not one.fit.global_batch:
            return []
        num = _num_fits(job, one.fit.arm)
        num_networks += num
        spent_s += num * one.fit.num_steps * one.fit.global_batch * one.sample_s
    return [
        f"  training      about {time_text(spent_s)} on this machine's processor, {num_networks} "
        "networks one after the other,\n"
        "                without starts and looks at the probe; less with more workers or GPUs"
    ]


def _num_fits(job: JobConfig, arm: str) -> int:
    """Return how many fits there are like one of an arm."""
    keys = job.expansion
    if arm == WITNESS_ARM:
        return keys.rounds
    is_of_several = arm == EXPANSION_ARM and keys.enabled and keys.members > 1
    return len(job.model_seeds) + (keys.members if is_of_several else 0)
