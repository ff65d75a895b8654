"""Threads that read samples side by side: more than decode, so that no CPU waits for a store."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from mke_ray.data.cpu_slots import CpuSlots
from mke_ray.data.sources import FetchesApart, Reader
from mke_ray.labels.rows import StoredRow, decode_row
from mke_ray.schema import DecodeSpec, ManifestRow

_THREADS_PER_CPU = 4  # requests take longer than decoding small clips does
_AHEAD_BYTES = 512 << 20


class RowPool:
    """Reads samples, as many at once as there are threads.

    A reader that fetches apart is called in more threads; those that it does not keep waiting for
    its store are never more than ``num_threads``.

    Args:
        reader: What reads samples.
        spec: What is stored of every modality.
        num_threads: Threads that decode at once.
    """

    def __init__(self, reader: Reader, spec: DecodeSpec, num_threads: int) -> None:
        self._reader = reader
        self._spec = spec
        self._is_apart = isinstance(reader, FetchesApart)
        factor = _THREADS_PER_CPU if self._is_apart else 1
        self._pool = ThreadPoolExecutor(factor * num_threads)
        self._slots = CpuSlots(num_threads)
        self._objects = _Objects(num_threads)

    def submit(self, row: ManifestRow) -> Future[StoredRow]:
        """Begin to read a sample."""
        return self._pool.submit(self._read, row)

    def _read(self, row: ManifestRow) -> StoredRow:
        with (
            self._objects.held(max(row.size, 0)),
            self._slots.used(fetches_first=self._is_apart),
        ):
            return decode_row(self._reader, row, self._spec)


class _Objects:
    """Bounds the bytes of objects that are held at once.

    Args:
        num_always: So many may be held whatever their size.
    """

    def __init__(self, num_always: int) -> None:
        self._changed = threading.Condition()
        self._num_always = num_always
        self._num, self._num_bytes = 0, 0

    @contextlib.contextmanager
    def held(self, num_bytes: int) -> Iterator[None]:
        """Hold an object for a block, once there is room for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(num_bytes))
            self._num, self._num_bytes = self._num + 1, self._num_bytes + num_bytes
        try:
            yield
        finally:
            with self._changed:
                self._num, self._num_bytes = self._num - 1, self._num_bytes - num_bytes
                self._changed.notify_all()

    def _has_room(self, num_bytes: int) -> bool:
        return self._num < self._num_always or self._num_bytes + num_bytes <= _AHEAD_BYTES
