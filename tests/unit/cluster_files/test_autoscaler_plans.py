"""Ray's own autoscaler on our cluster files: each stage starts the pool that is meant for it."""

import functools
import shlex
from pathlib import Path

import pytest
from autoscaler_plans import FILES, autoscaling_config, plan_of, with_pool
from cluster_files import POOLS, RAY_JOB, document
from composed import REPOSITORY, composed

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.demands import Demand, demands_of, trial_demand

PLACED = ("labelling.pool=gpu-teacher", "scaling=gpus", "scaling.pool=gpu-train")
SPLIT = (
    "labelling=split",
    "labelling.pool=cpu-decode",
    "labelling.teachers_pool.pool=gpu-teacher",
    "scaling=gpus",
    "scaling.pool=gpu-train",
)
every_file = pytest.mark.parametrize("path", FILES.values(), ids=FILES)


two_files = pytest.mark.parametrize("path", [FILES["aws"], FILES["RayJob"]], ids=["aws", "RayJob"])


@functools.cache
def job_of(*overrides: str) -> JobConfig:
    (job,) = composed("ray.autoscaling=true", *overrides)
    return job


def here(path: str) -> Path:
    """Return where a file of the image is here."""
    return REPOSITORY / Path(path).relative_to("/opt/mke_ray")


def by_stage(job: JobConfig) -> dict[str, Demand]:
    return {one.stage: one for one in demands_of(job)}


@every_file
def test_actors_that_decode_start_cpu_nodes_and_teachers_start_gpu_nodes(path: Path) -> None:
    config = autoscaling_config(path)
    stages = by_stage(job_of(*SPLIT, "labelling.min_actors=40", "labelling.max_actors=40"))
    assert plan_of(config, [stages["labelling"]]).launched == {"cpu-decode": 2}
    teachers = stages["labelling.teachers_pool"]
    assert plan_of(config, [teachers]).launched == {"gpu-teacher": 1}
    both = plan_of(config, [stages["labelling"], teachers])
    assert both.launched == {"cpu-decode": 2, "gpu-teacher": 1}


@every_file
def test_actors_that_do_both_start_gpu_nodes(path: Path) -> None:
    labelling = by_stage(job_of("labelling=gpus", *PLACED, "labelling.min_actors=3"))["labelling"]
    assert plan_of(autoscaling_config(path), [labelling]).launched == {"gpu-teacher": 3}


@every_file
def test_a_worker_group_starts_the_training_pool_as_a_whole(path: Path) -> None:
    training = by_stage(job_of("labelling=gpus", *PLACED))["training"]
    assert (training.number, training.is_gang) == (8, True)
    assert plan_of(autoscaling_config(path), [training]).launched == {"gpu-train": 2}


@every_file
def test_a_trial_of_a_search_starts_the_training_pool(path: Path) -> None:
    trial = trial_demand(job_of("scaling=gpus", "scaling.pool=gpu-train", "search=engine"))
    assert plan_of(autoscaling_config(path), [trial]).launched == {"gpu-train": 1}


@every_file
def test_more_actors_of_a_split_pass_start_the_pool_of_their_shape(path: Path) -> None:
    config = autoscaling_config(path)
    either = (
        "cpu-decode|gpu-teacher"  # Ray Data asks for more by shape, within the pools of the pass
    )
    assert plan_of(config, [Demand("more", 33, 1.0, 0.0, either)]).launched == {"cpu-decode": 2}
    assert plan_of(config, [Demand("more", 4, 2.0, 1.0, either)]).launched == {"gpu-teacher": 4}
    anywhere = [Demand("more", 4, 2.0, 1.0, None)]
    assert plan_of(config, anywhere).launched == {"gpu-train": 1}  # which is why it is kept to them


@every_file
def test_nothing_starts_where_nothing_is_asked_for(path: Path) -> None:
    plan = plan_of(autoscaling_config(path))
    assert (plan.launched, plan.terminated) == ({}, {})


