"""What the stages of a job ask for, and a job that is held against the file of its cluster."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from composed import composed

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError
from mke_ray.expansion.demands import check_coming, check_stages, demands_of, trial_demand
from mke_ray.labels.capacity import NodeRoom
from mke_ray.train.feeding import check_feeding, check_pool
from mke_ray.train.scaling import Scaling

CLUSTER = """
max_workers: 4
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0}, max_workers: 0, node_config: {}}
  train: {resources: {CPU: 4}, labels: {pool: train}, max_workers: 2, node_config: {}}
  decode: {resources: {CPU: 2}, labels: {pool: decode}, max_workers: 2, node_config: {}}
"""


def job_of(folder: Path, *overrides: str) -> JobConfig:
    path = folder / "cluster.yaml"
    path.write_text(CLUSTER)
    (job,) = composed("ray.autoscaling=true", f"ray.cluster_file={path}", *overrides)
    return job


def test_stages_ask_for_what_the_configuration_says(tmp_path: Path) -> None:
    placed = ("labelling.pool=decode", "scaling.pool=train", "scaling.num_workers=[3,8]")
    labelling, training = demands_of(job_of(tmp_path, *placed))
    assert (labelling.number, labelling.cpus, labelling.pool) == (2, 1.0, "decode")
    assert (training.number, training.pool, training.is_gang) == (3, "train", True)
    trial = trial_demand(job_of(tmp_path, "scaling.pool=train", "search.workers_per_trial=2"))
    assert (trial.number, trial.pool, trial.is_gang) == (2, "train", True)


def test_a_feed_asks_for_cpus_of_its_own_pool(tmp_path: Path) -> None:
    fed = ("scaling.feed=ray", "scaling.feed_cpus=2", "scaling.pool=train")
    job = job_of(tmp_path, *fed, "scaling.feed_pool=decode")
    feed = demands_of(job)[-1]
    assert (feed.stage, feed.number, feed.pool) == ("feed", 4, "decode")
    check_stages(job)
    with pytest.raises(ConfigError, match=r"feed_pool=decode has 4; set scaling\.feed_cpus=2"):
        check_stages(job_of(tmp_path, *fed[::2], "scaling.feed_pool=decode", "scaling.feed_cpus=3"))
    with pytest.raises(ConfigError, match=r"scaling\.feed_pool=decod: no node"):
        check_stages(job_of(tmp_path, *fed, "scaling.feed_pool=decod"))
    with pytest.raises(ConfigError, match=r"set scaling\.feed=ray, or leave scaling\.feed_pool"):
        check_feeding({"launch": "trainer", "feed": "local", "feed_pool": "decode"})


def test_workers_count_beside_a_feed_only_where_there_is_no_room_for_them_elsewhere(
    tmp_path: Path,
) -> None:
    fed = (
        "scaling.feed=ray",
        "scaling.feed_cpus=2",
        "scaling.feed_pool=decode",
        "scaling.pool=null",
    )
    check_stages(job_of(tmp_path, *fed, "scaling.num_workers=2"))
    check_stages(job_of(tmp_path, *fed, "scaling.num_workers=2", "scaling.cpus_per_worker=4"))
    beside = r"takes 7 CPUs \(scaling\.num_workers=3 times scaling\.feed_cpus=2, and 1 times .*=1 "
    with pytest.raises(ConfigError, match=beside + r".*feed_pool=decode has 4; set .*feed_cpus=1"):
        check_pool(
            asdict(Scaling(feed="ray", feed_cpus=2, feed_pool="decode")),
            3,
            nodes=[NodeRoom(2.0, 0.0, "train"), NodeRoom(4.0, 0.0, "decode")],
        )
    with pytest.raises(ConfigError, match=r"and 2 times scaling\.cpus_per_worker=1 beside it"):
        check_stages(job_of(tmp_path, *fed[:3], "scaling.pool=decode", "scaling.num_workers=2"))


def test_what_runs_in_this_process_asks_for_nothing(tmp_path: Path) -> None:
    job = job_of(tmp_path, "labelling.runner=local", "scaling.launch=local", "scaling.pool=none")
    assert demands_of(job) == []
    check_stages(job)


def test_fits_side_by_side_need_room_for_one(tmp_path: Path) -> None:
    tasks = ("scaling=tasks", "scaling.pool=decode")
    check_stages(job_of(tmp_path, *tasks, "scaling.cpus_per_worker=2"))
    with pytest.raises(ConfigError, match=r"lower scaling\.cpus_per_worker"):
        check_stages(job_of(tmp_path, *tasks, "scaling.cpus_per_worker=3"))


def test_a_refusal_names_the_file_and_the_number(tmp_path: Path) -> None:
    job = job_of(tmp_path, "scaling.pool=train", "scaling.num_workers=9")
    with pytest.raises(ConfigError, match=r"cluster\.yaml .*set scaling\.num_workers=8 or less"):
        check_stages(job)


def test_a_cluster_file_is_of_use_only_where_nodes_come(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    still = replace(job, ray=replace(job.ray, autoscaling=False))
    with pytest.raises(ConfigError, match=r"set ray\.autoscaling=true, or leave ray\.cluster_file"):
        check_stages(still)
    without = replace(job, ray=replace(job.ray, cluster_file=None))
    check_coming(without, lambda nodes: pytest.fail(f"{nodes} are of no file"))
