"""Commit records of units: the newest of a unit counts, and the first to create one wins."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from mke_ray.labels.file_names import commit_name, is_part
from mke_ray.labels.index import Location
from mke_ray.storage import Root

PLACE_IN_PART = ("offset", "part_bytes")  # what only records of units in parts have


def records_of(root: Root, unit: str) -> Iterator[dict[str, Any]]:
    """Yield the commit records of a unit, oldest first; none where it is not committed."""
    for generation in itertools.count():
        try:
            yield json.loads(root.read(commit_name(unit, generation)))
        except FileNotFoundError:
            return


def newest_record(root: Root, unit: str) -> dict[str, Any] | None:
    """Return the commit record of a unit that counts, None where it is not committed."""
    newest = None
    for record in records_of(root, unit):
        newest = record
    return newest


def claim(root: Root, record: Mapping[str, Any]) -> bool:
    """Create a commit record if nobody has, and return whether it is the one that is there."""
    name = commit_name(record["unit"], record["generation"])
    if root.create(name, json.dumps(record).encode()):
        return True
    # A request that was repeated after a lost answer finds its own record: that is a win.
    return json.loads(root.read(name))["file"] == record["file"]


def location_of(record: Mapping[str, Any]) -> Location:
    """Return where the unit of a commit record lies."""
    place = Location(record["file"], record["row_group"], record["num_rows"])
    if not is_part(place.file):
        return place
    return place.within(offset=record["offset"], num_bytes=record["num_bytes"])
