"""Rows of a table of clips, streamed from CSV or Parquet."""

import csv
import io
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.errors import ConfigError
from mke_ray.filesystems import check_uri, protocol_of
from mke_ray.storage import Root

COLUMNS = ("uri", "label", "group", "split", "start_s", "end_s", "size", "etag")

_BATCH_ROWS = 8192
_BLOCK_BYTES = 1 << 22
_LOCAL = ("file", "local")
_THRIFT = "thrift"  # what Arrow says in an OSError where the footer of a file is none


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of a table of clips; what the table does not say is blank or None.

    Args:
        number: Number of the row, from 1.
        uri: Path relative to the root of the source, or an absolute URI; of pairs, the key.
        label: Name of the class, or names joined by ``|``.
        group: Who or what the clip comes from.
        split: Role of the clip.
        start_s: Start of the span in seconds.
        end_s: End of the span in seconds.
        size: Size of the file in bytes.
        etag: Version of the file.
    """

    number: int
    uri: str
    label: str
    group: str
    split: str
    start_s: float | None
    end_s: float | None
    size: int | None
    etag: str


def read_table(
    root: Root, name: str, *, key_column: str = "uri", after: int = 0
) -> Iterator[TableRow]:
    """Yield the rows of a table without holding it in memory.

    Args:
        root: Root of the table.
        name: A ``.csv`` or ``.parquet`` file below it.
        key_column: The column that names the samples.
        after: Number of the row to begin behind, 0 for the first one.

    Raises:
        ConfigError: The table has no column of the names, a number is none, or the format is
            another one, a key carries a secret, or a span ends before it begins.
    """
    if not name.endswith((".csv", ".parquet")):
        raise ConfigError(f"source.table={name} must end in .csv or .parquet")
    with root.filesystem().open(root.path(name), "rb", block_size=_BLOCK_BYTES) as file:
        is_csv = name.endswith(".csv")
        records = _csv_records(file, after) if is_csv else _parquet_records(file, key_column, after)
        numbered = enumerate(records, start=after + 1)
        while True:
            try:
                number, record = next(numbered)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError, pa.ArrowException) as error:
                raise ConfigError(f"source.table={name} cannot be read: {error}") from error
            except OSError as error:
                if _THRIFT not in str(error):
                    raise
                raise ConfigError(f"source.table={name} is no Parquet file: {error}") from error
            row = _table_row(record, key_column, number=number, where=f"{name}, row {number}")
            _check_key(root, row.uri, where=f"{name}, row {number}, {key_column}")
            yield row


def _csv_records(file: Any, after: int) -> Iterator[Mapping[str, Any]]:
    lines = csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))
    return itertools.islice(lines, after, None)


def _parquet_records(file: Any, key_column: str, after: int) -> Iterator[Mapping[str, Any]]:
    table = pq.ParquetFile(file, buffer_size=_BLOCK_BYTES)
    wanted = (key_column, *COLUMNS[1:])
    columns = [column for column in wanted if column in table.schema_arrow.names]
    sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    first = 0
    while first < len(sizes) and after >= sizes[first]:
        after -= sizes[first]
        first += 1
    groups = list(range(first, len(sizes)))
    batches = table.iter_batches(batch_size=_BATCH_ROWS, columns=columns, row_groups=groups)
    rows = (row for batch in batches for row in batch.to_pylist())
    yield from itertools.islice(rows, after, None)


def _table_row(record: Mapping[str, Any], key_column: str, *, number: int, where: str) -> TableRow:
    key = _text(record.get(key_column))
    if not key:
        found = sorted(str(column) for column in record)
        raise ConfigError(f"{where}: no value in column {key_column!r}; found columns {found}")
    text = {column: _text(record.get(column)) for column in COLUMNS[1:]}
    size = _number(text["size"], where=f"{where}, size", unit="bytes")
    start_s = _number(text["start_s"], where=f"{where}, start_s", unit="seconds")
    end_s = _number(text["end_s"], where=f"{where}, end_s", unit="seconds")
    if end_s is not None and not (start_s or 0.0) < end_s:
        raise ConfigError(f"{where}: end_s={end_s} must be more than start_s={start_s or 0.0}")
    return TableRow(
        number=number,
        uri=key,
        label=text["label"],
        group=text["group"],
        split=text["split"],
        start_s=start_s,
        end_s=end_s,
        size=None if size is None else int(size),
        etag=text["etag"],
    )


def _check_key(table: Root, key: str, *, where: str) -> None:
    """Refuse a key that carries a secret, or leads from a bucket to the disk of a worker.

    Raises:
        ConfigError: It does.
    """
    check_uri(key, key=where)
    is_on_disk = key.startswith("/") or ("://" in key and protocol_of(key) in _LOCAL)
    if is_on_disk and not table.is_local:
        raise ConfigError(
            f"{where}: a table in {table.uri} may not name {key!r} on a local disk; copy the table "
            "to a local folder, or the files to a bucket"
        )


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _number(text: str, *, where: str, unit: str) -> float | None:
    """Return a number that is not negative, None for a blank one."""
    if not text or text.lower() == "nan":
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise ConfigError(f"{where}: {text!r} is not a number of {unit}")
    return number
