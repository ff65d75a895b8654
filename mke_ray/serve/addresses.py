"""Files that a request names instead of sending them: only below prefixes that were allowed."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mke_ray.data.places import UnusableKeyError, check_name
from mke_ray.errors import ConfigError
from mke_ray.filesystems import AZURE, GOOGLE, S3, protocol_of
from mke_ray.serve.problems import ProblemError
from mke_ray.storage import Root, open_root

_STORES = ("file", *S3, *GOOGLE, *AZURE)
_MAX_LETTERS = 1024
_PATIENCE_S = 5.0  # a request does not wait longer for a store
_UPLOAD = "send the file itself in a multipart request"


@dataclass(slots=True)
class AllowedUris:
    """Finds what a URI names, if that is allowed; a web address never is.

    Servers of the web are not asked, since a name there may lead anywhere: to a host inside, or by
    a redirection. Object stores are asked at the endpoint of the configuration and nowhere else.

    Args:
        prefixes: Folders, ``/folder`` or ``s3://bucket/folder``.
        max_bytes: Bytes of the largest file.
        options: Options of the file systems of object stores.

    Raises:
        ConfigError: A prefix is no folder of a store.
    """

    prefixes: Sequence[str]
    max_bytes: int
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _roots: dict[str, Root] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the prefixes, and open their roots."""
        for prefix in self.prefixes:
            is_whole = prefix.startswith("/") or protocol_of(prefix) != "file"
            if protocol_of(prefix) not in _STORES or (not is_whole and "://" not in prefix):
                raise ConfigError(
                    f"uri_prefixes has {prefix!r}; give whole folders of a disk or an object store "
                    f"({', '.join(_STORES)}), such as /data/clips or s3://bucket/clips. Web "
                    "addresses are not fetched"
                )
            plain = _plain(prefix)
            options = self.options if "://" in plain else {}
            self._roots[plain] = open_root(
                plain, options, key="uri_prefixes", patience_s=_PATIENCE_S
            )

    def fetch(self, uri: str, left_bytes: int) -> bytes:
        """Return a file, or its beginning where it is larger than what is left.

        Args:
            uri: The file.
            left_bytes: Bytes that its request may still fetch; one more of them says that the file
                has more.

        Raises:
            ProblemError: It is not allowed, not there, too large, or its store does not answer.
        """
        root, name = self.find(uri)
        try:
            content = root.read_range(name, 0, min(self.max_bytes, left_bytes) + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ProblemError(422, f"there is no file {uri!r}", "correct the uri") from None
        except OSError:
            raise ProblemError(
                503, f"the store of {uri!r} did not answer", "try again later"
            ) from None
        if len(content) > self.max_bytes:
            raise ProblemError(413, f"{uri!r} has more than {self.max_bytes:,} bytes", "cut it")
        return content

    def find(self, uri: str) -> tuple[Root, str]:
        """Return the root of the prefix that a URI lies below, and its name there.

        Raises:
            ProblemError: It lies below none, or climbs out of it.
        """
        plain = _plain(uri)
        if len(uri) > _MAX_LETTERS or not _is_straight(plain):
            raise ProblemError(403, f"the uri {uri[:80]!r} is not a plain one", _UPLOAD)
        for prefix, root in self._roots.items():
            if plain.startswith(f"{prefix}/"):
                name = plain[len(prefix) + 1 :]
                self._check(root, name, uri)
                return root, name
        allowed = ", ".join(self.prefixes) or "none"
        raise ProblemError(403, f"the uri {uri!r} is below no allowed prefix ({allowed})", _UPLOAD)

    def _check(self, root: Root, name: str, uri: str) -> None:
        """Refuse what is no file of the folder, by a link for example."""
        try:
            check_name(root, name)
        except UnusableKeyError:
            raise ProblemError(403, f"the uri {uri!r} is not a plain one", _UPLOAD) from None
        if not root.is_local:
            return
        real, folder = os.path.realpath(root.path(name)), os.path.realpath(root.path())
        if not real.startswith(f"{folder}{os.sep}"):
            raise ProblemError(403, f"the uri {uri!r} leads out of its prefix", _UPLOAD)
        if os.path.exists(real) and not os.path.isfile(real):
            raise ProblemError(422, f"{uri!r} is no file", "name a file")


def _plain(uri: str) -> str:
    """Return a URI of the disk as a path, and any other as it is, without a slash at its end."""
    return uri.removeprefix("file://").rstrip("/")


def _is_straight(uri: str) -> bool:
    """Return whether a URI says what it means: no steps up, no escapes, no query."""
    _, _, path = uri.rpartition("://")
    steps = path.split("/")[1:]
    is_walking = any(step in ("", ".", "..") for step in steps)
    return uri.isprintable() and not is_walking and not set(uri) & set("\\?#%@")
