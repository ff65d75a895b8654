"""Which nodes a cluster may start, as its file says."""

from pathlib import Path

import pytest

from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import NodeRoom
from mke_ray.labels.cluster_file import coming_nodes

RAY_UP = """
max_workers: 3
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0}, max_workers: 0, node_config: {}}
  small: {resources: {CPU: 4}, labels: {pool: decode}, max_workers: 2, node_config: {}}
  large: {resources: {CPU: 8, GPU: 1}, node_config: {}}
"""
RAY_JOB = """
apiVersion: v1
kind: Namespace
---
kind: RayJob
spec:
  rayClusterSpec:
    headGroupSpec:
      resources: {CPU: "0"}
      template: {spec: {containers: [{resources: {limits: {cpu: "2"}}}]}}
    workerGroupSpecs:
      - maxReplicas: 2
        numOfHosts: 2
        labels: {pool: train}
        template:
          spec: {containers: [{resources: {limits: {cpu: 7500m, nvidia.com/gpu: "4"}}}]}
"""


def nodes_of(folder: Path, text: str) -> list[NodeRoom]:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return coming_nodes(str(path))


def test_a_file_of_ray_up_says_how_many_nodes_of_every_type_may_come(tmp_path: Path) -> None:
    small, large = NodeRoom(4.0, 0.0, "decode"), NodeRoom(8.0, 1.0)
    assert nodes_of(tmp_path, RAY_UP) == [NodeRoom(0.0), small, small, large, large, large]


def test_a_job_of_kuberay_says_so_by_its_resources_or_else_by_limits(tmp_path: Path) -> None:
    assert nodes_of(tmp_path, RAY_JOB) == [NodeRoom(0.0), *[NodeRoom(7.5, 4.0, "train")] * 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Service", "says of no cluster; give a file of ray up"),
        ("kind: RayJob\nspec: {clusterSelector: {a: b}}", "name that one's file"),
        ("a: [", "could not be read"),
        (RAY_JOB.replace("7500m", "many"), "'many' is no number of CPUs or GPUs"),
    ],
)
def test_a_file_that_says_of_no_cluster_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"ray\.cluster_file") as refused:
        nodes_of(tmp_path, text)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"ray\.cluster_file=/nowhere\.yaml could not be read"):
        coming_nodes("/nowhere.yaml")
