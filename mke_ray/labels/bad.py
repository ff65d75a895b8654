"""The list of samples that are not whole, as a table for people and their tools."""

import pyarrow as pa

BAD_LIST = "report/bad.parquet"
BAD_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("size", pa.int64()),
        ("split", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("unit", pa.string()),
    ]
)

_ROWS_PER_GROUP = 10_000
