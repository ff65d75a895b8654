"""Whether every node of a cluster sees the local folders of a run, asked before work begins."""

import os
import secrets
from collections.abc import Mapping, Sequence

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mke_ray.errors import ConfigError

_PATIENCE_S = 120.0
_MOST_NAMED = 3


def is_spread() -> bool:
    """Tell whether the cluster has more than one node."""
    return sum(one["Alive"] for one in ray.nodes()) > 1


def check_shared(written: Mapping[str, str], read: Mapping[str, str]) -> None:
    """Refuse folders that a node of the cluster does not see.

    Args:
        written: Paths of folders of the run, by the key that names them; a file that is put there
            for the moment of the question must be seen by all nodes.
        read: Paths of the user's, by key; they must be there on all nodes.

    Raises:
        ConfigError: A node does not see one; the error names key, path, node and the way out.
    """
    nodes = [one for one in ray.nodes() if one["Alive"]]
    markers = {key: _put_marker(path) for key, path in written.items()}
    try:
        _ask_nodes(nodes, {**markers, **read})
    finally:
        for path in markers.values():
            os.unlink(path)


def _put_marker(folder: str) -> str:
    """Put a file of no other name into a folder and return its path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f".seen-{secrets.token_hex(6)}")
    with open(path, "xb"):
        return path


def _ask_nodes(nodes: Sequence[Mapping[str, object]], wanted: Mapping[str, str]) -> None:
    """Ask every node for some paths.

    Raises:
        ConfigError: One is missing somewhere.
    """
    ask = ray.remote(_missing)
    asked = {
        ask.options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(str(node["NodeID"]), soft=True),
        ).remote(list(wanted.values())): str(node["NodeManagerHostname"])
        for node in nodes
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_PATIENCE_S)
    absent = {one: ray.get(one) for one in answered}
    for key, path in wanted.items():
        blind = sorted({asked[one] for one, missing in absent.items() if path in missing})
        if blind:
            raise ConfigError(
                f"{key}={os.path.dirname(path) if '/.seen-' in path else path} is a folder of this "
                f"machine that {len(blind)} of {len(nodes)} nodes do not see, for example "
                f"{', '.join(blind[:_MOST_NAMED])}; name a folder that all nodes share, or an "
                "object store such as s3://bucket/runs/1"
            )


def _missing(paths: Sequence[str]) -> list[str]:
    """Return the paths that are not there."""
    return [path for path in paths if not os.path.exists(path)]
