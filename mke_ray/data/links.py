"""Links of a local disk: whether what they lead to is still where a source may read."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mke_ray.errors import ConfigError
from mke_ray.filesystems import protocol_of

_TARGETS_COMPARED = 100

_log = logging.getLogger(__name__)


class UnusableKeyError(ConfigError):
    """A key that no file can be read by: an error in a table, one bad row in a listing."""


def check_links(path: str, tops: Sequence[str]) -> None:
    """Refuse a path on which links lead out of the folders that a source may read.

    Args:
        path: Path of a file or a folder, there or not.
        tops: The folders; URIs of other stores among them count for nothing.

    Raises:
        UnusableKeyError: It lies elsewhere; the error names the way out.
    """
    real = os.path.realpath(path)
    if not _is_in_one(real, tuple(tops)):
        raise UnusableKeyError(_outside(path, os.path.dirname(real)))


@dataclass(slots=True)
class LinkedFiles:
    """Says once, when files are listed, that those behind a link will not be read.

    Each stays a row, which turns out bad when it is decoded: one stray link is no reason to read
    nothing. Where all files are links (git-annex, DVC, a cache of Hugging Face) that is too late.

    Args:
        tops: The folders that a source may read.
        has_warned: Whether it was said.
    """

    tops: Sequence[str]
    has_warned: bool = False

    def look(self, paths: Sequence[str]) -> None:
        """Look at the first linked file of a folder.

        Args:
            paths: Paths of the linked files of the folder, in order.
        """
        if not paths or self.has_warned or _is_in_one(os.path.realpath(paths[0]), tuple(self.tops)):
            return
        self.has_warned = True
        targets = [os.path.dirname(os.path.realpath(one)) for one in paths[:_TARGETS_COMPARED]]
        common = os.path.commonpath(targets)
        place = targets[0] if common == "/" else common
        _log.warning("%s; until then such files are bad rows", _outside(paths[0], place))


def _is_in_one(real: str, tops: tuple[str, ...]) -> bool:
    """Return whether a path lies in one of some folders.

    Folders are resolved once, since on a disk of the network that costs more than the path; where
    they seem not to hold it they are resolved again, as one may have been mounted since.
    """
    return any(is_in(real, top) for top in _resolved_once(tops)) or any(
        is_in(real, top) for top in _resolved(tops)
    )


def _resolved(tops: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(os.path.realpath(one) for one in map(local_path, tops) if one is not None)


_resolved_once = lru_cache(maxsize=64)(_resolved)


def _outside(path: str, place: str) -> str:
    return (
        f"{path} is behind a link to {os.path.realpath(path)}, outside source.root; put the files "
        f"there, or add source.places=[{place}] if they may be read"
    )


def local_path(uri: str) -> str | None:
    """Return the path of a local folder, None for a URI of another store."""
    if protocol_of(uri) not in ("file", "local"):
        return None
    return os.path.abspath(os.path.expanduser(uri.partition("://")[2] if "://" in uri else uri))


def is_in(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies in it; both absolute and without links."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
