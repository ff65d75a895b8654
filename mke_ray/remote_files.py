"""Objects of an object store as files: listed, read, written, created only if absent."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper

from mke_ray.errors import StoreError
from mke_ray.fault_points import reach
from mke_ray.filesystems import is_s3
from mke_ray.object_access import client_beside
from mke_ray.object_client import ObjectClient

_PRECONDITION_CODES = ("PreconditionFailed", "412")

_Result = TypeVar("_Result")


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


def read_file(filesystem: fsspec.AbstractFileSystem, path: str) -> bytes:
    """Return the bytes of a file or an object, by one request.

    Raises:
        FileNotFoundError: There is none.
    """
    # s3fs asks for the size of every object first, to fetch very large ones in parts at once.
    options = {"max_concurrency": 1} if is_s3(filesystem) else {}
    return _asked(
        filesystem,
        lambda client: client.read(path),
        lambda: cast(bytes, filesystem.cat_file(path, **options)),
    )


def read_file_range(
    filesystem: fsspec.AbstractFileSystem, path: str, begin: int, end: int
) -> bytes:
    """Return the bytes of a file or an object from a position up to another, fewer at its end.

    Raises:
        FileNotFoundError: There is none.
    """
    return _asked(
        filesystem,
        lambda client: client.read_range(path, begin, end),
        lambda: cast(bytes, filesystem.cat_file(path, start=begin, end=end)),
    )


def has_object(filesystem: fsspec.AbstractFileSystem, path: str) -> bool:
    """Return whether there is a file or an object, or anything below a folder, now."""

    def by_filesystem() -> bool:
        filesystem.invalidate_cache()
        return bool(filesystem.exists(path))

    # What is no object may be a folder.
    return _asked(filesystem, lambda one: one.exists(path) or by_filesystem(), by_filesystem)


def write_object(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes) -> None:
    """Put an object, whether there is one or not."""
    _asked(
        filesystem,
        lambda client: client.write(path, content),
        lambda: filesystem.pipe_file(path, content),
    )
    reach("write:put", path)


def create_object(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes) -> bool:
    """Create an object with a conditional put."""
    if isinstance(filesystem, ArrowFSWrapper):
        raise StoreError(
            f"{path} is reached through pyarrow, which cannot create a file only if it is absent; "
            "pip install gcsfs (gs://) or adlfs (az://)"
        )

    def by_filesystem() -> bool:
        filesystem.pipe_file(path, content, mode="create")
        return True

    try:
        is_made = _asked(filesystem, lambda client: client.create(path, content), by_filesystem)
        if is_made:
            reach("create:put", path)
        return is_made
    except FileExistsError:
        return False
    except OSError as error:
        response = getattr(error.__cause__, "response", None) or {}
        if response.get("Error", {}).get("Code") in _PRECONDITION_CODES:
            return False
        raise


def _asked(
    filesystem: fsspec.AbstractFileSystem,
    ask: Callable[[ObjectClient], _Result],
    otherwise: Callable[[], _Result],
) -> _Result:
    """Ask the fast client of S3 where there is one, and the file system else."""
    return client_beside(filesystem).asked(ask, otherwise) if is_s3(filesystem) else otherwise()
