"""HDF5 files of a root, opened where they lie, and what MATLAB writes into them."""

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mke_ray.errors import ConfigError, MediaError
from mke_ray.storage import Root

_BLOCK_BYTES = 1 << 22


@dataclass(slots=True)
class Hdf5File:
    """An HDF5 file, opened when it is first read and then kept open by this process.

    Args:
        root: Root that holds it.
        name: Its name below the root.
    """

    root: Root
    name: str
    _opened: Any = field(default=None, repr=False, compare=False)
    _remote: "_RemoteFile | None" = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> tuple[Root, str]:
        """Pickle without what is open."""
        return self.root, self.name

    def __setstate__(self, state: tuple[Root, str]) -> None:
        """Begin anew in another process."""
        self.root, self.name = state
        self._opened = self._remote = None

    def dataset(self, name: str) -> Any:
        """Return an array of the file, of which what is asked for is read.

        Raises:
            ConfigError: h5py is not installed, it is no HDF5 file, or has no such array.
            OSError: The store did not answer.
        """
        opened = self._file()
        if name not in opened:
            raise ConfigError(
                f"{self.name} in {self.root.uri} has no array {name!r}, only {sorted(opened)}; "
                "give the file as its authors publish it"
            )
        return opened[name]

    def has(self, name: str) -> bool:
        """Return whether there is an array of a name."""
        return name in self._file()

    def attribute(self, name: str) -> Any:
        """Return an attribute of the file, None where there is none."""
        return self._file().attrs.get(name)

    def text(self, reference: Any) -> str:
        """Return the text that an entry of a MATLAB cell array refers to."""
        codes = np.asarray(self._file()[reference]).ravel()
        return "".join(chr(int(code)) for code in codes if code)

    @contextlib.contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Turn what HDF5 says of a damaged file into an error of one sample.

        Args:
            key: The sample.

        Raises:
            MediaError: The file was read and does not give what is asked for.
            OSError: The store did not answer.
        """
        if self._remote is not None:
            self._remote.forget()
        try:
            yield
        except OSError as error:
            if self._remote is not None:
                self._remote.raise_own()
            raise MediaError("damaged", f"{key}: {error}") from error

    def _file(self) -> Any:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> Any:
        try:
            import h5py  # noqa: PLC0415 - only those who have such a file need it
        except ImportError:
            raise ConfigError(
                f"{self.name} is an HDF5 file, and h5py is not installed; "
                "pip install 'mke-ray[hdf5]'"
            ) from None
        file: Any = self.root.path(self.name)
        if not self.root.is_local:
            file = self.root.filesystem().open(file, "rb", block_size=_BLOCK_BYTES)
            file = self._remote = _RemoteFile(file)
        try:
            return h5py.File(file, "r")
        except FileNotFoundError:
            raise ConfigError(f"{self.name} is not in {self.root.uri}") from None
        except OSError as error:
            if self._remote is not None:
                self._remote.raise_own()
            raise ConfigError(
                f"{self.name} in {self.root.uri} cannot be opened as an HDF5 file: {error}; fetch "
                "it again"
            ) from error


class _RemoteFile(io.RawIOBase):
    """A file of a store that remembers what it raised: h5py says the same of that and of damage.

    Args:
        file: The file as fsspec opened it.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._raised = threading.local()  # h5py calls back in the thread that reads

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that one may go anywhere."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the byte that is next."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from where the file stands, and return the number of bytes."""
        try:
            return self._file.readinto(buffer)
        except OSError as error:
            self._raised.error = error
            raise

    def forget(self) -> None:
        """Forget what was raised in this thread."""
        self._raised.error = None

    def raise_own(self) -> None:
        """Raise what reading raised in this thread since it was last forgotten.

        Raises:
            OSError: The store did not answer.
        """
        error = getattr(self._raised, "error", None)
        if error is not None:
            raise error
