"""Dense labels as they are stored: of each pixel the likeliest classes, and what is left over."""

# R rows, C classes, k classes kept, H height, W width.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mke_ray.data.codec import decode_modality
from mke_ray.errors import ConfigError, StoreError
from mke_ray.schema import (
    DENSE_LABELS_SCHEMA,
    IGNORE,
    MASK,
    DecodeSpec,
    LabelKind,
    LabelSpace,
    MaskSpec,
)

DEFAULT_TOP_K = 3
TAIL = "the rest is shared equally by the other classes"
COLUMNS = ("classes", "log_probs", "rest")

Packed = tuple[bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class DenseForm:
    """How the labels of a sample are packed: logits [C, H, W] into three pieces of bytes.

    These are the k likeliest classes, uint8 [k, H, W], the first of them the most likely; the
    logarithms of their probabilities, float16 [k, H, W]; and the probability of all other classes
    together, float16 [H, W], which these share equally when probabilities are rebuilt.

    Args:
        num_classes: Classes C.
        height: Height H of what is stored.
        width: Width W.
        top_k: Classes kept of each pixel.
    """

    num_classes: int
    height: int
    width: int
    top_k: int = DEFAULT_TOP_K

    @classmethod
    def of_spec(cls, spec: Mapping[str, Any]) -> "DenseForm | None":
        """Return the form of a label store by its specification, None where it is not dense."""
        dense = spec.get("dense")
        if dense is None:
            return None
        num_classes = len(spec["label_space"]["classes"])
        return cls(num_classes, dense["height"], dense["width"], dense["top_k"])

    def to_dict(self) -> dict[str, Any]:
        """Return what the specification of a label store says of it."""
        return {
            "height": self.height,
            "width": self.width,
            "top_k": self.top_k,
            "tail": TAIL,
        }

    @property
    def logits_shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of the logits of a sample."""
        return (self.num_classes, self.height, self.width)

    @property
    def num_bytes(self) -> int:
        """Bytes of the label of a sample, before compression."""
        return (3 * self.top_k + 2) * self.height * self.width

    def pack(self, logits_CHW: np.ndarray) -> Packed:
        """Return the stored pieces of the logits of one sample; of equal ones the first counts."""
        order_CHW = np.argsort(-logits_CHW, axis=0, kind="stable")
        sorted_CHW = np.take_along_axis(logits_CHW.astype(np.float64), order_CHW, axis=0)
        exp_CHW = np.exp(sorted_CHW - sorted_CHW[:1])
        total_HW = exp_CHW.sum(axis=0)
        log_probs_KHW = sorted_CHW[: self.top_k] - sorted_CHW[:1] - np.log(total_HW)
        lowest = np.finfo(np.float16).min
        return (
            np.ascontiguousarray(order_CHW[: self.top_k].astype(np.uint8)).tobytes(),
            np.maximum(log_probs_KHW, lowest).astype("<f2").tobytes(),
            (exp_CHW[self.top_k :].sum(axis=0) / total_HW).astype("<f2").tobytes(),
        )

    def hard(self, classes: bytes) -> np.ndarray:
        """Return the most likely class of each pixel, uint8 [H, W].

        Raises:
            StoreError: The piece is of another form.
        """
        return self._read(classes, "u1", self.top_k)[0]

    def soft(self, packed: Packed, *, temperature: float = 1.0) -> np.ndarray:
        """Return probabilities of all classes, float32 [C, H, W].

        Args:
            packed: What ``pack`` returned.
            temperature: Divides logits; 1 gives what was packed.

        Raises:
            StoreError: The pieces are of another form.
        """
        class_KHW = self._read(packed[0], "u1", self.top_k).astype(np.int64)
        log_KHW = self._read(packed[1], "<f2", self.top_k).astype(np.float32)
        rest_HW = self._read(packed[2], "<f2", 1)[0].astype(np.float32)
        num_others = max(self.num_classes - self.top_k, 1)
        power = 1.0 / temperature
        probability_CHW = np.empty(self.logits_shape, np.float32)
        probability_CHW[:] = (rest_HW / num_others) ** power
        np.put_along_axis(probability_CHW, class_KHW, np.exp(log_KHW * power), axis=0)
        return probability_CHW / probability_CHW.sum(axis=0)

    def _read(self, piece: bytes, dtype: str, num: int) -> np.ndarray:
        """Return a piece as an array [num, H, W]."""
        shape = (num, self.height, self.width)
        expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if len(piece) != expected:
            raise StoreError(
                f"dense labels have {len(piece)} bytes, their form {self} asks for {expected}; "
                "they are damaged, or of another store"
            )
        return np.frombuffer(piece, dtype).reshape(shape)


def dense_form(
    decode: DecodeSpec, modality: str, *, label_space: LabelSpace, top_k: int
) -> DenseForm | None:
    """Return the form of a teacher's dense labels, None where labels are not dense.

    Args:
        decode: What is stored of every modality.
        modality: What the teacher reads; its labels have the height and width of that.
        label_space: The classes.
        top_k: Classes kept of each pixel.

    Raises:
        ConfigError: The number makes no sense, the modality has no height and width, or true
            classes have others.
    """
    if label_space.kind != LabelKind.DENSE:
        return None
    if not 1 <= top_k <= label_space.num_classes:
        raise ConfigError(
            f"labelling.top_k={top_k}; give a number between 1 and the {label_space.num_classes} "
            "classes"
        )
    height, width = dense_size(decode, modality)
    return DenseForm(label_space.num_classes, height, width, top_k)


def dense_size(decode: DecodeSpec, modality: str) -> tuple[int, int]:
    """Return height and width of dense labels: those of a modality and of the true classes.

    Raises:
        ConfigError: The modality has none, or the true classes have others.
    """
    spec, mask = decode[modality], decode.get(MASK)
    size = getattr(spec, "height", None), getattr(spec, "width", None)
    if size[0] is None or size[1] is None:
        raise ConfigError(
            f"decode.{modality}.kind={spec.kind} has no height and width, which dense labels need; "
            "choose a modality of pictures or depth"
        )
    if mask is not None and size != (found := (mask.height, mask.width)):  # type: ignore[union-attr]
        raise ConfigError(
            f"decode.{MASK} is {found[0]} high and {found[1]} wide, decode.{modality} is {size[0]} "
            f"high and {size[1]} wide; labels and pictures lie on one another, so store both alike"
        )
    return size[0], size[1]


def dense_columns(
    packed: Sequence[Packed | None],
) -> dict[str, Sequence[bytes | None]]:
    """Return the columns of a table of labels; a row that is None has none."""
    return {
        name: [None if one is None else one[place] for one in packed]
        for place, name in enumerate(COLUMNS)
    }


def hard_rows(table: pa.Table, form: DenseForm) -> np.ndarray:
    """Return the most likely class of each pixel, uint8 [R, H, W]; 255 where a row has no label."""
    hard_RHW = np.full((table.num_rows, form.height, form.width), IGNORE, np.uint8)
    for row, piece in enumerate(table.column("classes").to_pylist()):
        if piece is not None:
            hard_RHW[row] = form.hard(piece)
    return hard_RHW


def packed_rows(table: pa.Table) -> list[Packed | None]:
    """Return the stored pieces of each row of a table of dense labels, None where it has none."""
    columns = (table.column(name).to_pylist() for name in COLUMNS)
    return [None if row[0] is None else row for row in zip(*columns, strict=True)]


def mask_rows(pieces: Sequence[list[bytes] | None], spec: MaskSpec) -> np.ndarray:
    """Return the true class map of each row, uint8 [R, H, W]; 255 where a row has none."""
    mask_RHW = np.full((len(pieces), spec.height, spec.width), IGNORE, np.uint8)
    for row, one in enumerate(pieces):
        if one is not None:
            mask_RHW[row] = decode_modality(one, spec)
    return mask_RHW


def labels_schema(form: DenseForm | None, plain: pa.Schema) -> pa.Schema:
    """Return the schema of a label store."""
    return plain if form is None else DENSE_LABELS_SCHEMA
