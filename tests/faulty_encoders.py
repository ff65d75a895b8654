"""Encoders of features that hang or kill their process in training, for tests of a search."""

import os
import signal
import threading
from pathlib import Path

from torch import Tensor

from mke_ray.models.encoders import FeatureEncoder


class HangsOnce(FeatureEncoder):
    """Waits without end in the first step, unless a file says that one has."""

    def __init__(self, modality: str, *, num_inputs: int, marker: str) -> None:
        super().__init__(modality, num_inputs=num_inputs)
        self.marker = Path(marker)

    def forward(self, x_BD: Tensor) -> Tensor:
        if self.training and not self.marker.exists():
            self.marker.write_text("hung")
            threading.Event().wait()
        return super().forward(x_BD)


class KillsOnce(FeatureEncoder):
    """Kills its process in the first step, unless a file says that it has."""

    def __init__(self, modality: str, *, num_inputs: int, marker: str) -> None:
        super().__init__(modality, num_inputs=num_inputs)
        self.marker = Path(marker)

    def forward(self, x_BD: Tensor) -> Tensor:
        if self.training and not self.marker.exists():
            self.marker.write_text("killed")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x_BD)
