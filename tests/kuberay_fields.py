"""The fields of KubeRay's kinds, as its documentation of 1.6 lists them, and what is none of them.

A string names the Kubernetes model that stands below a field, a dict the fields of KubeRay's own.
"""

from typing import Any

STRINGS = dict[str, str]
_LIST = "list"

AUTOSCALER_OPTIONS: dict[str, Any] = {
    "resources": "V1ResourceRequirements",
    "image": str,
    "imagePullPolicy": ["Always", "IfNotPresent", "Never"],
    "securityContext": "V1SecurityContext",
    "idleTimeoutSeconds": int,
    "upscalingMode": ["Default", "Aggressive", "Conservative"],
    "version": ["v1", "v2"],
    "env": (_LIST, "V1EnvVar"),
    "envFrom": (_LIST, "V1EnvFromSource"),
    "volumeMounts": (_LIST, "V1VolumeMount"),
}
HEAD_GROUP: dict[str, Any] = {
    "template": "V1PodTemplateSpec",
    "headService": "V1Service",
    "enableIngress": bool,
    "resources": STRINGS,
    "labels": STRINGS,
    "rayStartParams": STRINGS,
    "serviceType": ["ClusterIP", "NodePort", "LoadBalancer"],
}
WORKER_GROUP: dict[str, Any] = {
    "suspend": bool,
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "idleTimeoutSeconds": int,
    "resources": STRINGS,
    "labels": STRINGS,
    "rayStartParams": STRINGS,
    "template": "V1PodTemplateSpec",
    "scaleStrategy": {"workersToDelete": (_LIST, str)},
    "numOfHosts": int,
}
CLUSTER: dict[str, Any] = {
    "upgradeStrategy": {"type": ["Recreate", "None"]},
    "authOptions": {"enableK8sTokenAuth": bool, "secretName": str, "mode": ["disabled", "token"]},
    "suspend": bool,
    "managedBy": str,
    "autoscalerOptions": AUTOSCALER_OPTIONS,
    "headServiceAnnotations": STRINGS,
    "enableInTreeAutoscaling": bool,
    "headGroupSpec": HEAD_GROUP,
    "rayVersion": str,
    "workerGroupSpecs": (_LIST, WORKER_GROUP),
}
JOB: dict[str, Any] = {
    "activeDeadlineSeconds": int,
    "backoffLimit": int,
    "rayClusterSpec": CLUSTER,
    "submitterPodTemplate": "V1PodTemplateSpec",
    "metadata": STRINGS,
    "clusterSelector": STRINGS,
    "submitterConfig": {"backoffLimit": int},
    "managedBy": str,
    "entrypoint": str,
    "runtimeEnvYAML": str,
    "jobId": str,
    "submissionMode": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"],
    "entrypointResources": str,
    "entrypointNumCpus": (int, float),
    "entrypointNumGpus": (int, float),
    "ttlSecondsAfterFinished": int,
    "preRunningDeadlineSeconds": int,
    "shutdownAfterJobFinishes": bool,
    "suspend": bool,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "RayCluster": ("ray.io/v1", CLUSTER),
    "RayJob": ("ray.io/v1", JOB),
    "PodMonitor": (
        "monitoring.coreos.com/v1",
        {
            "namespaceSelector": {"matchNames": (_LIST, str)},
            "selector": "V1LabelSelector",
            "podMetricsEndpoints": (_LIST, {"port": str, "interval": str, "path": str}),
        },
    ),
}


def unknown_of(manifest: dict[str, Any]) -> list[str]:
    """Return what a manifest has that its kind does not know, dotted."""
    version, fields = KINDS[manifest["kind"]]
    above = {"apiVersion": [version], "kind": str, "metadata": "V1ObjectMeta", "spec": fields}
    return _unknown(manifest, above, manifest["kind"])


def _unknown(value: Any, wanted: Any, where: str) -> list[str]:
    """Return what is wrong with a value, as far as it is known what should be there."""
    if isinstance(wanted, str):
        return unknown_to_kubernetes(value, wanted, where)
    if isinstance(wanted, dict):
        found = []
        for name, below in value.items():
            if name in wanted:
                found += _unknown(below, wanted[name], f"{where}.{name}")
            else:
                found.append(f"{where}.{name}")
        return found
    if isinstance(wanted, tuple) and wanted[0] == _LIST:
        return [
            one
            for n, below in enumerate(value)
            for one in _unknown(below, wanted[1], f"{where}[{n}]")
        ]
    if wanted == STRINGS:
        return [f"{where}.{key}" for key, text in value.items() if not isinstance(text, str)]
    is_right = value in wanted if isinstance(wanted, list) else _is_a(value, wanted)
    return [] if is_right else [f"{where}={value!r}"]


def _is_a(value: Any, wanted: Any) -> bool:
    kinds = wanted if isinstance(wanted, tuple) else (wanted,)
    return isinstance(value, kinds) and (isinstance(value, bool) == (bool in kinds))


def unknown_to_kubernetes(value: Any, model: str, where: str) -> list[str]:
    """Return what a model of the official client does not give back: what it does not know.

    Raises:
        ValueError: A value is not what the model takes, or one that it needs is missing.
    """
    from kubernetes import client

    api = client.ApiClient()
    taken = api.sanitize_for_serialization(api._ApiClient__deserialize(value, model))
    return _lost(value, taken, where)


def _lost(given: Any, taken: Any, where: str) -> list[str]:
    """Return where two trees differ."""
    if isinstance(given, dict) and isinstance(taken, dict):
        lost = [one for key in given for one in _lost(given[key], taken.get(key), f"{where}.{key}")]
        return lost + [f"{where}.{key}" for key in taken if key not in given]
    if isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        pairs = enumerate(zip(given, taken, strict=True))
        return [one for n, (a, b) in pairs for one in _lost(a, b, f"{where}[{n}]")]
    return [] if given == taken and type(given) is type(taken) else [f"{where}={given!r}"]