@every_file
@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_goes_back_to_nothing_and_the_head_stays(path: Path, pool: str) -> None:
    config = autoscaling_config(path)
    timeout_s = config.get_node_type_configs()[pool].idle_timeout_s
    assert 0 < timeout_s <= 300
    plan = plan_of(config, running={pool: 2}, idle_s=timeout_s + 1)
    assert (plan.launched, plan.terminated) == ({}, {pool: 2})
    assert plan_of(config, running={pool: 2}, idle_s=timeout_s - 1).terminated == {}
    assert plan_of(config, running={pool: 2}, busy=True).terminated == {}


@every_file
def test_the_head_is_given_no_work(path: Path) -> None:
    config = autoscaling_config(path)
    head = config.get_node_type_configs()[config.get_head_node_type()]
    assert head.resources["CPU"] == 0
    assert set(config.get_node_type_configs()) == {config.get_head_node_type(), *POOLS}
    anywhere = Demand("task", 1, 1.0, 0.0, None)
    assert plan_of(config, [anywhere]).launched == {"cpu-decode": 1}


@every_file
def test_a_demand_of_another_label_starts_nothing(path: Path) -> None:
    plan = plan_of(autoscaling_config(path), [Demand("task", 1, 1.0, 0.0, "gpu")])
    assert (plan.launched, plan.num_refused) == ({}, 1)


def test_a_pool_whose_label_is_wrong_is_noticed() -> None:
    config = with_pool(FILES["aws"], "cpu-decode", labels={"pool": "cpu"})
    plan = plan_of(config, [Demand("task", 1, 1.0, 0.0, "cpu-decode")])
    assert (plan.launched, plan.num_refused) == ({}, 1)


REFUSED = {
    "labelling.num_cpus=64": "labelling.num_cpus=64",
    "labelling.teachers_pool.max_actors=9": "labelling.teachers_pool.max_actors=8 or less",
    "labelling.max_actors=5000": r"labelling.max_actors=\d+ or less",
    "labelling.pool=cpu-decod": "choose one of .*cpu-decode",
    "scaling.num_workers=17": "scaling.num_workers=16 or less",
    "scaling.cpus_per_worker=64": "lower scaling.cpus_per_worker",
    "scaling.pool=cpu-decode": "lower scaling.cpus_per_worker or scaling.gpus_per_worker",
    "scaling.pool=train": "choose one of .*gpu-train",
}


@two_files
@pytest.mark.parametrize(("override", "said"), REFUSED.items(), ids=REFUSED)
def test_what_no_pool_can_serve_is_refused_with_the_number_to_change(
    path: Path, override: str, said: str
) -> None:
    job = job_of(*SPLIT, f"ray.cluster_file={path}", override)
    with pytest.raises(ConfigError, match=said) as refused:
        check_job(job)
    assert str(path) in str(refused.value)
    demands = demands_of(job)
    asked = sum(one.number for one in demands if not one.is_gang)
    plan = plan_of(autoscaling_config(path), demands)
    if asked < 100:  # what we refuse, the autoscaler would not start either, and say nothing
        assert plan.num_refused > 0


@two_files
def test_what_the_pools_can_serve_is_not_refused(path: Path) -> None:
    job = job_of(*SPLIT, f"ray.cluster_file={path}", "scaling.num_workers=16")
    check_job(job)
    assert plan_of(autoscaling_config(path), demands_of(job)).num_refused == 0


def test_the_job_of_the_manifest_can_be_served_by_its_cluster() -> None:
    program, script, *overrides = shlex.split(document(RAY_JOB)["spec"]["entrypoint"])
    assert program == "python" and here(script).exists()
    (job,) = composed(*overrides)
    assert job.ray.cluster_file is not None and here(job.ray.cluster_file) == RAY_JOB
    plan = plan_of(autoscaling_config(RAY_JOB), demands_of(job))
    assert plan.num_refused == 0
    assert plan.launched == {"cpu-decode": 1, "gpu-teacher": 1, "gpu-train": 2}
