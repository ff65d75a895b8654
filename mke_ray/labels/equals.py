"""Samples of a large split whose content is equal, found in flat memory."""

# N samples, M records, D of them that are doubles.

import contextlib
from collections.abc import Iterator

import numpy as np

from mke_ray.data.manifest.buckets import DiskBuckets
from mke_ray.labels.signature_columns import Place, SignedSamples
from mke_ray.schema import Split

_RECORD = np.dtype(
    [("content", np.uint64), ("sample_id", np.int64), ("unit", "S16"), ("row", np.int32)]
)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class EqualSamples:
    """Spreads samples over files by a hash of their content, and compares within each file.

    Args:
        files: Closes, and thereby removes, the files.
    """

    def __init__(self, files: contextlib.ExitStack) -> None:
        self._buckets = DiskBuckets(_RECORD, files, key="content")

    def add(self, samples: SignedSamples, wanted_N: np.ndarray) -> None:
        """Add those samples that are wanted and have any content to compare."""
        content_N, has_N = _content(samples)
        kept = np.flatnonzero(has_N & wanted_N)
        record_M = np.empty(len(kept), _RECORD)
        record_M["content"] = content_N[kept]
        record_M["sample_id"] = samples.sample_id_N[kept]
        record_M["unit"] = samples.unit_names()[kept]
        record_M["row"] = samples.row_N[kept]
        self._buckets.add(record_M)

    def pairs(self) -> Iterator[tuple[Place, Place]]:
        """Yield every sample whose content came before, and the first sample that had it."""
        for record_M in self._buckets:
            content_M, first_M = np.unique(record_M["content"], return_index=True)
            first_M = first_M[np.searchsorted(content_M, record_M["content"])]
            later_D = np.flatnonzero(first_M != np.arange(len(record_M)))
            yield from zip(
                map(_place, record_M[later_D].tolist()),
                map(_place, record_M[first_M[later_D]].tolist()),
                strict=True,
            )


def _content(samples: SignedSamples) -> tuple[np.ndarray, np.ndarray]:
    """Return a hash of each sample's digests over its modalities, and whether it has any, [N]."""
    content_N = np.zeros(len(samples), np.uint64)
    has_N = np.zeros(len(samples), dtype=bool)
    for one in samples.signatures.values():
        digest_N = np.where(one.has_N, one.digest_N, np.uint64(0))
        content_N = (content_N ^ digest_N) * _MULTIPLIER
        has_N |= one.has_N
    return content_N, has_N


def _place(record: tuple[int, int, bytes, int]) -> Place:
    """Return the place of a record."""
    _, sample_id, unit, row = record
    return Place(sample_id, unit.decode(), row, Split.UNLABELED.value)
