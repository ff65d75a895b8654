"""The signatures in a sample store, read without the samples."""

# N samples.

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mke_ray.batching import batched
from mke_ray.data.likeness import Signatures
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.labels.index import Index
from mke_ray.labels.store import UnitStore
from mke_ray.schema import SIGNATURE_SUFFIX

_NUM_READ_THREADS = 8
_UNITS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample stands in the manifest.

    Args:
        sample_id: Its id.
        unit: Its unit.
        row: Its row in the unit.
        split: Its split.
    """

    sample_id: int
    unit: str
    row: int
    split: str


@dataclass(frozen=True, slots=True)
class SignedSamples:
    """Signatures of samples, and where these are.

    Args:
        refs: Units in the order in which they were read.
        unit_N: For each sample the number of its unit in ``refs`` [N].
        row_N: Its row in the unit [N].
        sample_id_N: Its id [N].
        signatures: Per modality.
    """

    refs: Sequence[UnitRef]
    unit_N: np.ndarray
    row_N: np.ndarray
    sample_id_N: np.ndarray
    signatures: Mapping[str, Signatures]

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.row_N)

    def take(self, number_P: np.ndarray) -> "SignedSamples":
        """Return some of the samples."""
        return SignedSamples(
            self.refs,
            self.unit_N[number_P],
            self.row_N[number_P],
            self.sample_id_N[number_P],
            {name: one.take(number_P) for name, one in self.signatures.items()},
        )

    def place(self, number: int) -> Place:
        """Return where a sample stands."""
        ref = self.refs[int(self.unit_N[number])]
        sample_id, row = int(self.sample_id_N[number]), int(self.row_N[number])
        return Place(sample_id, ref.unit, row, ref.split)

    def unit_names(self) -> np.ndarray:
        """Return the unit of each sample, bytes [N]."""
        return np.array([ref.unit for ref in self.refs], dtype="S16")[self.unit_N]


class SignatureReader:
    """Reads the signatures of units of which the samples are stored.

    Args:
        samples: The sample store.
        manifest: Which units there are, and which rows the source has no more; these are left out.
    """

    def __init__(self, samples: UnitStore, manifest: Manifest) -> None:
        self._samples = samples
        self._manifest = manifest
        self._index: Index = samples.read_index()
        self._kinds = {name: str(one["kind"]) for name, one in samples.spec["decode"].items()}

    def refs(self, split: str) -> Iterator[UnitRef]:
        """Yield the units of a split whose samples are stored, in the order of the manifest."""
        return (ref for ref in self._manifest.unit_refs([split]) if ref.unit in self._index)

    def version(self, ref: UnitRef) -> bytes:
        """Return what changes whenever the signatures of a unit that count could."""
        gone_N = self._manifest.mark_table().not_current(ref.unit)
        content = f"{ref.unit} {self._index.content_id(ref.unit)}\n"
        return content.encode() + (b"" if gone_N is None else gone_N.tobytes())

    def all_of(self, split: str) -> SignedSamples:
        """Return the signatures of a whole split; for the small ones."""
        return self._gather(list(self.refs(split)))

    def blocks_of(self, split: str) -> Iterator[SignedSamples]:
        """Yield the signatures of a split, some units at a time."""
        for some in batched(self.refs(split), _UNITS_AT_ONCE):
            yield self._gather(some)

    def _gather(self, refs: Sequence[UnitRef]) -> SignedSamples:
        """Return the signatures of some units."""
        with ThreadPoolExecutor(_NUM_READ_THREADS) as pool:
            tables = list(pool.map(self._read, refs))
        kept = [self._current_rows(ref) for ref in refs]
        table = pa.concat_tables(
            [self._empty(), *(one.take(rows) for one, rows in zip(tables, kept, strict=True))]
        )
        signatures = {
            name: Signatures.parse(table.column(name + SIGNATURE_SUFFIX).to_pylist(), kind)
            for name, kind in self._kinds.items()
        }
        return SignedSamples(
            refs,
            np.repeat(np.arange(len(refs)), [len(rows) for rows in kept]),
            np.concatenate([np.zeros(0, np.int64), *kept]),
            table.column("sample_id").to_numpy(),
            signatures,
        )

    def _read(self, ref: UnitRef) -> pa.Table:
        """Fetch the last columns of the file of one unit, and its ids."""
        location = self._index.location(ref.unit)
        return self._samples.read_small_columns(ref.unit, location, self._columns())

    def _current_rows(self, ref: UnitRef) -> np.ndarray:
        """Return the rows of a unit that the source still has."""
        gone_N = self._manifest.mark_table().not_current(ref.unit)
        return np.arange(ref.num_rows) if gone_N is None else np.flatnonzero(~gone_N)

    def _columns(self) -> list[str]:
        return ["sample_id", *(name + SIGNATURE_SUFFIX for name in self._kinds)]

    def _empty(self) -> pa.Table:
        return pa.schema([self._samples.schema.field(one) for one in self._columns()]).empty_table()
