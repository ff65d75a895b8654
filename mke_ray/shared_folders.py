"""Whether every node of a cluster sees the local folders of a run, asked before work begins."""

import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mke_ray.errors import ConfigError

_PATIENCE_S = 120.0
_MOST_NAMED = 3


def is_spread() -> bool:
    """Tell whether work may be done on more than one node."""
    return len(_working_nodes()) > 1


def check_shared(written: Mapping[str, str], read: Mapping[str, str]) -> None:
    """Refuse folders that a node of the cluster does not see.

    Nodes without CPUs and GPUs, as a head often is, are not asked: nothing is done there.

    Args:
        written: Paths of folders of the run, by the key that names them; a file that is put there
            for the moment of the question must be seen by all nodes.
        read: Paths of the user's, by key; they must be there on all nodes.

    Raises:
        ConfigError: A node does not see one, or does not answer; the error names the way out.
    """
    markers = {key: _put_marker(path) for key, path in written.items()}
    try:
        missing = _ask_nodes([*markers.values(), *read.values()])
    finally:
        for path in markers.values():
            os.unlink(path)
    for key, path in {**markers, **read}.items():
        blind = sorted(node for node, absent in missing.items() if path in absent)
        if blind:
            raise ConfigError(
                f"{key}={written.get(key, path)} is a folder of this machine that {len(blind)} of "
                f"{len(missing)} nodes do not see, for example {', '.join(blind[:_MOST_NAMED])}; "
                "name a folder that all nodes share, or an object store such as "
                "s3://bucket/runs/1"
            )


def _working_nodes() -> list[dict[str, Any]]:
    """Return the living nodes on which actors and tasks are placed."""
    offers = ("CPU", "GPU")
    return [one for one in ray.nodes() if one["Alive"] and any(map(one["Resources"].get, offers))]


def _put_marker(folder: str) -> str:
    """Put a file of no other name into a folder and return its path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f".seen-{secrets.token_hex(6)}")
    with open(path, "xb"):
        return path


def _ask_nodes(paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths that are missing, by node.

    Raises:
        ConfigError: A node does not answer.
    """
    ask = ray.remote(_missing)
    asked = {
        f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})": ask.options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True),
        ).remote(paths)
        for node in _working_nodes()
    }
    _, silent = ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE_S)
    if silent:
        names = [name for name, one in asked.items() if one in silent]
        raise ConfigError(
            f"ray.address: {len(names)} of {len(asked)} nodes did not answer in {_PATIENCE_S:g} s, "
            f"for example {', '.join(names[:_MOST_NAMED])}; look at them with `ray status`, and "
            "start again"
        )
    return {name: ray.get(one) for name, one in asked.items()}


def _missing(paths: Sequence[str]) -> list[str]:
    """Return the paths that are not there."""
    return [path for path in paths if not os.path.exists(path)]
