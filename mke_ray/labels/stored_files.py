"""Files below a folder with their sizes and times, by one listing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mke_ray.retries import retried
from mke_ray.storage import Root

_TIMES = ("mtime", "LastModified", "last_modified", "updated")  # as file systems call it


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store.

    Args:
        name: Its name below the root.
        num_bytes: Its size.
        written_s: When it was written, seconds since 1970.
    """

    name: str
    num_bytes: int
    written_s: float


def stored_files(root: Root, below: str) -> Iterator[StoredFile]:
    """Yield the files below a folder, those that are being written among them.

    Args:
        root: A root.
        below: A folder of it, which may not be there.
    """
    filesystem, top = root.filesystem(), root.path(below)
    filesystem.invalidate_cache()
    found = retried(lambda: filesystem.find(top, detail=True), f"listing {top}")
    details: Mapping[str, Mapping[str, Any]] = found  # type: ignore[assignment]
    for path, one in sorted(details.items()):
        name = f"{below}/{path[len(top) :].lstrip('/')}"
        yield StoredFile(name, int(one["size"] or 0), _written_s(one))


def _written_s(details: Mapping[str, Any]) -> float:
    """Return when a file was written; a store that does not say counts as written just now."""
    found = next((details[name] for name in _TIMES if details.get(name)), None)
    if found is None:
        return datetime.now().timestamp()
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime) else float(found)
