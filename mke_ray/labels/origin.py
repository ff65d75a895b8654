"""Where samples are read, as plain data, and what reads and encodes them there."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mke_ray.config import build
from mke_ray.data.sources import Reader
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.isolation import IsolatedDecoder
from mke_ray.labels.rows import StoredRow, decode_row
from mke_ray.schema import DecodeSpec, ManifestRow


@dataclass(frozen=True, slots=True)
class Origin:
    """Where samples come from, for whoever has to read them.

    Args:
        source: What ``mke_ray.config.build`` makes the source from.
        num_threads: Samples read side by side.
        limits: What one sample may take in the process in which samples are read; None reads
            them in the process that asks for them.
    """

    source: Mapping[str, Any]
    num_threads: int = 1
    limits: SampleLimits | None = None


class RowDecoder:
    """Reads and encodes samples; the source is built once, when needed.

    Args:
        origin: Where samples come from.
        decode: What is stored of every modality.

    Attributes:
        turn: Lock that a thread holds while it reads; it may take it before, to wait for its turn.
    """

    def __init__(self, origin: Origin, decode: DecodeSpec) -> None:
        self._origin = origin
        self._decode = decode
        self._reader: Reader | None = None
        self._isolated: IsolatedDecoder | None = None
        self.turn = threading.RLock()

    def read(self, rows: Sequence[ManifestRow]) -> list[StoredRow]:
        """Return what is stored of some samples, decoded side by side where threads allow."""
        with self.turn:
            limits = self._origin.limits
            return self._read_here(rows) if limits is None else self._read_apart(rows, limits)

    def _read_apart(self, rows: Sequence[ManifestRow], limits: SampleLimits) -> list[StoredRow]:
        """Read samples in a process of their own."""
        if self._isolated is None:
            origin = self._origin
            self._isolated = IsolatedDecoder(
                origin.source, self._decode, origin.num_threads, limits
            )
        return self._isolated.read(rows)

    def _read_here(self, rows: Sequence[ManifestRow]) -> list[StoredRow]:
        """Read samples in this process."""
        reader = self._reader or build(self._origin.source).reader(self._decode)
        self._reader = reader
        if self._origin.num_threads == 1:
            return [decode_row(reader, row, self._decode) for row in rows]
        with ThreadPoolExecutor(self._origin.num_threads) as pool:
            return list(pool.map(lambda row: decode_row(reader, row, self._decode), rows))
