"""Rows of a table of clips, streamed from CSV or Parquet."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from mke_ray.errors import ConfigError
from mke_ray.storage import Root

COLUMNS = ("uri", "label", "group", "split", "start_s", "end_s")

_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of a table of clips; what the table does not say is blank or None.

    Args:
        uri: Path relative to the root of the source, or an absolute URI.
        label: Name of the class, or names joined by ``|``.
        group: Who or what the clip comes from.
        split: Role of the clip.
        start_s: Start of the span in seconds.
        end_s: End of the span in seconds.
    """

    uri: str
    label: str
    group: str
    split: str
    start_s: float | None
    end_s: float | None


def read_table(root: Root, name: str) -> Iterator[TableRow]:
    """Yield the rows of a table without holding it in memory.

    Args:
        root: Root of the source.
        name: A ``.csv`` or ``.parquet`` file below it.

    Raises:
        ConfigError: The table has no column ``uri``, a span is not a number, or the format is
            another one.
    """
    if not name.endswith((".csv", ".parquet")):
        raise ConfigError(f"source.table={name} must end in .csv or .parquet")
    with root.filesystem().open(root.path(name), "rb") as file:
        records = _csv_records(file) if name.endswith(".csv") else _parquet_records(file)
        for number, record in enumerate(records, start=1):
            yield _table_row(record, where=f"{name}, row {number}")


def _csv_records(file: Any) -> Iterator[Mapping[str, Any]]:
    return csv.DictReader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""))


def _parquet_records(file: Any) -> Iterator[Mapping[str, Any]]:
    table = pq.ParquetFile(file)
    columns = [column for column in COLUMNS if column in table.schema_arrow.names]
    for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
        yield from batch.to_pylist()


def _table_row(record: Mapping[str, Any], *, where: str) -> TableRow:
    if not record.get("uri"):
        raise ConfigError(f"{where}: no value in column 'uri'; found columns {sorted(record)}")
    text = {column: _text(record.get(column)) for column in COLUMNS}
    return TableRow(
        uri=text["uri"],
        label=text["label"],
        group=text["group"],
        split=text["split"],
        start_s=_seconds(text["start_s"], where=f"{where}, start_s"),
        end_s=_seconds(text["end_s"], where=f"{where}, end_s"),
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _seconds(text: str, *, where: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is not a number of seconds") from None
