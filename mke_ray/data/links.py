"""Links of a local disk: whether what they lead to is still where a source may read."""

import os
from collections.abc import Sequence

from mke_ray.errors import ConfigError
from mke_ray.filesystems import protocol_of


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
    local = [os.path.realpath(one) for one in map(local_path, tops) if one is not None]
    if not any(is_in(real, top) for top in local):
        raise UnusableKeyError(
            f"{path} is behind a link to {real}, outside source.root; put the files there, or add "
            f"source.places=[{os.path.dirname(real)}] if they may be read"
        )


def local_path(uri: str) -> str | None:
    """Return the path of a local folder, None for a URI of another store."""
    if protocol_of(uri) not in ("file", "local"):
        return None
    return os.path.abspath(os.path.expanduser(uri.partition("://")[2] if "://" in uri else uri))


def is_in(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies in it; both absolute and without links."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
