"""Bytes that Ray's object stores wrote to disk for want of memory, as the nodes export them."""

import re
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import ray

_NUM_THREADS = 16
_PATIENCE_S = 5.0
_SPILLED = re.compile(
    r'^ray_spill_manager_objects_bytes\{[^}]*State="Spilled"[^}]*\} (\S+)$', re.MULTILINE
)


@dataclass(slots=True)
class Spilling:
    """Tells what was spilled since it was asked to begin.

    Nodes export their numbers about every 10 s, so the last seconds may be missing. A node that
    does not answer does not count.
    """

    _before: Mapping[str, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Remember what was spilled before; nothing is asked without Ray."""
        self._before = spilled_by_node()

    def num_bytes(self) -> int:
        """Return the bytes spilled since ``begin``, 0 without Ray."""
        now = spilled_by_node()
        return sum(max(number - self._before.get(node, 0), 0) for node, number in now.items())


def spilled_by_node() -> dict[str, int]:
    """Return the bytes that each living node of the cluster has spilled, by its id."""
    if not ray.is_initialized():
        return {}
    places = {
        one["NodeID"]: f"http://{one['NodeManagerAddress']}:{one['MetricsExportPort']}/metrics"
        for one in ray.nodes()
        if one["Alive"] and one.get("MetricsExportPort")
    }
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        texts = dict(zip(places, pool.map(_fetch, places.values()), strict=True))
    return {node: spilled_in(text) for node, text in texts.items() if text}


def spilled_in(text: str) -> int:
    """Return the bytes spilled by what a node exports in the format of Prometheus."""
    return round(sum(map(float, _SPILLED.findall(text))))


def _fetch(url: str) -> str:
    """Return what a node exports, "" where it does not answer."""
    try:
        with _OPENER.open(url, timeout=_PATIENCE_S) as answer:
            return answer.read().decode()
    except (OSError, ValueError):
        return ""


# A proxy of the environment is for the world outside the cluster.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
