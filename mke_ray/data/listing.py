"""Sizes and versions of files, listed one folder at a time."""

import posixpath
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.storage import Root, open_root

MAX_HELD_FILES = 2_000_000


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file of a listing.

    Args:
        name: Path relative to the root that was listed.
        size: Size in bytes.
        etag: Version as the store names it; for local files from the time of change and the size.
    """

    name: str
    size: int
    etag: str


@dataclass(slots=True)
class FolderListings:
    """Finds files by listing each folder once, holding a bounded number of entries.

    Args:
        root: Root that relative names are below.
        max_held_files: Entries held; the folders that were not asked for longest go first.
    """

    root: Root
    max_held_files: int = MAX_HELD_FILES
    _folders: OrderedDict[str, dict[str, ListedFile]] = field(default_factory=OrderedDict)

    def find(self, key: str) -> ListedFile | None:
        """Return a file by its name below the root or its absolute URI, None where missing."""
        other, name = split_key(key)
        folder = posixpath.dirname(name) if other is None else other
        if folder not in self._folders:
            root = self.root if other is None else open_root(other, self.root.options)
            self._hold(folder, list_folder(root, "" if other else folder))
        self._folders.move_to_end(folder)
        return self._folders[folder].get(posixpath.basename(name))

    def _hold(self, folder: str, files: list[ListedFile]) -> None:
        self._folders[folder] = {posixpath.basename(file.name): file for file in files}
        while len(self._folders) > 1 and self._num_held() > self.max_held_files:
            self._folders.popitem(last=False)

    def _num_held(self) -> int:
        return sum(len(files) for files in self._folders.values())


def split_key(key: str) -> tuple[str | None, str]:
    """Return the folder and name of an absolute URI, or None and the name below the root.

    Raises:
        ConfigError: The name is empty, absolute, or climbs out of the root.
    """
    if "://" in key:
        folder, name = posixpath.split(key)
        return folder, name
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise ConfigError(
            f"uri {key!r} must be a path below source.root, or a full URI such as s3://bucket/name"
        )
    return None, key


def list_folder(root: Root, folder: str) -> list[ListedFile]:
    """Return the files that lie directly in a folder; none where there is no folder."""
    return [_listed(entry, folder) for entry in _entries(root, folder) if entry["type"] == "file"]


def walk(root: Root, folder: str) -> Iterator[ListedFile]:
    """Yield the files below a folder in order of their names; hidden ones are left out."""
    for entry in _entries(root, folder):
        name = posixpath.basename(str(entry["name"]).rstrip("/"))
        if name.startswith("."):
            continue
        if entry["type"] == "directory":
            yield from walk(root, posixpath.join(folder, name))
        else:
            yield _listed(entry, folder)


def _entries(root: Root, folder: str) -> list[dict[str, Any]]:
    """Return what a folder holds, fresh from the store, sorted by name."""
    filesystem, path = root.filesystem(), root.path(folder)
    filesystem.invalidate_cache(path)
    try:
        entries = filesystem.ls(path, detail=True)
    except FileNotFoundError:
        return []
    finally:
        filesystem.invalidate_cache(path)
    here = path.rstrip("/")
    listed = [dict(entry) for entry in entries if str(entry["name"]).rstrip("/") != here]
    return sorted(listed, key=lambda entry: str(entry["name"]))


def _listed(entry: Mapping[str, Any], folder: str) -> ListedFile:
    name = posixpath.join(folder, posixpath.basename(str(entry["name"])))
    size = int(entry.get("size") or 0)
    return ListedFile(name, size, _etag(entry, size))


def _etag(entry: Mapping[str, Any], size: int) -> str:
    """Return the version that a file system gives for a file."""
    for key in ("ETag", "etag", "md5Hash", "content_md5", "generation"):
        if entry.get(key):
            return str(entry[key]).strip('"')
    if "mtime" in entry:
        return f"{round(float(entry['mtime']) * 1e9)}-{size}"
    return str(entry.get("LastModified") or entry.get("created") or "")
