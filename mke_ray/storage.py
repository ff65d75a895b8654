"""Files of a run under one root, on a local disk or in an object store, with create-if-absent."""

import contextlib
import json
import os
import posixpath
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mke_ray.errors import ConfigError, StoreError
from mke_ray.fault_points import reach
from mke_ray.filesystems import check_plain, check_uri, open_filesystem
from mke_ray.local_files import (
    create_file,
    delete_older,
    files_below,
    finished_name,
    is_unfinished,
    write_file,
)
from mke_ray.remote_files import (
    create_object,
    has_object,
    read_file,
    read_file_range,
    remote_files,
    write_object,
)
from mke_ray.retries import PATIENCE_S, retried

WRITER_IS_DEAD_S = 3600.0

_PROBE = ".probe-"

_Result = TypeVar("_Result")


class Traffic(threading.local):
    """What the files of this thread took, summed since the thread began.

    Attributes:
        reading_s: Seconds spent waiting for files that were read.
        num_bytes_written: Bytes of the files that were written.
    """

    reading_s: float = 0.0
    num_bytes_written: int = 0


TRAFFIC = Traffic()


@dataclass(frozen=True, slots=True)
class Root:
    """A folder, local or in an object store, and the way to reach it; cheap to send to workers.

    Args:
        uri: Local path or URI such as ``s3://bucket/prefix``.
        options: Options of the file system of the URI, and ``endpoint_url``, ``region`` and
            ``anonymous``, which mean the same for every store. Neither logged nor stored.
        patience_s: How long a store that does not answer is asked again.
    """

    uri: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    patience_s: float = PATIENCE_S

    def child(self, *parts: str) -> "Root":
        """Return the folder below this one.

        Raises:
            StoreError: It would be elsewhere.
        """
        for part in parts:
            self._check_below(part)
        return Root(posixpath.join(self.uri, *parts), self.options, self.patience_s)

    @property
    def is_local(self) -> bool:
        """Whether the files lie on a local (or mounted) disk."""
        return isinstance(self._open()[0], LocalFileSystem)

    def path(self, name: str = "") -> str:
        """Return the path of a file as its file system wants it, without the protocol.

        Raises:
            StoreError: It would lie elsewhere.
        """
        self._check_below(name)
        base = self._open()[1]
        return posixpath.join(base, name) if name else base

    def filesystem(self) -> fsspec.AbstractFileSystem:
        """Return the fsspec file system of this root; one instance per process."""
        return self._open()[0]

    def read(self, name: str) -> bytes:
        """Return the bytes of a file, by one request.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: The store did not answer, also after retries.
        """
        path = self.path(name)
        filesystem = self.filesystem()
        with _reading():
            return self._retried(lambda: read_file(filesystem, path), f"reading {path}")

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        """Return the bytes of a file from a position up to another; fewer at its end.

        Raises:
            FileNotFoundError: There is no such file.
            OSError: The store did not answer, also after retries.
        """
        path = self.path(name)
        filesystem = self.filesystem()
        with _reading():
            return self._retried(
                lambda: read_file_range(filesystem, path, begin, end),
                f"reading {path} from {begin} to {end}",
            )

    def exists(self, name: str = "") -> bool:
        """Return whether a file, or anything below a folder, exists now."""
        path, filesystem = self.path(name), self.filesystem()
        return self._retried(lambda: has_object(filesystem, path), f"looking for {path}")

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file at once; readers see the old or the new content, never a part."""
        path = self.path(name)
        TRAFFIC.num_bytes_written += len(content)
        reach("write:begin", path)
        if not self.is_local:
            filesystem = self.filesystem()
            self._retried(lambda: write_object(filesystem, path, content), f"writing {path}")
            return
        write_file(path, content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file only if it does not exist; the first writer wins.

        A request to an object store that is repeated because its answer was lost may find the file
        that it made itself. A caller for whom this matters puts something of its own into the
        content and looks, after a False, whose file it is.

        Returns:
            True when this call made the file, False when it was there already.
        """
        path = self.path(name)
        TRAFFIC.num_bytes_written += len(content)
        reach("create:begin", path)
        if not self.is_local:
            filesystem = self.filesystem()
            return self._retried(
                lambda: create_object(filesystem, path, content), f"creating {path}"
            )
        return create_file(path, content)

    def delete(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""
        path = self.path(name)
        reach("delete:begin", path)
        with contextlib.suppress(FileNotFoundError):
            self._retried(lambda: self.filesystem().rm_file(path), f"deleting {path}")
        reach("delete:end", path)

    def delete_unfinished(
        self,
        below: str = "",
        *,
        recursive: bool = True,
        older_than_s: float = WRITER_IS_DEAD_S,
        wanted: Callable[[str], bool] = bool,
    ) -> int:
        """Delete files that killed writers left half written; buckets have none.

        Args:
            below: The folder.
            recursive: Whether to go into the folders below it.
            older_than_s: Seconds since the last sign of the writer; a living one whose file is
                deleted fails.
            wanted: Tells by the name that a file would have got whether to look at it.

        Returns:
            How many files were deleted.
        """
        if not self.is_local:
            return 0
        found = filter(is_unfinished, files_below(self.path(below), recursive=recursive))
        return sum(delete_older(one, older_than_s) for one in found if wanted(finished_name(one)))

    def delete_empty_folders(self, below: str) -> None:
        """Remove the folders from one on in which no file is, itself too; buckets have none."""
        if self.is_local:
            for folder, _, _ in os.walk(self.path(below), topdown=False):
                with contextlib.suppress(OSError):  # it holds something
                    os.rmdir(folder)

    def names(self, below: str = "", *, recursive: bool = True) -> Iterator[str]:
        """Yield the names of all files below a folder, relative to this root, in sorted order.

        Files that are being written are left out. A folder that does not exist has no files.

        Args:
            below: The folder.
            recursive: Whether to go into the folders below it.
        """
        top, base = self.path(below), self.path()
        if self.is_local:
            paths = files_below(top, recursive=recursive)
        else:
            filesystem = self.filesystem()
            filesystem.invalidate_cache()  # of all folders: a listing may be put together of theirs
            paths = self._retried(
                lambda: remote_files(filesystem, top, recursive=recursive), f"listing {top}"
            )
        for path in sorted(paths):
            if not _is_temporary(path):
                yield posixpath.relpath(path, base)

    def check_create_only(self) -> None:
        """Prove that the store refuses to overwrite a file that is created a second time.

        Raises:
            StoreError: The store overwrites silently, so two workers could both win.
        """
        name = f"{_PROBE}{uuid.uuid4().hex}"
        try:
            first = self.create(name, b"first")
            second = self.create(name, b"second")
            kept = self.read(name)
        except OSError as error:
            raise StoreError(
                f"{self.uri} cannot be written to: {error}; check the path, the endpoint "
                "(AWS_ENDPOINT_URL), the credentials, and that the store has create-if-absent "
                "(hard links on a mounted disk)"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                self.delete(name)
        if not first or second or kept != b"first":
            raise StoreError(
                f"{self.uri} ignores conditional writes (If-None-Match), so labels could be "
                "doubled; use another store, or set storage.single_driver=true and make sure "
                "that only one driver and no stale worker writes to it"
            )

    def _retried(self, action: Callable[[], _Result], what: str) -> _Result:
        """Do something with the store, again for as long as this root is patient."""
        return retried(action, what, patience_s=self.patience_s)

    def _check_below(self, name: str) -> None:
        """Refuse a name that leads out of this root, since names are read from files too.

        Raises:
            StoreError: It does.
        """
        if name.startswith("/") or "\0" in name or (".." in name and ".." in name.split("/")):
            raise StoreError(
                f"{self.uri}: {name!r} is no name of a file below it; if a store holds this name, "
                "somebody else wrote it: make the store anew"
            )

    def _open(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """Return the file system and the path of this root on it."""
        options = json.dumps(dict(self.options), sort_keys=True)
        return _open_filesystem(self.uri, options, os.getpid())


def open_root(
    uri: str,
    options: Mapping[str, Any] | None = None,
    *,
    key: str = "root",
    patience_s: float = PATIENCE_S,
) -> Root:
    """Return the root for a local path or URI.

    Args:
        uri: Local path (made absolute, so that workers agree) or URI.
        options: Options of the file system; see ``Root``.
        key: Configuration key that the URI comes from, for the error.
        patience_s: How long a store that does not answer is asked again.

    Raises:
        ConfigError: No installed file system serves the URI, it carries a secret, or it is no plain
            path or URI.
    """
    check_plain(uri, key=key)
    if "://" not in uri:
        uri = os.path.abspath(os.path.expanduser(uri))
    check_uri(uri, key=key)
    root = Root(uri, dict(options or {}), patience_s)
    try:
        root.filesystem()
    except ConfigError as error:
        raise ConfigError(f"{key}={uri}: {error}") from error
    return root


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Count the time of a block as spent on reading."""
    start_s = time.perf_counter()
    try:
        yield
    finally:
        TRAFFIC.reading_s += time.perf_counter() - start_s


@lru_cache(maxsize=256)
def _open_filesystem(
    uri: str, options_json: str, process_id: int
) -> tuple[fsspec.AbstractFileSystem, str]:
    """Open a file system once per root and process; a client does not survive a fork."""
    del process_id
    return open_filesystem(uri, json.loads(options_json))


def _is_temporary(path: str) -> bool:
    """Return whether a file is one that is being written or probed."""
    return posixpath.basename(path).startswith(_PROBE) or is_unfinished(path)
