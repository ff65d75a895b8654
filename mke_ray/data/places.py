"""From the keys of samples to the stores that hold them."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

from mke_ray.data.links import UnusableKeyError, check_links, is_in, local_path
from mke_ray.filesystems import AZURE, COMMON_OPTIONS, GOOGLE, S3, protocol_of
from mke_ray.storage import Root, open_root

_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FLAT = (*S3, *GOOGLE, *AZURE)
_SAME_STORE = {name: family[0] for family in (S3, GOOGLE, AZURE) for name in family}
_VERSION = "?versionId="  # which s3fs takes for the version of an object and cuts off
_DECODINGS = 3  # what servers and proxies on the way may undo of %25252e


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

    Keys are names below the source's root, or absolute URIs below it or below a further place. The
    options are those of the root, and of absolute URIs of the same store (``s3a://`` and ``s3://``
    are one); where the root is a local folder they are those of the URIs. Another store is reached
    by what the environment says.

    Args:
        root_uri: Local folder or URI of the source.
        options: Options of the file system; see ``Root``.
        further: Folders and URIs outside the root that keys and links may lead to.
    """

    root_uri: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    further: Sequence[str] = ()
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
            UnusableKeyError: The key leads out of the root and all further places, or cannot be
                asked for.
            ConfigError: Nothing serves the URI.
        """
        place, name = self._split(key)
        root = self.root if place is None else self._other(place)
        return root, name

    def check(self, key: str) -> None:
        """Refuse a key that ``find`` would refuse, without opening anything.

        Raises:
            UnusableKeyError: As ``find``.
        """
        self._split(key)

    def find_to_read(self, key: str) -> tuple[Root, str]:
        """Return what ``find`` does, for a file whose content is wanted.

        Raises:
            UnusableKeyError: As ``find``, and where a link leads out.
            ConfigError: Nothing serves the URI.
        """
        root, name = self.find(key)
        if root.is_local:
            check_links(root.path(name), self.tops)
        return root, name

    @property
    def tops(self) -> tuple[str, ...]:
        """The root and the further places."""
        return (self.root_uri, *self.further)

    def _split(self, key: str) -> tuple[str | None, str]:
        """Return bucket or host, None for the root, and the name on it.

        Raises:
            UnusableKeyError: As ``find``.
        """
        place, name = split_key(key)
        _check_name(self.root_uri if place is None else place, name)
        if place is not None and not any(_is_below(key, top) for top in self.tops):
            raise UnusableKeyError(
                f"uri {key!r} is outside source.root={self.root_uri}; name files below it, or add "
                f"source.places=[{key.rpartition('/')[0]}] if they may be read"
            )
        return place, name

    def _other(self, place: str) -> Root:
        """Return the root of a bucket or host."""
        if place not in self._others:
            here, there = _store_of(self.root_uri), _store_of(place)
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
    further = tuple(getattr(source, "places", None) or ())
    return Places(root_uri, {**(source.storage_options or {}), **given}, further)


def check_name(root: Root, name: str) -> None:
    """Refuse a name that is none below a root.

    Dots that climb are refused in buckets too, where they are names like any other: gateways,
    caches and servers on the way may take them for what they are elsewhere, also encoded.

    Raises:
        UnusableKeyError: It is empty, absolute, climbs, has control characters, or cannot be asked
            for.
    """
    _check_name(root.uri, name)


def _check_name(root_uri: str, name: str) -> None:
    is_version = protocol_of(root_uri) in _FLAT and _VERSION in name
    if not name or name.startswith("/") or is_version or _CONTROL.search(name) or _climbs(name):
        raise _unusable(name)


def _climbs(name: str) -> bool:
    """Return whether a name has a part that means the folder above, as it is or encoded."""
    for _ in range(_DECODINGS):
        if ".." in name.replace("\\", "/").split("/"):
            return True
        name = unquote(name)
    return ".." in name.replace("\\", "/").split("/")


def _is_below(key: str, top: str) -> bool:
    """Return whether an absolute URI lies below a folder or another URI.

    Folders are compared as they are written and, where a link leads to one, as they are: what may
    be read behind further links is asked when a file is.
    """
    if (here := local_path(key)) is not None:
        there = local_path(top)
        return there is not None and (
            is_in(here, there) or is_in(os.path.realpath(here), os.path.realpath(there))
        )
    rest = top.partition("://")[2].rstrip("/")
    return _store_of(key) == _store_of(top) and key.partition("://")[2].startswith(f"{rest}/")


def _store_of(uri: str) -> str:
    """Return the protocol of a URI, of several names of one store the first."""
    protocol = protocol_of(uri)
    return _SAME_STORE.get(protocol, protocol)


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
        f"uri {key!r} must be a path below source.root, or a full URI such as s3://bucket/name "
        "below it or below one of source.places, without '..' and control characters"
    )
