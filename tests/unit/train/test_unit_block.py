"""Units in memory: rows that lack a modality hold what stands for it."""

import numpy as np
import pyarrow as pa

from mke_ray.data.codec import encode_modality
from mke_ray.schema import TokenSpec
from mke_ray.train.unit_block import UnitBlock


def test_a_row_without_a_text_is_padding_alone():
    spec = TokenSpec(4, num_ids=9, pad_id=1)
    ids_L = np.array([0, 5, 2, 1], np.int32)
    words = pa.chunked_array([[encode_modality(ids_L, spec), []]], pa.list_(pa.binary()))
    table = pa.table({"sample_id": np.arange(2), "words": words})
    block = UnitBlock.of_table(table, {"words": np.array([True, False])}, {"words": spec})
    block.decode(np.arange(2), {"words": spec})
    assert block.arrays["words"].tolist() == [ids_L.tolist(), [1, 1, 1, 1]]
