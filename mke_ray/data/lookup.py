"""Sizes and versions of named files, found for many at a time."""

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mke_ray.data.ahead import map_ahead
from mke_ray.data.listing import ListedFile, listed_file, stat_local, walk
from mke_ray.data.places import Places
from mke_ray.errors import ConfigError
from mke_ray.filesystems import is_s3
from mke_ray.retries import retried
from mke_ray.secret_looks import without_secrets
from mke_ray.storage import Root

_NUM_THREADS = 16

# A page of a thousand keys takes about as long as this many requests for one.
_MIN_PER_FOLDER = 16
_LISTED_PER_FILE = 100


@dataclass(frozen=True, slots=True)
class Lookup:
    """Finds files by their keys: those of one folder by listing it, others one by one.

    A folder of an S3 bucket is listed from the first to the last name asked for, if many are, and
    given up where what is listed is mostly something else. So names asked for in order cost about
    one listing of their folders, and no folder is held.

    Args:
        places: Where keys are.
    """

    places: Places

    def find(self, keys: Sequence[str]) -> dict[str, ListedFile]:
        """Return the files that are there, by their keys.

        Raises:
            ConfigError: A key leads out of the root, nothing serves it, or it may not be looked at.
            OSError: The store did not answer, also after retries.
        """
        found: dict[str, ListedFile] = {}
        remaining: list[tuple[str, Root, str]] = []
        for root, names in self._by_folder(keys):
            listed = _list_some(root, names) if len(names) >= _MIN_PER_FOLDER else {}
            for name, key in names.items():
                if name in listed:
                    found[key] = listed[name]
                else:
                    remaining.append((key, root, name))
        heads = map_ahead(_head, remaining, num_threads=_NUM_THREADS)
        for (key, _, _), file in zip(remaining, heads, strict=True):
            if file is not None:
                found[key] = file
        return found

    def _by_folder(self, keys: Sequence[str]) -> Iterator[tuple[Root, Mapping[str, str]]]:
        """Yield per folder its root and, by name below that root, the keys."""
        folders: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        roots: dict[str, Root] = {}
        for key in keys:
            root, name = self.places.find(key)
            roots[root.uri] = root
            folders[root.uri, name.rpartition("/")[0]][name] = key
        for (uri, _), names in folders.items():
            yield roots[uri], names


def place_of(root: Root, table: tuple[Root, str] | None) -> str:
    """Return where a source lies, and the version of its table, without secrets.

    Args:
        root: Root of the source.
        table: Root and name of its table, None where it has none.
    """
    if table is None:
        return without_secrets(root.uri)
    file = _head((table[1], *table))
    version = "" if file is None else f"{file.size} {file.etag}"
    return without_secrets(f"{root.uri} {table[0].uri} {table[1]} {version}")


def place_of_files(root: Root, names: Iterable[str]) -> str:
    """Return the URI of a root and the versions of files below it, without secrets."""
    return " ".join(place_of(root, (root, name)) for name in names)


def version_of_files(root: Root, names: Iterable[str]) -> str:
    """Return a digest of the versions of files below a root, wherever that lies."""
    found = [_head((name, root, name)) for name in names]
    versions = [None if one is None else [one.name, one.size, one.etag] for one in found]
    return hashlib.sha256(json.dumps(versions).encode()).hexdigest()[:32]


def _list_some(root: Root, names: Mapping[str, str]) -> dict[str, ListedFile]:
    """Return those of a folder's files that a short listing finds."""
    if root.is_local or not is_s3(root.filesystem()):
        return {}
    first, last = min(names), max(names)
    folder = first.rpartition("/")[0]
    listing = walk(root, folder, after=first[:-1], num_threads=0)
    found = {}
    for file in itertools.islice(listing, _LISTED_PER_FILE * len(names)):
        if file.name in names:
            found[file.name] = file
        if file.name >= last or len(found) == len(names):
            break
    return found


def _head(asked: tuple[str, Root, str]) -> ListedFile | None:
    """Return one file, None where it is not there."""
    key, root, name = asked
    try:
        return stat_local(root.path(name), name) if root.is_local else _ask(root, name)
    except PermissionError as error:
        raise ConfigError(
            f"{key} may not be looked at ({error}); let the credentials list its folder and read "
            "it (s3:ListBucket, s3:GetObject), or take it out of source.table"
        ) from error


def _ask(root: Root, name: str) -> ListedFile | None:
    """Return what a store says of one file, None where it is not there."""
    filesystem, path = root.filesystem(), root.path(name)
    try:
        entry = retried(lambda: filesystem.info(path), f"looking at {path}")
    except FileNotFoundError:
        return None
    return listed_file(entry, name) if entry["type"] == "file" else None
