"""Dense targets of the rows of a unit; probabilities are made for the rows that are wanted."""

# R rows of a unit, N rows wanted, C classes, H height, W width.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mke_ray.labels.dense import DenseForm, Packed


@dataclass(frozen=True, slots=True)
class SoftRows:
    """Probabilities of a unit's rows, unpacked when they are wanted.

    Args:
        packed: Stored pieces of each row, None where it has no label [R].
        form: How they are packed.
        temperature: Divides the teacher's logits.
    """

    packed: Sequence[Packed | None]
    form: DenseForm
    temperature: float = 1.0

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return sum(len(piece) for row in self.packed if row is not None for piece in row)

    def __getitem__(self, row_N: np.ndarray) -> np.ndarray:
        """Return probabilities of some rows, float32 [N, C, H, W]; zeros where there are none."""
        target_NCHW = np.zeros((len(row_N), *self.form.logits_shape), np.float32)
        for place, row in enumerate(row_N.tolist()):
            packed = self.packed[row]
            if packed is not None:
                target_NCHW[place] = self.form.soft(packed, temperature=self.temperature)
        return target_NCHW


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
