"""The list of samples that are not whole, as a table for people and their tools."""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.data.manifest import Manifest
from mke_ray.labels.files import STATUS_SUFFIX
from mke_ray.labels.index import Index
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Status
from mke_ray.storage import Root, retried

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
