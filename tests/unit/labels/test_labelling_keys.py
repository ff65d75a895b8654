"""What the section ``labelling`` becomes: pools, runners, and errors before anything starts."""

import pytest
from composed import composed

from mke_ray.config_schema import LabellingConfig, TeachersPoolConfig
from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.labelling_keys import (
    check_labelling,
    computing_of,
    num_gpus_of,
    ray_runner,
)
from mke_ray.models.computing import Computing


def runner_of(config, **more):
    keys = {"is_scaling": False, "coming": (), "verbose": False, "say": None}
    return ray_runner(config, **keys, **more)


def test_the_groups_of_the_configuration_are_valid_plans():
    for name, num_gpus in (("local", 0), ("gpus", 1), ("split", 1)):
        (job,) = composed(f"labelling={name}")
        check_labelling(job.labelling)
        assert num_gpus_of(job.labelling) == num_gpus
        assert (runner_of(job.labelling).teachers is None) == (name != "split")


def test_each_pool_has_its_own_bounds():
    teachers = TeachersPoolConfig(2, 3, 0.5, 0.25)
    runner = runner_of(LabellingConfig(plan="split", max_actors=7, teachers_pool=teachers))
    assert runner.pool == ActorPool(1, 7, 1.0, 0.0, "labelling")
    assert runner.teachers == ActorPool(2, 3, 0.5, 0.25, "labelling.teachers_pool")


def test_the_switches_are_the_teachers():
    config = LabellingConfig(precision="bfloat16", compile=True, channels_last=True)
    assert computing_of(config) == Computing("bfloat16", compile=True, channels_last=True)
    assert computing_of(LabellingConfig()) == Computing()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"runner": "spark"}, r"labelling\.runner='spark'"),
        ({"plan": "fast"}, r"labelling\.plan='fast'.*fused.*split"),
        ({"precision": "half"}, r"labelling\.precision='half'"),
        ({"units_ahead": -1}, r"labelling\.units_ahead=-1"),
        (
            {"plan": "split", "num_gpus": 1.0},
            r"labelling\.num_gpus=1.*set labelling\.num_gpus=0 .*teachers_pool\.num_gpus=1",
        ),
        ({"teachers_pool": TeachersPoolConfig(2)}, r"set labelling\.plan=split"),
    ],
)
def test_what_means_nothing_is_refused_with_its_key(more, said):
    with pytest.raises(ConfigError, match=said):
        check_labelling(LabellingConfig(**more))
