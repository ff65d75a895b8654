"""Rows of an array in a .npy file, read from where it lies without the rest of it."""

# N rows, X any axes of one.

import io
import math
import tokenize
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib import format as npy_format

from mke_ray.errors import ConfigError, MediaError
from mke_ray.storage import Root

_HEADER_BYTES = 1 << 12
_NUMBERS = "biuf"


@dataclass(frozen=True)
class NpyRows:
    """An array [N, ...] in a file of ``numpy.save``.

    Args:
        root: Root that holds it.
        name: Its name below the root.
    """

    root: Root
    name: str

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self._header[1].kind != "f"

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self._header[0]

    def rows(self, begin: int, end: int) -> np.ndarray:
        """Return rows [end - begin, ...] by one request.

        Raises:
            ConfigError: It is no such file.
            MediaError: The file ends before them.
            OSError: The store did not answer.
        """
        shape, kind, offset = self._header
        row_bytes = kind.itemsize * math.prod(shape[1:])
        wanted = (end - begin) * row_bytes
        first = offset + begin * row_bytes
        content = self.root.read_range(self.name, first, first + wanted)
        if len(content) < wanted:
            raise MediaError("truncated", f"{self.name} ends within the rows {begin} to {end}")
        return np.frombuffer(content, kind).reshape(end - begin, *shape[1:])

    @cached_property
    def _header(self) -> tuple[tuple[int, ...], np.dtype, int]:
        """Shape, type of the values, and the byte at which they begin.

        Raises:
            ConfigError: It is no file of plain numbers in the order of its rows.
        """
        file = io.BytesIO(self.root.read_range(self.name, 0, _HEADER_BYTES))
        try:
            is_first = npy_format.read_magic(file) == (1, 0)
            read = (
                npy_format.read_array_header_1_0 if is_first else npy_format.read_array_header_2_0
            )
            shape, is_by_column, kind = read(file)
        except (ValueError, tokenize.TokenError) as error:
            raise ConfigError(
                f"{self.name} in {self.root.uri} is no file of numpy.save: {error}; fetch it again"
            ) from error
        if kind.kind not in _NUMBERS or not shape or (is_by_column and len(shape) > 1):
            raise ConfigError(
                f"{self.name} in {self.root.uri} has values of type {kind} and the shape "
                f"{list(shape)}{' by columns' if is_by_column else ''}; it has to hold rows of "
                f"numbers, as numpy.save writes them{_way_out(kind)}"
            )
        return shape, kind, file.tell()


def _way_out(kind: np.dtype) -> str:
    """Say what makes numbers of objects, "" of other types."""
    return "; of objects that are numbers take .astype('float32')" if kind.hasobject else ""
