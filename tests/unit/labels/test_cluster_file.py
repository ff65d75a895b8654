"""Which nodes a cluster may start, as its file says."""

from pathlib import Path

import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)

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
      rayStartParams: {}
      template: {spec: {containers: [{resources: {limits: {cpu: "2"}}}]}}
    workerGroupSpecs:
      - groupName: train
        minReplicas: 0
        maxReplicas: 2
        numOfHosts: 2
        rayStartParams: {}
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


def test_a_file_of_ray_up_without_numbers_of_workers_has_those_that_ray_takes(
    tmp_path: Path,
) -> None:
    text = RAY_UP.replace("max_workers: 3\n", "").replace(", max_workers: 0", "")
    small, large = NodeRoom(4.0, 0.0, "decode"), NodeRoom(8.0, 1.0)
    assert nodes_of(tmp_path, text) == [NodeRoom(0.0), small, small, large, large]
    defaults = Path(ray.autoscaler.__file__).parent
    for cloud in ("aws", "gcp"):
        assert yaml.safe_load((defaults / cloud / "defaults.yaml").read_text())["max_workers"] == 2


def test_a_job_of_kuberay_says_so_by_its_resources_or_else_by_limits(tmp_path: Path) -> None:
    assert nodes_of(tmp_path, RAY_JOB) == [NodeRoom(0.0), *[NodeRoom(8.0, 4.0, "train")] * 4]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("7500m", "7500m"),
        ("limits: {cpu: 7500m", "requests: {cpu: 3500m"),
        ("limits: {cpu: 7500m", "requests: {cpu: 1}, limits: {cpu: 6"),
        ("labels: {pool: train}", "resources: {CPU: 5200m}"),
        ("labels: {pool: train}", 'resources: {CPU: "5", GPU: "2"}'),
        ("numOfHosts: 2\n        rayStartParams: {}", "rayStartParams: {num-cpus: '3'}"),
        ("numOfHosts: 2\n        rayStartParams: {}", "rayStartParams: {num-gpus: '1'}"),
        ('nvidia.com/gpu: "4"', 'nvidia.com/gpu: "0", amd.com/gpu: "3"'),
    ],
)
def test_pods_are_read_as_the_autoscaler_of_ray_reads_them(
    tmp_path: Path, old: str, new: str
) -> None:
    assert old in RAY_JOB
    text = RAY_JOB.replace(old, new)
    *_, job = yaml.safe_load_all(text)
    resource = {"metadata": {"namespace": "a", "name": "b"}, "spec": job["spec"]["rayClusterSpec"]}
    kind = _derive_autoscaling_config_from_ray_cr(resource)["available_node_types"]["train"]
    offered = (kind["resources"]["CPU"], kind["resources"].get("GPU", 0))
    room = NodeRoom(*offered, kind["labels"].get("pool", ""))
    assert nodes_of(tmp_path, text)[1:] == [room] * kind["max_workers"]


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RAY_UP.replace("resources: {CPU: 4}, ", ""), "small has no resources; give it"),
        (RAY_UP.replace("{CPU: 8, GPU: 1}", "{GPU: 1}"), "large.resources has no CPU; give it"),
        (RAY_UP.replace("max_workers: 2,", "max_workers: many,"), "small.max_workers='many'"),
        (RAY_JOB.replace("headGroupSpec", "head"), "the cluster has no headGroupSpec"),
        (RAY_JOB.replace("groupName", "name"), "workerGroupSpecs.0 has no groupName"),
        (RAY_JOB.replace("maxReplicas", "most"), "train has no maxReplicas"),
        (RAY_JOB.replace("        template:", "        pod:"), "train has no template"),
        (
            RAY_JOB.replace("containers: [{resources: {limits: {cpu: 7", "a: [{a: {a: {cpu: 7"),
            "spec",
        ),
        (RAY_JOB.replace("cpu: 7500m, ", ""), "train has no resources.CPU"),
        (RAY_JOB.replace("maxReplicas: 2", "maxReplicas: 2147483647"), "from 0 to 1000"),
        (
            RAY_JOB.replace("maxReplicas: 2", "maxReplicas: 900"),
            "train.maxReplicas times numOfHosts",
        ),
    ],
)
def test_what_is_left_out_or_beyond_all_bounds_is_named(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=r"ray\.cluster_file: ") as refused:
        nodes_of(tmp_path, text)
    assert said in str(refused.value)
