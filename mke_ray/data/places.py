"""From the keys of samples to the stores that hold them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mke_ray.errors import ConfigError
from mke_ray.filesystems import AZURE, COMMON_OPTIONS, GOOGLE, S3, protocol_of
from mke_ray.storage import Root, open_root

_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FLAT = (*S3, *GOOGLE, *AZURE)  # stores in which ".." is a name like any other
_VERSION = "?versionId="  # which s3fs takes for the version of an object and cuts off


class UnusableKeyError(ConfigError):
    """A key that no file can be read by: an error in a table, one bad row in a listing."""


class ReachedBy(Protocol):
    """How the stores of a source are reached, as its configuration says."""

    @property
    def endpoint_url(self) -> str | None:
        """Address of a store other than the provider's own."""
        ...

    @property
    def region(self) -> str | None:
        """Region of the bucket."""
        ...

    @property
    def anonymous(self) -> bool:
        """Whether the bucket is reached without credentials."""
        ...

    @property
    def storage_options(self) -> Mapping[str, Any] | None:
        """Further options of the file system."""
        ...


@dataclass(slots=True)
class Places:
    """Finds the root and the name of a key; a root is opened once per bucket or host.

    Keys are names below the source's root, or absolute URIs. The options are those of the root,
    and of absolute URIs of the same protocol; where the root is a local folder they are those of
    the URIs. A store of another protocol is reached by what the environment says.

    Args:
        root_uri: Local folder or URI of the source.
        options: Options of the file system; see ``Root``.
    """

    root_uri: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _others: dict[str, Root] = field(default_factory=dict, repr=False)

    @property
    def root(self) -> Root:
        """The root of the source."""
        options = dict(self.options)
        if protocol_of(self.root_uri) == "file":
            options = {k: v for k, v in options.items() if k not in COMMON_OPTIONS}
        return open_root(self.root_uri, options, key="source.root")

    def find(self, key: str) -> tuple[Root, str]:
        """Return the root that holds a key, and its name below it.

        Raises:
            UnusableKeyError: The name leads out of the root, or cannot be asked for.
            ConfigError: Nothing serves the URI.
        """
        place, name = split_key(key)
        root = self.root if place is None else self._other(place)
        check_name(root, name)
        return root, name

    def _other(self, place: str) -> Root:
        """Return the root of a bucket or host."""
        if place not in self._others:
            here, there = protocol_of(self.root_uri), protocol_of(place)
            options = self.options if here in ("file", there) and there != "file" else {}
            self._others[place] = open_root(place, options, key="uri")
        return self._others[place]


def places_of(source: ReachedBy, root_uri: str) -> Places:
    """Return the places of a source's keys.

    Args:
        source: The source.
        root_uri: Its root.
    """
    common = {name: getattr(source, name) for name in COMMON_OPTIONS}
    given = {name: value for name, value in common.items() if value}
    return Places(root_uri, {**(source.storage_options or {}), **given})


def check_name(root: Root, name: str) -> None:
    """Refuse a name that is none below a root.

    Raises:
        UnusableKeyError: It is empty, absolute, climbs out of the root, or cannot be asked for.
    """
    is_flat = protocol_of(root.uri) in _FLAT
    is_climbing = not is_flat and ".." in name.split("/")
    if not name or name.startswith("/") or is_climbing or (is_flat and _VERSION in name):
        raise _unusable(name)


def split_key(key: str) -> tuple[str | None, str]:
    """Return the bucket and name of an absolute URI, or None and the name below the root.

    Only a key that begins with a protocol is a URI: a listing may find ``https://`` in a name.

    Raises:
        UnusableKeyError: The URI names no file.
    """
    if not _URI.match(key):
        return None, key
    protocol, _, rest = key.partition("://")
    bucket, _, name = rest.partition("/")
    if not name:
        raise _unusable(key)
    return f"{protocol}://{bucket or '/'}", name


def _unusable(key: str) -> UnusableKeyError:
    return UnusableKeyError(
        f"uri {key!r} must be a path below source.root, or a full URI such as s3://bucket/name or "
        "file:///folder/name"
    )
