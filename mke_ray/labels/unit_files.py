"""The file of one unit of a store: fetched, compared with what was committed, and parsed.

It is a file of its own, or a range of a part, of which nothing else is fetched.
"""

import hashlib
import io
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.errors import StoreError
from mke_ray.labels.file_names import commit_folder, parse_commit_name
from mke_ray.labels.index import Location
from mke_ray.labels.records import newest_record
from mke_ray.storage import Root

_BLOCK_BYTES = 1 << 16
_ONLY_GROUP = 0  # what is fetched is the file of one unit, wherever it lies


def read_unit_file(root: Root, unit: str, location: Location) -> bytes:
    """Return the bytes of the file of a unit.

    Raises:
        StoreError: It is missing.
    """
    begin, end = location.offset, location.offset + location.num_bytes
    try:
        return root.read_range(location.file, begin, end) if end else root.read(location.file)
    except FileNotFoundError:
        raise StoreError(
            f"{root.uri}: {location.file} of unit {unit} is missing; "
            f"{_why_missing(root, unit, location)}"
        ) from None


def read_columns(root: Root, location: Location, columns: list[str]) -> pa.Table:
    """Return columns of a unit by ranges of its file, without retries.

    Raises:
        pyarrow.ArrowException: The file is damaged.
        OSError: It is missing, or the store did not answer.
    """
    path = root.path(location.file)
    with root.filesystem().open(path, "rb", block_size=_BLOCK_BYTES) as opened:
        of_unit = _Range(cast(BinaryIO, opened), location) if location.num_bytes else opened
        file = pq.ParquetFile(of_unit, pre_buffer=True)
        return file.read_row_group(_ONLY_GROUP, columns=columns, use_threads=False)


class _Range(io.RawIOBase):
    """The file of one unit in a part, as a file.

    Args:
        part: The part, open for reading.
        location: Where the unit lies.
    """

    def __init__(self, part: BinaryIO, location: Location) -> None:
        super().__init__()
        self._part = part
        self._begin, self._size = location.offset, location.num_bytes
        self._position = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Return the position in the file of the unit."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position in the file of the unit."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = origin[whence] + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Read up to the end of the file of the unit."""
        view = memoryview(buffer)
        num_bytes = max(min(len(view), self._size - self._position), 0)
        self._part.seek(self._begin + self._position)
        content = self._part.read(num_bytes)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)


def check_unit_digest(root: Root, record: Mapping[str, Any], content: bytes) -> None:
    """Compare a file with its commit record.

    Raises:
        StoreError: They differ.
    """
    if hashlib.sha256(content).hexdigest() != record["digest"]:
        unit = record["unit"]
        raise StoreError(
            f"{root.uri}: {record['file']} is not the file that was committed for unit "
            f"{unit}: its SHA-256 differs; {_remedy(root, unit)}"
        )


def parse_unit(
    root: Root, unit: str, location: Location, content: bytes, *, columns: list[str] | None
) -> pa.Table:
    """Return the row group of a unit.

    Args:
        root: Root of the store, for errors.
        unit: Id of the unit.
        location: Where it lies.
        content: Bytes of its file.
        columns: Columns wanted, None for all.

    Raises:
        StoreError: The file is damaged, or has another number of rows.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        table = file.read_row_group(_ONLY_GROUP, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{root.uri}: {location.file} of unit {unit} is damaged: {error}; {_remedy(root, unit)}"
        ) from error
    if table.num_rows != location.num_rows:
        raise StoreError(
            f"{root.uri}: {location.file} has {table.num_rows} rows for unit {unit}, "
            f"its commit record says {location.num_rows}; {_remedy(root, unit)}"
        )
    return table


def _why_missing(root: Root, unit: str, location: Location) -> str:
    """Say what to do about a file that is missing: it may lie elsewhere by now."""
    newest = newest_record(root, unit)
    if newest is not None and newest["file"] != location.file:
        return (
            f"the unit was moved to {newest['file']} since its place was read, by a compaction or "
            "by jobs/forget.py; start the job again, and it reads the new place. Only one driver "
            "may work on a root at a time"
        )
    return _remedy(root, unit)


def _remedy(root: Root, unit: str) -> str:
    """Say how a unit whose file is lost is made anew."""
    below = root.names(commit_folder(unit))
    records = [name for name in below if parse_commit_name(name)[0] == unit]
    named = f"delete {' and '.join(records)} and " if records else ""
    return f"{named}start the pass again, which writes it anew"
