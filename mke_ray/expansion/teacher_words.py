"""Says in a sentence who taught a run, for its report and its model card."""

from collections.abc import Mapping
from typing import Any

from mke_ray.config_schema import TeacherConfig

_PLACES = ("path", "function", "weights")


def teacher_words(config: TeacherConfig) -> str:
    """Return what the teacher is and what it reads.

    Args:
        config: The section ``teacher``.
    """
    reads = f"The teacher reads {config.modality}"
    if config.train:
        return f"{reads} and was trained by this run on the labelled samples."
    network = config.network
    inner = network.get("teacher")
    if not isinstance(inner, Mapping):
        return f"{reads}. It was brought to this run: {_named(network)}."
    table = network.get("table")
    mapped = f" by {table}" if isinstance(table, str) else ""
    return f"{reads}. It was brought to this run: {_named(inner)}, its classes mapped{mapped}."


def _named(network: Mapping[str, Any]) -> str:
    """Return the class of a network, and which file, folder or function it is of."""
    name = str(network.get("_target_", "")).rpartition(".")[2]
    place = next((network[key] for key in _PLACES if isinstance(network.get(key), str)), None)
    return f"{name} of {place}" if place else name
