"""The bytes of a store's files: tables of units and the file that says what a store is."""

import base64
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.labels.index import status_digits
from mke_ray.schema import FORMAT_VERSION, MASK

STATUS_SUFFIX = "_status"


def row_facts(table: pa.Table) -> dict[str, Any]:
    """Return what the index needs to know of every row: its status and which modalities it has."""
    if "status" not in table.column_names:
        return {}
    facts: dict[str, Any] = {"status": status_digits(table.column("status").to_pylist())}
    present = {
        name.removesuffix(STATUS_SUFFIX): _present_digits(table.column(name))
        for name in table.column_names
        if name.endswith(STATUS_SUFFIX)
    }
    return {**facts, "present": present} if present else facts


def status_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that say of each modality whether it is there.

    Not that of the true class map: a sample without it is whole.
    """
    of_mask = MASK + STATUS_SUFFIX
    return [name for name in names if name.endswith(STATUS_SUFFIX) and name != of_mask]


def _present_digits(statuses: pa.ChunkedArray) -> str:
    """Return one digit per row: 1 where the modality is there."""
    return "".join("1" if status == "ok" else "0" for status in statuses.to_pylist())


def table_to_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file of one row group; coded media are not compressed again."""
    compression: Any = {}  # PyArrow's stubs know only one codec for all columns
    for field in table.schema:
        is_list = pa.types.is_list(field.type)
        is_media = is_list and pa.types.is_binary(field.type.value_type)
        for path in _leaves(field):
            compression[path] = "none" if is_media else "zstd"
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression=compression,
        use_dictionary=False,
        row_group_size=max(table.num_rows, 1),
    )
    return buffer.getvalue()


def _leaves(field: pa.Field) -> list[str]:
    """Return the names of the columns that Parquet makes of a field."""
    if not pa.types.is_list(field.type):
        return [field.name]
    element, path = field.type.value_type, f"{field.name}.list.element"
    if not pa.types.is_struct(element):
        return [path]
    return [f"{path}.{element.field(number).name}" for number in range(element.num_fields)]


def spec_to_bytes(spec: Mapping[str, Any], schema: pa.Schema) -> bytes:
    """Return the content of the file that says what a store is."""
    plain = {
        "format_version": FORMAT_VERSION,
        "spec": spec,
        "columns": schema_text(schema),
        "schema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
    }
    return json.dumps(plain, indent=1, sort_keys=True).encode()


def schema_from_text(text: str) -> pa.Schema:
    """Read the schema of a store."""
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(text)))


def schema_text(schema: pa.Schema) -> str:
    """Return a schema for a person."""
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def explain_difference(
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    found_schema: pa.Schema,
    wanted_schema: pa.Schema,
) -> str:
    """Say in what two stores differ."""
    differing = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    parts = [f"{key}: found {found.get(key)!r}, wanted {wanted.get(key)!r}" for key in differing]
    if not found_schema.equals(wanted_schema):
        parts.append(
            f"columns: found [{schema_text(found_schema)}], wanted [{schema_text(wanted_schema)}]"
        )
    return "; ".join(parts)
