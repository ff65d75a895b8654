"""Rows of a source on disk, in their order, until it is known which of them are new."""

# N rows of a batch.

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pyarrow as pa

from mke_ray.data.sources import SourceRow
from mke_ray.schema import MANIFEST_SCHEMA

_BATCH = 8192  # a multiple of 8, since rows are chosen by packed bits
_OF_A_ROW = {one.name for one in fields(SourceRow)}
_SCHEMA = pa.schema([column for column in MANIFEST_SCHEMA if column.name in _OF_A_ROW])


class RowSpool:
    """A temporary file of rows, written once and then read.

    Args:
        files: Closes, and thereby removes, the file.
    """

    def __init__(self, files: contextlib.ExitStack) -> None:
        self._file = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._writer = pa.ipc.new_stream(self._file, _SCHEMA, options=options)
        self._held: list[SourceRow] = []
        self.num_rows = 0

    def add(self, row: SourceRow) -> int:
        """Add a row and return its ordinal."""
        self._held.append(row)
        if len(self._held) == _BATCH:
            self._flush()
        self.num_rows += 1
        return self.num_rows - 1

    def rows(self, chosen: np.ndarray) -> Iterator[SourceRow]:
        """Yield the chosen rows in their order.

        Args:
            chosen: One bit per ordinal, packed, uint8.
        """
        self._flush()
        self._file.seek(0)
        start = 0
        for batch in pa.ipc.open_stream(self._file):
            is_chosen_N = np.unpackbits(chosen[start // 8 :][: _BATCH // 8], count=batch.num_rows)
            start += batch.num_rows
            for row in batch.filter(pa.array(is_chosen_N.astype(bool))).to_pylist():
                labels = row.pop("labels")
                yield SourceRow(**row, labels=None if labels is None else tuple(labels))

    def _flush(self) -> None:
        """Write the rows that are held."""
        if self._held:
            columns = {name: [getattr(row, name) for row in self._held] for name in _SCHEMA.names}
            self._writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
            self._held = []
