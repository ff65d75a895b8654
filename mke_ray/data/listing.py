"""The files below a folder, streamed in an order that is always the same, from any point on.

S3 is listed flat, several pages at once, in the order of the whole keys; a local disk folder by
folder in the same order, holding the names of the folders on the way to the current one; what
another file system of fsspec has is asked for folder by folder, and it holds a whole folder.
"""

import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mke_ray.data.key_ranges import NUM_THREADS
from mke_ray.data.links import LinkedFiles, check_links
from mke_ray.data.listing_s3 import list_s3
from mke_ray.filesystems import is_s3
from mke_ray.retries import retried
from mke_ray.storage import Root


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


def walk(
    root: Root,
    folder: str,
    after: str = "",
    *,
    num_threads: int = NUM_THREADS,
    further: Sequence[str] = (),
) -> Iterator[ListedFile]:
    """Yield the files below a folder in order of their names.

    Hidden files (those whose name, or a folder of theirs below this one, begins with a dot) and
    the markers that some tools leave for folders in an object store are left out.

    Args:
        root: Root that names are relative to.
        folder: Name of the folder, "" for all of the root.
        after: Name of the file to begin behind, "" for the first one.
        num_threads: Pages of S3 asked for at once, 0 for one after the other.
        further: Folders outside the root that links of a local disk may lead to.

    Raises:
        UnusableKeyError: A link to a folder leads out of the root and of ``further``.
        OSError: The store did not answer, also after retries.
    """
    if root.is_local:
        path, tops = root.path(folder), (root.path(), *further)
        check_links(path, tops)
        yield from _walk_local(path, folder, after, (os.path.realpath(path),), LinkedFiles(tops))
    elif is_s3(root.filesystem()):
        below = len(folder.rstrip("/")) + 1 if folder else 0
        for entry in list_s3(root, folder, after, num_threads=num_threads):
            if not _is_hidden(entry.key[below:]):
                yield ListedFile(entry.key, entry.size, entry.etag)
    else:
        yield from _walk_remote(root, folder, after)


def listed_file(entry: Mapping[str, Any], name: str) -> ListedFile:
    """Return the file that an entry of fsspec describes.

    Args:
        entry: What ``info`` or ``ls`` says.
        name: Path relative to the root.
    """
    size = int(entry.get("size") or 0)
    return ListedFile(name, size, _etag(entry, size))


def stat_local(path: str, name: str) -> ListedFile | None:
    """Return a file of a local disk, None where there is no such file."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return ListedFile(name, found.st_size, f"{found.st_mtime_ns}-{found.st_size}")


def _is_hidden(name: str) -> bool:
    """Return whether a name below the listed folder is hidden or stands for a folder."""
    return name.startswith(".") or "/." in name or name.endswith(("/", "_$folder$")) or not name


def _walk_local(
    path: str, folder: str, after: str, way: tuple[str, ...], links: LinkedFiles
) -> Iterator[ListedFile]:
    """Yield the files of a folder; ``way`` has its real path and those of the folders above."""
    for name in _local_names(path, links):
        whole = posixpath.join(folder, name)
        if name.endswith("/"):
            below = os.path.join(path, name[:-1])
            real = os.path.realpath(below) if _may_hold(whole, after) else way[-1]
            if real not in way:
                if os.path.islink(below):
                    check_links(below, links.tops)
                yield from _walk_local(below, whole[:-1], after, (*way, real), links)
        elif whole > after and (file := stat_local(os.path.join(path, name), whole)):
            yield file


def _local_names(path: str, links: LinkedFiles) -> list[str]:
    """Return the names in a folder, folders with a slash, in the order of whole keys."""
    names, linked = [], []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_file():
                    names.append(entry.name)
                    if entry.is_symlink():
                        linked.append(entry.path)
                elif entry.is_dir() and not _is_loop(entry, path):
                    names.append(f"{entry.name}/")
    except FileNotFoundError:
        return []
    links.look(sorted(linked))
    return sorted(names)


def _is_loop(entry: os.DirEntry[str], path: str) -> bool:
    """Return whether a link leads to a folder that it lies in."""
    if not entry.is_symlink():
        return False
    target = os.path.realpath(entry.path)
    return os.path.commonpath([target, os.path.realpath(path)]) == target


def _may_hold(folder: str, after: str) -> bool:
    """Return whether a folder, written with its slash, can hold names behind a name."""
    return folder > after or after.startswith(folder)


def _walk_remote(root: Root, folder: str, after: str) -> Iterator[ListedFile]:
    names = _remote_entries(root, folder)
    for name in sorted(names):
        whole = posixpath.join(folder, name)
        if name.endswith("/"):
            if _may_hold(whole, after):
                yield from _walk_remote(root, whole[:-1], after)
        elif whole > after:
            yield listed_file(names[name], whole)


def _remote_entries(root: Root, folder: str) -> dict[str, Mapping[str, Any]]:
    """Return what a folder holds by name, folders with a slash, fresh from the store."""
    filesystem, path = root.filesystem(), root.path(folder)
    filesystem.invalidate_cache(path)
    try:
        entries = retried(lambda: filesystem.ls(path, detail=True), f"listing {path}")
    except FileNotFoundError:
        return {}
    finally:
        filesystem.invalidate_cache(path)
    found = {}
    for entry in entries:
        whole = str(entry["name"]).rstrip("/")
        name = posixpath.basename(whole)
        is_folder = entry["type"] == "directory"
        if whole != path.rstrip("/") and (is_folder or not _is_hidden(name)):
            found[f"{name}/" if is_folder else name] = entry
    return {name: entry for name, entry in found.items() if not name.startswith(".")}


def _etag(entry: Mapping[str, Any], size: int) -> str:
    """Return the version that a file system gives for a file."""
    for key in ("ETag", "etag", "md5Hash", "content_md5", "generation"):
        if entry.get(key):
            return str(entry[key]).strip('"')
    changed = entry.get("mtime")
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    if changed is not None:
        return f"{round(float(changed) * 1e9)}-{size}"
    return str(entry.get("LastModified") or entry.get("created") or "")
