"""An exported student behind MLflow's ``pyfunc``; MLflow imports this module and calls it."""

# B samples, C classes.

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mke_ray.decode_spec import decode_spec_from_dict, stored_dtype
from mke_ray.errors import ConfigError
from mke_ray.models.exporting import PRESENT_SUFFIX
from mke_ray.models.weights import LoadedStudent, load_student


class PyfuncStudent:
    """Arrays by the names of modalities in, calibrated probabilities out.

    Args:
        loaded: The student.
    """

    def __init__(self, loaded: LoadedStudent) -> None:
        self.loaded = loaded
        self._specs = decode_spec_from_dict(loaded.decode)

    @torch.inference_mode()
    def predict(
        self, model_input: Mapping[str, Any], params: Mapping[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        """Return ``{"probabilities": float32 [B, C]}``.

        Args:
            model_input: Per modality the arrays [B, ...] as they are decoded, and
                ``<modality>_present`` [B], bool, where not every sample has it.
            params: Of MLflow; there are none.

        Raises:
            ConfigError: No modality is given.
        """
        del params
        arrays = {
            name: torch.as_tensor(np.asarray(model_input[name], stored_dtype(spec)))
            for name, spec in self._specs.items()
            if name in model_input
        }
        if not arrays:
            raise ConfigError(
                f"the student reads {list(self._specs)} but was given {sorted(model_input)}"
            )
        num_samples = len(next(iter(arrays.values())))
        present = {
            name: torch.as_tensor(
                np.asarray(model_input.get(name + PRESENT_SUFFIX, np.ones(num_samples)), bool)
            )
            for name in arrays
        }
        logits_BC = self.loaded.student(arrays, present)
        return {"probabilities": self.loaded.probabilities(logits_BC).numpy()}


def _load_pyfunc(path: str) -> PyfuncStudent:
    """Return what MLflow calls, of the folder of a student; students of own classes need none."""
    return PyfuncStudent(load_student(path))
