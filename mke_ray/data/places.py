"""From the keys of samples to the stores that hold them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.filesystems import COMMON_OPTIONS, protocol_of
from mke_ray.storage import Root, open_root


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
            ConfigError: The name leads out of the root, or nothing serves the URI.
        """
        place, name = split_key(key)
        if place is None:
            return self.root, name
        if place not in self._others:
            here, there = protocol_of(self.root_uri), protocol_of(place)
            options = self.options if here in ("file", there) and there != "file" else {}
            self._others[place] = open_root(place, options, key="uri")
        return self._others[place], name


def split_key(key: str) -> tuple[str | None, str]:
    """Return the bucket and name of an absolute URI, or None and the name below the root.

    Raises:
        ConfigError: The name is empty, absolute, or climbs out of the root.
    """
    protocol, is_uri, rest = key.partition("://")
    bucket, _, name = rest.partition("/") if is_uri else ("", "", key)
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise ConfigError(
            f"uri {key!r} must be a path below source.root, or a full URI such as s3://bucket/name"
        )
    return (f"{protocol}://{bucket or '/'}" if is_uri else None), name
