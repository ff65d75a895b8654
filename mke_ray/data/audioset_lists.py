"""The lists of AudioSet: clips with their classes, the classes, and which lie below which."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mke_ray.errors import ConfigError


def read_classes(lines: Iterable[str], *, where: str) -> dict[str, str]:
    """Return the name of every class by its id, in logit order.

    Args:
        lines: Lines of ``class_labels_indices.csv``: index, mid, display_name.
        where: Name of the list, for errors.

    Raises:
        ConfigError: A column is missing, or the indices do not count up from 0.
    """
    found: dict[str, str] = {}
    for record in csv.DictReader(lines):
        try:
            index, mid, name = int(record["index"]), record["mid"], record["display_name"]
        except (KeyError, ValueError, TypeError):
            index, mid, name = -1, "", ""
        if index != len(found) or not mid or not name:
            raise ConfigError(
                f"{where}: row {len(found) + 1} is {list(record.values())}; it has to be "
                "index,mid,display_name with indices that count up from 0"
            )
        found[mid] = name
    return found


def below(ontology: bytes, name: str, *, where: str) -> set[str]:
    """Return the ids of a class and of all that lie below it.

    Args:
        ontology: Content of ``ontology.json``.
        name: Name of the class, or its id.
        where: Name of the file, for errors.

    Raises:
        ConfigError: It is no ontology, or there is no such class in it.
    """
    try:
        nodes: Mapping[str, Any] = {node["id"]: node for node in json.loads(ontology)}
        children = {mid: list(node["child_ids"]) for mid, node in nodes.items()}
        names = {mid: node["name"] for mid, node in nodes.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{where} is no ontology of AudioSet: {error!r}") from error
    waiting = [mid for mid, one in names.items() if name in (one, mid)]
    if not waiting:
        nested = {child for some in children.values() for child in some}
        tops = sorted(names[mid] for mid in names.keys() - nested)
        raise ConfigError(f"source.below={name} is not in {where}; at its top are {tops}")
    found: set[str] = set()
    while waiting:
        mid = waiting.pop()
        if mid not in found:
            found.add(mid)
            waiting += children.get(mid, [])
    return found


def read_segments(lines: Iterable[str], *, where: str) -> Iterator[tuple[str, int, int, list[str]]]:
    """Yield video, start and end in milliseconds and class ids of every clip.

    Args:
        lines: Lines of a segments list: three that begin with #, then
            ``YTID, start_seconds, end_seconds, "mid,mid"``.
        where: Name of the list, for errors.

    Raises:
        ConfigError: A line is another one.
    """
    for number, fields in enumerate(csv.reader(lines, skipinitialspace=True), start=1):
        if not fields or fields[0].startswith("#"):
            continue
        found = _segment(fields)
        if found is None:
            raise ConfigError(
                f"{where}: line {number} is {', '.join(fields)!r}; it has to be "
                'YTID, start_seconds, end_seconds, "mid,mid"'
            )
        yield found


def _segment(fields: Sequence[str]) -> tuple[str, int, int, list[str]] | None:
    """Return what a line says, None where it is none."""
    try:
        video, start, end, mids = fields
        start_ms, end_ms = round(1000 * float(start)), round(1000 * float(end))
    except ValueError:
        return None
    named = [one.strip() for one in mids.split(",") if one.strip()]
    return (video, start_ms, end_ms, named) if 0 <= start_ms < end_ms else None
