"""A student of any number of modalities as what a labelling pass asks, and its explanations."""

# B samples, C classes, M modalities, X any; of dense labels logits are [B, C, H, W].

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mke_ray.models.attribution import attribution, check_number
from mke_ray.models.device import checked_device
from mke_ray.models.probabilities import decisions, probabilities
from mke_ray.models.student import Network
from mke_ray.models.weights import LoadedStudent, load_student
from mke_ray.schema import LabelSpace, fingerprint
from mke_ray.storage import Root, open_root

Arrays = Mapping[str, np.ndarray | Tensor]


class WholeStudent:
    """An exported student or finished fit that reads every modality that a sample has.

    Args:
        path: Folder of the student.
        device: Device to compute on, first touched by ``predict``.
        storage_options: Options of the file system of the path.
        classes: The user's own encoders and fusions by ``_target_``, see ``load_student``.
        key: Configuration key that names the folder, for the error.

    Raises:
        StoreError: The folder holds no whole student.
    """

    def __init__(
        self,
        path: str | Path | Root,
        *,
        device: str = "cpu",
        storage_options: Mapping[str, Any] | None = None,
        classes: Mapping[str, type] | None = None,
        key: str = "",
    ) -> None:
        root = path if isinstance(path, Root) else open_root(str(path), storage_options)
        self.loaded: LoadedStudent = load_student(root, classes=classes, key=key)
        self.modalities = self.loaded.student.modalities
        self.needs: dict[str, dict[str, Any]] = {
            name: dict(self.loaded.student.encoder(name).needs) for name in self.modalities
        }
        self.label_space: LabelSpace = self.loaded.label_space
        self._device_name = device

    def predict(self, arrays: Arrays, present: Arrays) -> np.ndarray:
        """Return float32 logits [B, C] of a batch, on the CPU.

        Args:
            arrays: Per modality the stored arrays [B, ...].
            present: Per modality whether the sample has it [B], bool.
        """
        return self.logits(*self.on_device(arrays, present)).cpu().numpy()

    @torch.inference_mode()
    def logits(self, arrays: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Return float32 logits of a batch on the device."""
        return self._student(arrays, present).float()

    def on_device(
        self, arrays: Arrays, present: Arrays
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return a batch on the device.

        Raises:
            ConfigError: The device cannot compute in this process.
        """
        return (
            {name: torch.as_tensor(one).to(self._device) for name, one in arrays.items()},
            {name: torch.as_tensor(one).to(self._device) for name, one in present.items()},
        )

    def fingerprint(self) -> str:
        """Return a hash of the weights and the specification."""
        return fingerprint({"weights": self.loaded.digest, "spec": self.loaded.spec})

    @property
    def network(self) -> Network:
        """The network, for whoever compiles it or reorders its weights before ``predict``."""
        return self.loaded.student

    @cached_property
    def _device(self) -> torch.device:
        return checked_device(self._device_name)

    @cached_property
    def _student(self) -> Network:
        return self.loaded.student.to(self._device)


class ExplainedStudent:
    """The modalities' part in a student's answers, asked for as a student's logits are.

    Args:
        path: Folder of the student.
        arguments: Those of ``WholeStudent``.

    Raises:
        ConfigError: It reads too many modalities.
    """

    def __init__(self, path: str | Path | Root, **arguments: Any) -> None:
        self._whole = WholeStudent(path, **arguments)
        self.modalities = self._whole.modalities
        self.needs = self._whole.needs
        self.label_space = self._whole.label_space
        check_number(self.modalities)

    @property
    def num_answers(self) -> int:
        """Numbers per sample, 2 M."""
        return 2 * len(self.modalities)

    def predict(self, arrays: Arrays, present: Arrays) -> np.ndarray:
        """Return Shapley values and shares of changed decisions, float32 [B, 2 M]."""
        tensors, there = self._whole.on_device(arrays, present)
        kind, temperature = self.label_space.kind, self._whole.loaded.temperature

        def decided(shown: Mapping[str, Tensor]) -> Tensor:
            logits_BC = self._whole.logits(tensors, shown)
            return decisions(probabilities(logits_BC, kind, temperature), kind)

        found = attribution(decided, self.modalities, there)
        both_BM = torch.cat([found.shapley_BM, found.changed_BM], dim=1)
        return both_BM.to(device="cpu", dtype=torch.float32).numpy()

    def fingerprint(self) -> str:
        """Return a hash of the student and its temperature."""
        known = {
            "explained": self._whole.fingerprint(),
            "temperature": self._whole.loaded.temperature,
        }
        return fingerprint(known)

    @property
    def network(self) -> Network:
        """The network of the student."""
        return self._whole.network
