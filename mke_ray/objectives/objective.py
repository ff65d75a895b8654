"""What every objective is."""

from typing import Protocol

from torch import Tensor, nn

from mke_ray.schema import Batch


class Objective(Protocol):
    """A loss of a student on a batch; it gets the student, since it may need several passes."""

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return ``loss``, to be minimised, and its named parts without gradient.

        Args:
            student: The student, wrapped for distributed training or not.
            batch: Micro batch on the student's device.
            progress: Share of the training that is done, from 0 to 1.
        """
        ...
