"""How tables of a store are written: what is compressed, and what is left of a forgotten sample."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mke_ray.labels.dense_pixels import PACKED_TYPE
from mke_ray.labels.files import table_to_bytes
from mke_ray.labels.scrub import _scrubbed
from mke_ray.schema import WEIGHED_LABELS_SCHEMA, WEIGHT


def compressions(table):
    group = pq.ParquetFile(io.BytesIO(table_to_bytes(table))).metadata.row_group(0)
    columns = (group.column(number) for number in range(group.num_columns))
    return {one.path_in_schema: one.compression for one in columns}


def test_answers_at_every_pixel_are_compressed_and_coded_media_are_not():
    answer = {name: bytes(1000) for name in ("classes", "log_probs", "rest")}
    table = pa.table(
        {
            "w": pa.array([[answer]], PACKED_TYPE),
            "video": pa.array([[b"jpeg"]], pa.list_(pa.binary())),
            "logits": pa.array([[1.0]], pa.list_(pa.float32())),
        }
    )
    found = compressions(table)
    assert found.pop("video.list.element") == "UNCOMPRESSED"
    assert len(found) == 4 and set(found.values()) == {"ZSTD"}


def test_a_forgotten_sample_of_weighed_labels_weighs_nothing():
    table = pa.table(
        {
            "sample_id": np.arange(3),
            "status": ["ok"] * 3,
            "logits": [[1.0, 2.0]] * 3,
            WEIGHT: np.array([0.5, 0.6, 0.7], np.float32),
        },
        schema=WEIGHED_LABELS_SCHEMA,
    )
    left = _scrubbed(table, [1])
    assert left[WEIGHT].to_pylist() == [0.5, 0.0, np.float32(0.7)]
    assert left["logits"].to_pylist()[1] is None
    assert table_to_bytes(left)
