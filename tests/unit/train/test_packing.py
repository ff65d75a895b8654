"""Batches as rows of tables."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from mke_ray.schema import Batch
from mke_ray.train.batches import FeedItem
from mke_ray.train.packing import packed, unpacked


def item(*, is_contiguous, cursor):
    generator = torch.Generator().manual_seed(cursor)

    def some():
        whole = torch.rand(6, 5, generator=generator)
        return whole if is_contiguous else whole[::2]

    return FeedItem(Batch(some(), {"a": some()}, {"a": some()}, some(), some()), cursor, 0.5, 9)


@pytest.mark.parametrize("is_contiguous", [True, False])  # arrays beside the pickle, and within it
def test_what_was_packed_is_unpacked_row_by_row(is_contiguous):
    items = [item(is_contiguous=is_contiguous, cursor=cursor) for cursor in (3, 4)]
    table = pa.concat_tables([packed(one, {"decode_s": one.cursor}) for one in items])
    assert [bool(sizes) for sizes in table.column("sizes").to_pylist()] == [is_contiguous] * 2
    for (found, seconds), one in zip(unpacked(table), items, strict=True):
        assert (found.cursor, found.share, seconds) == (one.cursor, 0.5, {"decode_s": one.cursor})
        for mine, other in zip(one.batch.tensors(), found.batch.tensors(), strict=True):
            assert np.array_equal(mine, other)
