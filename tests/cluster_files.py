"""The files of ``cluster/`` as tests read them."""

import re
from pathlib import Path
from typing import Any

import yaml
from composed import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
RAY_UP = [CLUSTER / "aws" / "cluster.yaml", CLUSTER / "gcp" / "cluster.yaml"]
RAY_CLUSTER = CLUSTER / "kubernetes" / "raycluster.yaml"
RAY_JOB = CLUSTER / "kubernetes" / "rayjob.yaml"
COMPOSE = [CLUSTER / "mlflow" / "compose.yaml", CLUSTER / "monitoring" / "compose.yaml"]
POOLS = ["cpu-decode", "gpu-teacher", "gpu-train"]


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file; a key that occurs twice is an error."""
    return list(yaml.load_all(path.read_text(), Loader=_Strict))


def document(path: Path) -> dict[str, Any]:
    """Return the only document of a YAML file."""
    (found,) = documents(path)
    return found


def cluster_spec(path: Path) -> dict[str, Any]:
    """Return the specification of the cluster in a RayCluster or a RayJob."""
    spec = document(path)["spec"]
    return spec.get("rayClusterSpec", spec)


def written_files() -> list[Path]:
    """Return all files below ``cluster/``."""
    return [one for one in sorted(CLUSTER.rglob("*")) if one.is_file() and one.suffix != ".pyc"]


def shell_words(text: str) -> str:
    """Return a text with its runs of blanks as one."""
    return re.sub(r"\s+", " ", text).strip()


class _Strict(yaml.SafeLoader):
    """Refuses a key that occurs twice."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    own = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    assert len(own) == len(set(own)), f"a key occurs twice: {own}, {node.start_mark}"
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
