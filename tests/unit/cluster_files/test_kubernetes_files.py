"""Manifests against the official client's models, Ray's kinds against their documented fields."""

import copy
import shlex
from pathlib import Path
from typing import Any

import pytest
from cluster_files import (
    CLUSTER,
    POOLS,
    RAY_CLUSTER,
    RAY_JOB,
    cluster_spec,
    document,
    documents,
)
from kuberay_fields import KINDS, unknown_of, unknown_to_kubernetes

from cluster import drain_node
from mke_ray.node_pools import POOL_LABEL

FOLDER = CLUSTER / "kubernetes"
MODELS = {
    "Namespace": "V1Namespace",
    "NetworkPolicy": "V1NetworkPolicy",
    "ServiceAccount": "V1ServiceAccount",
}
MANIFESTS = [one for path in sorted(FOLDER.glob("*.yaml")) for one in documents(path)]
LOCAL_DNS = "169.254.20.10/32"  # where NodeLocal DNSCache listens
BYTES = {"Mi": 2**20, "Gi": 2**30}
both_kinds = pytest.mark.parametrize("path", [RAY_CLUSTER, RAY_JOB], ids=["RayCluster", "RayJob"])


def pods(path: Path) -> dict[str, dict[str, Any]]:
    """Return the pod templates of a cluster by the name of their group."""
    spec = cluster_spec(path)
    groups = {one["groupName"]: one["template"] for one in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"], **groups}


def workers(path: Path) -> dict[str, dict[str, Any]]:
    return {name: pod["spec"] for name, pod in pods(path).items() if name != "head"}


def num_bytes(quantity: str) -> int:
    return int(quantity[:-2]) * BYTES[quantity[-2:]]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: one["kind"])
def test_every_field_of_a_manifest_is_known_to_its_kind(manifest: dict[str, Any]) -> None:
    kind = manifest["kind"]
    assert set(MODELS) | set(KINDS) >= {kind}
    if kind in KINDS:
        assert unknown_of(manifest) == []
    else:
        assert unknown_to_kubernetes(manifest, MODELS[kind], kind) == []


def test_a_field_that_is_misspelt_is_found_at_every_depth() -> None:
    manifest = copy.deepcopy(document(RAY_JOB))
    cluster = manifest["spec"]["rayClusterSpec"]
    cluster["autoscalerOption"] = {}
    cluster["rayVersion"] = 2.6
    group = cluster["workerGroupSpecs"][0]
    group["maxReplica"] = 3
    pod = group["template"]["spec"]
    pod["nodeSelectors"] = {}
    pod["containers"][0]["lifecycle"] = {"preStop": {"exec": {"commands": ["sleep"]}}}
    pod["tolerations"][0]["optor"] = "Exists"
    found = unknown_of(manifest)
    named = ["autoscalerOption", "rayVersion", "maxReplica", "nodeSelectors", "commands", "optor"]
    assert all(any(name in one for one in found) for name in named)
    assert len(found) == len(named)


def test_a_job_and_a_cluster_that_stays_are_of_the_same_nodes() -> None:
    assert cluster_spec(RAY_JOB) == cluster_spec(RAY_CLUSTER)


@both_kinds
def test_every_pool_has_its_label_and_starts_from_nothing(path: Path) -> None:
    groups = cluster_spec(path)["workerGroupSpecs"]
    assert [one["groupName"] for one in groups] == POOLS
    for one in groups:
        assert one["labels"] == {POOL_LABEL: one["groupName"]}
        assert one["replicas"] == one["minReplicas"] == 0 < one["maxReplicas"]
    assert cluster_spec(path)["headGroupSpec"]["labels"] == {POOL_LABEL: "head"}


