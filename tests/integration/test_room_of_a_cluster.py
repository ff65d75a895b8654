"""What a dry run says of the cluster that it is given, here the one of all tests, of six CPUs."""

import pytest
from composed import composed

from mke_ray.errors import ConfigError
from mke_ray.expansion import expand
from mke_ray.expansion.cluster_room import cluster_lines

ASKS = ("experiment=two_moon", "dry_run=true", "arms=[mke]", "model_seeds=[0]", "tracking=off")
GIVEN = "ray.address=127.0.0.1:6379"  # is joined already


def job_of(tmp_path, *overrides):
    (job,) = composed(*ASKS, f"root={tmp_path / 'run'}", "scaling.launch=trainer", *overrides)
    return job


def test_a_dry_run_says_that_the_cluster_has_room(ray_session, tmp_path, capsys):
    expand([job_of(tmp_path, GIVEN, "scaling.num_workers=6")])
    said = capsys.readouterr().out
    assert "cluster         1 nodes of 6 CPUs and 0 GPUs: room for the training workers" in said


def test_a_dry_run_refuses_more_workers_than_the_cluster_has_room_for(ray_session, tmp_path):
    with pytest.raises(ConfigError, match=r"set scaling\.num_workers=6 or less"):
        expand([job_of(tmp_path, GIVEN, "scaling.num_workers=7")])


def test_where_nodes_come_when_asked_for_training_waits(ray_session, tmp_path):
    job = job_of(tmp_path, GIVEN, "scaling.num_workers=7", "ray.autoscaling=true")
    assert "training waits for more nodes" in cluster_lines(job)[0]


@pytest.mark.parametrize("others", [[], [GIVEN, "scaling.launch=tasks"]])
def test_without_a_cluster_or_a_group_of_workers_there_is_nothing_to_say(tmp_path, others):
    assert cluster_lines(job_of(tmp_path, "scaling.num_workers=99", *others)) == []
