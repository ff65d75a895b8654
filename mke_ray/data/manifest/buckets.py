"""Records spread over files by sample id, so that what belongs together is found in flat memory."""

# M records.

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

NUM_BUCKETS = 64

_HELD_RECORDS = 1 << 15
_TOP_BITS = np.uint64(58)  # leaves the number of the bucket, below NUM_BUCKETS


class DiskBuckets:
    """Records of fixed size in temporary files; one of them at a time is in memory.

    Args:
        dtype: Structured type of the records.
        files: Closes, and thereby removes, the files.
        key: Field of 64 evenly spread bits that decides what belongs together.
    """

    def __init__(
        self, dtype: np.dtype, files: contextlib.ExitStack, *, key: str = "sample_id"
    ) -> None:
        self.dtype = dtype
        self.key = key
        self._files: list[IO[bytes]] = [
            files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            for _ in range(NUM_BUCKETS)
        ]
        self._held: list[np.ndarray] = []
        self._num_held = 0

    def add(self, record_M: np.ndarray) -> None:
        """Add some records."""
        self._held.append(record_M)
        self._num_held += len(record_M)
        if self._num_held >= _HELD_RECORDS:
            self._flush()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the records of each bucket, sorted by the key; the last added come last."""
        self._flush()
        for file in self._files:
            file.seek(0)
            record_M = np.frombuffer(file.read(), dtype=self.dtype)
            yield record_M[np.argsort(record_M[self.key], kind="stable")]

    def _flush(self) -> None:
        """Write what is held to the files."""
        if not self._held:
            return
        record_M = np.concatenate(self._held)
        self._held, self._num_held = [], 0
        bucket_M = record_M[self.key].astype(np.uint64) >> _TOP_BITS
        order_M = np.argsort(bucket_M, kind="stable")
        ends = np.searchsorted(bucket_M[order_M], np.arange(NUM_BUCKETS), side="right")
        for file, some in zip(self._files, np.split(record_M[order_M], ends[:-1]), strict=True):
            file.write(some.tobytes())


def first_repeated(record_M: np.ndarray) -> int | None:
    """Return the first sample id that sorted records have more than once, None where none."""
    id_M = record_M["sample_id"]
    repeated = np.flatnonzero(id_M[1:] == id_M[:-1])
    return int(id_M[repeated[0]]) if len(repeated) else None
