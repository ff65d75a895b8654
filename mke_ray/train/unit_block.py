"""One unit in memory: its rows as they are stored, and decoded where they were wanted."""

# R rows of a unit, N rows wanted, X target or array of a row.

import math
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mke_ray.data.codec import decode_modality, empty_modality, stored_shape
from mke_ray.schema import DecodeSpec, FrameCodec, ModalitySpec, VideoSpec
from mke_ray.train.dense_targets import OneHotRows, PixelWeights, SoftRows

TargetRows = np.ndarray | SoftRows | OneHotRows
WeightRows = np.ndarray | PixelWeights


@dataclass(slots=True)
class UnitBlock:
    """One unit in memory.

    Args:
        sample_id_R: Sample ids [R].
        present: Per modality which rows have it, bool [R].
        pieces: Per modality the encoded pieces of each row; empty once every row is decoded.
        arrays: Per modality the decoded rows [R, ...]; rows not yet wanted hold nothing.
        targets: Per kind of target the rows [R, X]; of dense labels X is [H, W] or [C, H, W].
        weights: Weights of pseudo-labels, as ``LabelRule`` has them; None before they are read, or
            where they have none.
        is_decoded_R: Which rows are decoded, bool [R].
    """

    sample_id_R: np.ndarray
    present: dict[str, np.ndarray]
    pieces: dict[str, pa.ChunkedArray]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    targets: dict[str, TargetRows] = field(default_factory=dict)
    is_decoded_R: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    weights: WeightRows | None = None

    @classmethod
    def of_table(
        cls, table: pa.Table, present: dict[str, np.ndarray], spec: DecodeSpec
    ) -> "UnitBlock":
        """Return a unit of which nothing is decoded; raw frames need no decoding.

        Args:
            table: Columns ``sample_id`` and one per modality.
            present: Per modality which rows have it, bool [R].
            spec: What is stored of each modality.
        """
        pieces = {name: table.column(name) for name in spec}
        raw = {name: raw_frames(pieces[name], one) for name, one in spec.items()}
        arrays = {name: array for name, array in raw.items() if array is not None}
        return cls(
            sample_id_R=table.column("sample_id").to_numpy(),
            present=present,
            pieces={name: one for name, one in pieces.items() if name not in arrays},
            arrays=arrays,
            is_decoded_R=~np.logical_or.reduce(list(present.values())),
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the block holds."""
        held = [*self.arrays.values(), *self.targets.values()]
        held += [] if self.weights is None else [self.weights]
        encoded = sum(pieces.nbytes for pieces in self.pieces.values())
        return encoded + sum(array.nbytes for array in held) + self.sample_id_R.nbytes

    def decode(self, row_N: np.ndarray, spec: DecodeSpec) -> None:
        """Decode some rows that are not decoded yet."""
        for modality, one in spec.items():
            if modality not in self.arrays:
                self.arrays[modality] = _empty_rows(len(self.sample_id_R), one)
        new_N = row_N[~self.is_decoded_R[row_N]]
        if not len(new_N):
            return
        for modality, pieces in self.pieces.items():
            array, present_R = self.arrays[modality], self.present[modality]
            for row in new_N[present_R[new_N]].tolist():
                array[row] = decode_modality(pieces[row].as_py(), spec[modality])
        self.is_decoded_R[new_N] = True
        if self.is_decoded_R.all():
            self.pieces = {}


def raw_frames(pieces: pa.ChunkedArray, spec: ModalitySpec) -> np.ndarray | None:
    """Return the raw frames of a unit, uint8 [R, T, H, W, 3], in the memory that was read.

    Args:
        pieces: The frames of each row.
        spec: What is stored of them.

    Returns:
        None where frames are coded, rows are missing or have another size than the specification
        says: then each row is decoded, or refused, by itself.
    """
    if not isinstance(spec, VideoSpec) or spec.codec != FrameCodec.RAW:
        return None
    if pieces.num_chunks != 1 or pieces.null_count or not len(pieces):
        return None
    rows = pieces.chunk(0)
    shape = stored_shape(spec)
    frames = rows.flatten()
    starts_R = np.frombuffer(rows.buffers()[1], np.int32)[rows.offset :][: len(rows) + 1]
    if not (np.diff(starts_R) == shape[0]).all() or frames.null_count:
        return None
    _, offsets, content = frames.buffers()
    begin_F = np.frombuffer(offsets, np.int32)[frames.offset :][: len(frames) + 1]
    if not (np.diff(begin_F) == math.prod(shape[1:])).all():
        return None
    num_bytes = len(rows) * math.prod(shape)
    bytes_N = np.frombuffer(content, np.uint8, count=num_bytes, offset=int(begin_F[0]))
    return bytes_N.reshape(len(rows), *shape)


def _empty_rows(num_rows: int, spec: ModalitySpec) -> np.ndarray:
    """Return what stands for the rows of a unit [R, ...] before they are decoded."""
    one = empty_modality(spec)
    rows = np.zeros((num_rows, *one.shape), one.dtype)
    if one.any():  # pages of zeros take no memory before they are written
        rows[:] = one
    return rows
