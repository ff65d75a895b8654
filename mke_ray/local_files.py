"""Files on a local disk, written whole or not at all, and what killed writers leave of them."""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator

from mke_ray.errors import StoreError
from mke_ray.fault_points import reach

_UNFINISHED = ".tmp"


def write_file(path: str, content: bytes) -> None:
    """Write a file; readers see the old or the new content, never a part."""
    with _written_beside(path, content, "write") as temporary:
        os.replace(temporary, path)
    _sync_folder(path)
    reach("write:replaced", path)


def create_file(path: str, content: bytes) -> bool:
    """Write a file unless there is one, and return whether this call made it."""
    with _written_beside(path, content, "create") as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        reach("create:linked", path)
    _sync_folder(path)
    reach("create:end", path)
    return True


def is_unfinished(name: str) -> bool:
    """Return whether a file is one that is being written, or was when its writer was killed."""
    base = name.rsplit("/", 1)[-1]
    return base.startswith(".") and base.endswith(_UNFINISHED)


def finished_name(name: str) -> str:
    """Return the name that an unfinished file would have got, without its folder."""
    base = name.rsplit("/", 1)[-1].removeprefix(".").removesuffix(_UNFINISHED)
    return base.rsplit(".", 1)[0]


def files_below(top: str, *, recursive: bool) -> Iterator[str]:
    """Yield the paths of all files below a folder; one that does not exist has none."""
    for folder, folders, files in os.walk(top, onerror=_raise_unless_absent):
        if not recursive:
            folders.clear()
        for name in files:
            yield os.path.join(folder, name)


def delete_older(path: str, older_than_s: float) -> bool:
    """Delete a file that nobody has written to for a while, and return whether it did."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - os.stat(path).st_mtime >= older_than_s:
            reach("delete:begin", path)
            os.unlink(path)
            reach("delete:end", path)
            return True
    return False


@contextlib.contextmanager
def _written_beside(path: str, content: bytes, operation: str) -> Iterator[str]:
    """Write a file beside its final place, durable, and leave nothing of it there.

    Raises:
        StoreError: Somebody deleted it meanwhile, who took this process for dead.
    """
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex}{_UNFINISHED}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        reach(f"{operation}:written", path)
        yield temporary
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: another driver deleted what this one was writing, because it gave no sign "
            "of life or its sample was forgotten; start the job again, nothing is lost"
        ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _sync_folder(path: str) -> None:
    """Make the name of a new file as durable as its content."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_absent(error: OSError) -> None:
    """Let a folder that does not exist count as empty, and nothing else."""
    if not isinstance(error, FileNotFoundError):
        raise error
