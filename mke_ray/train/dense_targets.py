"""Dense targets of the rows of a unit; probabilities are made for the rows that are wanted."""

# R rows of a unit, N rows wanted, C classes, H height, W width.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mke_ray.labels.dense import DenseForm, Packed
from mke_ray.labels.label_rule import LabelRule
from mke_ray.schema import IGNORE


@dataclass(frozen=True, slots=True)
class SoftRows:
    """Probabilities of a unit's rows, unpacked when they are wanted.

    Args:
        packed: Stored pieces of each row, None where it has no label [R].
        form: How they are packed.
        temperature: Divides the teacher's logits.
        rule: What else is done to them; None does nothing.
    """

    packed: Sequence[Packed | None]
    form: DenseForm
    temperature: float = 1.0
    rule: LabelRule | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return sum(len(piece) for row in self.packed if row is not None for piece in row)

    def __getitem__(self, row_N: np.ndarray) -> np.ndarray:
        """Return probabilities of some rows, float32 [N, C, H, W]; zeros where there are none."""
        target_NCHW = np.zeros((len(row_N), *self.form.logits_shape), np.float32)
        for place, row in enumerate(row_N.tolist()):
            packed = self.packed[row]
            if packed is not None and self.rule is not None:
                target_NCHW[place] = self.rule.targets_of_pixels(packed, self.form)
            elif packed is not None:
                target_NCHW[place] = self.form.soft(packed, temperature=self.temperature)
        return target_NCHW


def hard_rows_by(rule: LabelRule, packed: Sequence[Packed | None], form: DenseForm) -> np.ndarray:
    """Return the class of each pixel by a rule, uint8 [R, H, W]; 255 where a row has no label."""
    hard_RHW = np.full((len(packed), form.height, form.width), IGNORE, np.uint8)
    for row, piece in enumerate(packed):
        if piece is not None:
            hard_RHW[row] = rule.targets_of_pixels(piece, form).argmax(axis=0)
    return hard_RHW


@dataclass(frozen=True, slots=True)
class PixelWeights:
    """Weights of the pixels of a unit's rows, computed when they are wanted.

    Args:
        packed: Stored pieces of each row, None where it has no label [R].
        form: How they are packed.
        rule: How they are weighed.
    """

    packed: Sequence[Packed | None]
    form: DenseForm
    rule: LabelRule

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return sum(len(piece) for row in self.packed if row is not None for piece in row)

    def __getitem__(self, row_N: np.ndarray) -> np.ndarray:
        """Return weights of some rows, float32 [N, H, W]; zeros where there are no labels."""
        weight_NHW = np.zeros((len(row_N), self.form.height, self.form.width), np.float32)
        for place, row in enumerate(row_N.tolist()):
            packed = self.packed[row]
            if packed is not None:
                weight_NHW[place] = self.rule.weights_of_pixels(packed, self.form)
        return weight_NHW


@dataclass(frozen=True, slots=True)
class OneHotRows:
    """Class maps of a unit's rows, as probabilities when they are wanted.

    Args:
        mask_RHW: Class maps [R, H, W].
        num_classes: Classes C.
    """

    mask_RHW: np.ndarray
    num_classes: int

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self.mask_RHW.nbytes

    def __getitem__(self, row_N: np.ndarray) -> np.ndarray:
        """Return probabilities of some rows, float32 [N, C, H, W]; zeros where a pixel has none."""
        class_C = np.arange(self.num_classes)[:, None, None]
        return (self.mask_RHW[row_N][:, None] == class_C).astype(np.float32)
