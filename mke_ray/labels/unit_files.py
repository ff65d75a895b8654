"""The file of one unit of a store: fetched, compared with what was committed, and parsed."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.errors import StoreError
from mke_ray.labels.file_names import commit_folder, parse_commit_name
from mke_ray.labels.index import Location
from mke_ray.storage import Root

_BLOCK_BYTES = 1 << 16


def read_unit_file(root: Root, unit: str, location: Location) -> bytes:
    """Return the bytes of the file of a unit.

    Raises:
        StoreError: It is missing.
    """
    try:
        return root.read(location.file)
    except FileNotFoundError:
        raise StoreError(
            f"{root.uri}: {location.file} of unit {unit} is missing; {_remedy(root, unit)}"
        ) from None


def read_columns(root: Root, location: Location, columns: list[str]) -> pa.Table:
    """Return columns of a unit by ranges of its file, without retries.

    Raises:
        pyarrow.ArrowException: The file is damaged.
        OSError: It is missing, or the store did not answer.
    """
    path = root.path(location.file)
    with root.filesystem().open(path, "rb", block_size=_BLOCK_BYTES) as opened:
        file = pq.ParquetFile(opened, pre_buffer=True)
        return file.read_row_group(location.row_group, columns=columns, use_threads=False)


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
        table = file.read_row_group(location.row_group, columns=columns, use_threads=False)
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


def _remedy(root: Root, unit: str) -> str:
    """Say how a unit whose file is lost is made anew."""
    below = root.names(commit_folder(unit))
    records = [name for name in below if parse_commit_name(name)[0] == unit]
    named = f"delete {' and '.join(records)} and " if records else ""
    return f"{named}start the pass again, which writes it anew"