@both_kinds
def test_a_pod_offers_ray_what_kubernetes_gives_it(path: Path) -> None:
    for group in cluster_spec(path)["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        offered = {"CPU": limits["cpu"], "GPU": limits.get("nvidia.com/gpu")}
        assert group["resources"] == {name: value for name, value in offered.items() if value}


@both_kinds
def test_shared_memory_has_room_for_the_objects_of_ray(path: Path) -> None:
    for pod in pods(path).values():
        memory = num_bytes(pod["spec"]["containers"][0]["resources"]["limits"]["memory"])
        (shm,) = (one for one in pod["spec"]["volumes"] if one["name"] == "shm")
        assert shm["emptyDir"]["medium"] == "Memory"
        assert num_bytes(shm["emptyDir"]["sizeLimit"]) >= 0.3 * memory  # Ray takes 30% for objects


@both_kinds
def test_objects_are_spilled_to_a_volume_of_their_own(path: Path) -> None:
    for group in cluster_spec(path)["workerGroupSpecs"]:
        folder = group["rayStartParams"]["object-spilling-directory"]
        pod = group["template"]["spec"]
        mounts = {one["mountPath"]: one["name"] for one in pod["containers"][0]["volumeMounts"]}
        volumes = {one["name"]: one["emptyDir"] for one in pod["volumes"]}
        room = pod["containers"][0]["resources"]["limits"]["ephemeral-storage"]
        assert num_bytes(volumes[mounts[folder]]["sizeLimit"]) < num_bytes(room)


@both_kinds
def test_a_pod_that_is_ended_drains_its_node_within_its_grace_period(path: Path) -> None:
    for pod in workers(path).values():
        command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert command[1] == "/opt/mke_ray/cluster/drain_node.py"
        args = drain_node._parser().parse_args(command[2:])
        assert args.watch is None
        assert 30 <= args.deadline_s <= pod["terminationGracePeriodSeconds"] - 10 <= 120
        names = [one["name"] for one in pod["containers"][0]["env"]]
        assert "POD_IP" in names


@both_kinds
def test_workers_speak_over_the_network_of_their_pod_and_share_memory(path: Path) -> None:
    for pod in workers(path).values():
        variables = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        assert variables["NCCL_SOCKET_IFNAME"] == "^lo"
        (shm,) = (one["emptyDir"] for one in pod["volumes"] if one["name"] == "shm")
        assert shm["medium"] == "Memory"


@both_kinds
def test_no_autoscaler_of_nodes_moves_the_head(path: Path) -> None:
    assert pods(path)["head"]["metadata"]["annotations"] == {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }


@both_kinds
def test_pools_that_may_be_spot_go_to_such_nodes_and_others_do_not(path: Path) -> None:
    tolerated = {
        name: {one["key"] for one in pod["tolerations"]} for name, pod in workers(path).items()
    }
    spot = {"mke-ray/spot", "cloud.google.com/gke-spot"}
    assert tolerated["cpu-decode"] == spot
    assert tolerated["gpu-teacher"] == spot | {"nvidia.com/gpu"}
    assert tolerated["gpu-train"] == {"nvidia.com/gpu"}
    assert all(pod["nodeSelector"] == {"mke-ray/pool": name} for name, pod in workers(path).items())


@both_kinds
def test_clusters_want_a_token_and_no_pod_has_rights_it_does_not_need(path: Path) -> None:
    spec = cluster_spec(path)
    assert spec["authOptions"] == {"mode": "token", "secretName": "mke-ray-token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["headGroupSpec"]["enableIngress"] is False
    for name, pod in pods(path).items():
        person = pod["spec"]["securityContext"]
        assert person["runAsNonRoot"] and person["runAsUser"] == 1000
        assert person["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            closed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == closed
        if name != "head":
            assert pod["spec"]["automountServiceAccountToken"] is False


def test_a_job_is_started_again_and_its_cluster_ended() -> None:
    spec = document(RAY_JOB)["spec"]
    assert spec["backoffLimit"] > 0 and spec["shutdownAfterJobFinishes"]
    assert spec["submissionMode"] == "HTTPMode" and "entrypointNumCpus" not in spec
    assert "root=s3://REPLACE-runs/first" in shlex.split(spec["entrypoint"])


def test_the_ray_of_the_manifests_is_the_one_that_is_tested() -> None:
    import ray

    assert cluster_spec(RAY_JOB)["rayVersion"] == ray.__version__


def test_nothing_goes_in_or_out_of_the_namespace_but_what_a_policy_names() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in documents(FOLDER / "base.yaml")
        if one["kind"] == "NetworkPolicy"
    }
    assert policies.pop("nothing") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    metadata = [pod["metadata"]["labels"] for pod in pods(RAY_JOB).values()]
    labels = {one["app.kubernetes.io/part-of"] for one in metadata}
    ports = {}
    for name, spec in policies.items():
        assert {spec["podSelector"]["matchLabels"]["app.kubernetes.io/part-of"]} == labels
        for rule in spec.get("ingress", []):
            assert rule["from"], "an empty list would let everybody in"
            ports[name] = [one["port"] for one in rule.get("ports", [])]
        for rule in spec.get("egress", []):
            assert rule["to"]
            for block in (one["ipBlock"] for one in rule["to"] if "ipBlock" in one):
                if block["cidr"] == LOCAL_DNS:
                    assert {one["port"] for one in rule["ports"]} == {53}
                else:
                    assert "169.254.0.0/16" in block["except"]
    assert ports == {
        "ray-nodes-among-themselves": [],
        "operator-to-dashboard": [8265],
        "prometheus-to-metrics": [8080],
    }


def test_prometheus_reads_the_port_that_pods_name() -> None:
    (endpoint,) = document(FOLDER / "podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    for pod in pods(RAY_JOB).values():
        ports = {one["name"]: one["containerPort"] for one in pod["spec"]["containers"][0]["ports"]}
        assert ports[endpoint["port"]] == 8080
