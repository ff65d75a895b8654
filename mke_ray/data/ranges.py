"""A file in an object store of which only the blocks that are read are fetched."""

import io
from collections.abc import Callable

from mke_ray.errors import MediaError

Fetch = Callable[[int, int], bytes]

_BLOCK_BYTES = 1 << 16
_MAX_BLOCKS_AT_ONCE = 32

# One request for all costs less than many for more than this share.
_MOST = 0.5


class RangeFile(io.RawIOBase):
    """A seekable file; reading on where the last fetch ended fetches twice as much each time.

    An error of the store may be taken for the end of the file by who reads; it is kept in
    ``failure``.

    Args:
        fetch: Returns the bytes from a position up to another.
        size: Size of the file.
        max_bytes: Most bytes that are fetched.
    """

    def __init__(self, fetch: Fetch, size: int, *, max_bytes: int) -> None:
        self.failure: Exception | None = None
        self.num_bytes_read = 0
        self._fetch = fetch
        self._size = size
        self._max_bytes = max_bytes
        self._blocks: dict[int, bytes] = {}
        self._position = 0
        self._next_block, self._num_at_once = -1, 1

    def expect(self, share: float) -> None:
        """Say how much of the file will be wanted; all of it is fetched where that is most."""
        if share > _MOST:
            self._fetch_blocks(0, self._num_blocks)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position and return it."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(origin + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the position on, fewer at the end."""
        end = self._size if size < 0 else min(self._position + size, self._size)
        if end <= self._position:
            return b""
        first, last = self._position // _BLOCK_BYTES, (end - 1) // _BLOCK_BYTES
        for block in range(first, last + 1):
            if block not in self._blocks:
                self._fetch_on(block, last)
        joined = b"".join(self._blocks[block] for block in range(first, last + 1))
        begin = self._position - first * _BLOCK_BYTES
        found = joined[begin : begin + end - self._position]
        self._position = end
        return found

    @property
    def _num_blocks(self) -> int:
        return -(-self._size // _BLOCK_BYTES)

    def _fetch_on(self, block: int, last: int) -> None:
        """Fetch a block and, where reading goes on, some after it."""
        goes_on = block == self._next_block
        self._num_at_once = min(2 * self._num_at_once, _MAX_BLOCKS_AT_ONCE) if goes_on else 1
        end = max(block + self._num_at_once, last + 1)
        ahead = range(block + 1, min(end, self._num_blocks))
        end = next((one for one in ahead if one in self._blocks), min(end, self._num_blocks))
        self._fetch_blocks(block, end)
        self._next_block = end

    def _fetch_blocks(self, first: int, end: int) -> None:
        begin_byte, end_byte = first * _BLOCK_BYTES, min(end * _BLOCK_BYTES, self._size)
        try:
            self._count(end_byte - begin_byte)
            content = self._fetch(begin_byte, end_byte)
            if len(content) != end_byte - begin_byte:
                raise OSError(f"{len(content)} bytes came instead of {end_byte - begin_byte}")
        except (OSError, MediaError) as error:
            self.failure = error
            raise
        for block in range(first, end):
            offset = (block - first) * _BLOCK_BYTES
            self._blocks[block] = content[offset : offset + _BLOCK_BYTES]

    def _count(self, num_bytes: int) -> None:
        self.num_bytes_read += num_bytes
        if self.num_bytes_read > self._max_bytes:
            raise MediaError("too_large", f"more than {self._max_bytes} bytes to read")
