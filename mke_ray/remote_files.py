"""Objects of an object store as files: listed, written, created only if absent."""

from typing import Any, cast

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper

from mke_ray.errors import StoreError
from mke_ray.fault_points import reach

_PRECONDITION_CODES = ("PreconditionFailed", "412")


def remote_files(filesystem: fsspec.AbstractFileSystem, top: str, *, recursive: bool) -> list[str]:
    """Return the paths of the objects below a prefix, by flat listing where that is all of them."""
    if recursive:
        found = cast(dict[str, dict[str, Any]], filesystem.find(top, detail=True)).values()
    else:
        try:
            found = filesystem.ls(top, detail=True)
        except FileNotFoundError:
            return []
    return [str(one["name"]) for one in found if one["type"] == "file"]


def write_object(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    """Put an object, whether there is one or not."""
    filesystem.pipe_file(path, content)
    reach("write:put", path)


def create_object(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes) -> bool:
    """Create an object with a conditional put."""
    if isinstance(filesystem, ArrowFSWrapper):
        raise StoreError(
            f"{path} is reached through pyarrow, which cannot create a file only if it is absent; "
            "pip install gcsfs (gs://) or adlfs (az://)"
        )
    try:
        filesystem.pipe_file(path, content, mode="create")
        reach("create:put", path)
    except FileExistsError:
        return False
    except OSError as error:
        response = getattr(error.__cause__, "response", None) or {}
        if response.get("Error", {}).get("Code") in _PRECONDITION_CODES:
            return False
        raise
    return True
