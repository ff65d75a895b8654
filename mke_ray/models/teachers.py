"""Teachers: networks that read one modality as it is stored and give logits."""

# B samples, C classes, X any.

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from mke_ray.errors import ConfigError, StoreError
from mke_ray.models.student import Network
from mke_ray.models.token_input import AT_MOST, DIGEST, another_tokenizer
from mke_ray.models.whole_student import WholeStudent
from mke_ray.schema import DecodeSpec
from mke_ray.storage import Root

AT_LEAST = ("num_frames", "height", "width", "seconds")


@runtime_checkable
class Teacher(Protocol):
    """Anything that reads one modality; it knows nothing of Ray, rows or files.

    Attributes:
        modality: Name of the modality.
        needs: What the stored array must hold: ``kind`` and, where it matters, ``num_frames``,
            ``height``, ``width``, ``seconds`` (at least so many), ``num_tokens``, ``num_ids`` (at
            most so many), ``sample_rate_hz``, ``num_features``, ``digest`` and ``pad_id`` (just
            that).
    """

    modality: str
    needs: dict[str, Any]

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of a batch of stored arrays."""
        ...

    def fingerprint(self) -> str:
        """Return text that changes whenever the predictions may change."""
        ...


@runtime_checkable
class ManyTeacher(Protocol):
    """Anything that is asked in a pass as a teacher is, and reads several modalities.

    Attributes:
        modalities: Their names.
        needs: For each of them what ``Teacher.needs`` says of one.
    """

    modalities: tuple[str, ...]
    needs: dict[str, dict[str, Any]]

    def predict(
        self, arrays: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Return float32 logits [B, C] of stored arrays [B, ...] and which samples have them."""
        ...

    def fingerprint(self) -> str:
        """Return text that changes whenever the predictions may change."""
        ...


class StudentTeacher:
    """A finished fit or exported student of one modality, used as a teacher.

    Args:
        path: Folder of the student.
        device: Device to compute on, first touched by ``predict``: the driver, which asks only
            for the fingerprint, may have none.
        storage_options: Options of the file system of the path.
        classes: The user's own encoders by ``_target_``, see ``load_student``.

    Raises:
        ConfigError: The student reads more than one modality.
        StoreError: The folder holds no whole student.
    """

    def __init__(
        self,
        path: str | Path | Root,
        *,
        device: str = "cpu",
        storage_options: Mapping[str, Any] | None = None,
        classes: Mapping[str, type] | None = None,
    ) -> None:
        self._whole = WholeStudent(
            path, device=device, storage_options=storage_options, classes=classes
        )
        if len(self._whole.modalities) != 1:
            raise ConfigError(
                f"teacher.path={path} reads {list(self._whole.modalities)}; "
                "a teacher reads exactly one modality"
            )
        (self.modality,) = self._whole.modalities
        self.needs = self._whole.needs[self.modality]
        self.label_space = self._whole.label_space

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of a batch of stored arrays, on the CPU.

        Raises:
            ConfigError: The device cannot compute in this process.
        """
        present_B = np.ones(len(arrays_BX), bool)
        return self._whole.predict({self.modality: arrays_BX}, {self.modality: present_B})

    def fingerprint(self) -> str:
        """Return a hash of the weights and the specification."""
        return self._whole.fingerprint()

    @property
    def network(self) -> Network:
        """The network, for whoever compiles it or reorders its weights before ``predict``."""
        return self._whole.network


def unmet_needs(needs: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return those needs of a network that what is stored does not meet.

    Args:
        needs: What it needs, as ``Teacher.needs``.
        stored: Specification of the modality, as plain data.
    """

    def is_met(key: str, needed: Any) -> bool:
        found = stored.get(key)
        if found is None or key not in (*AT_LEAST, *AT_MOST):
            return found == needed
        return found >= needed if key in AT_LEAST else found <= needed

    return {key: needed for key, needed in needs.items() if not is_met(key, needed)}


def modalities_of(teacher: Teacher | ManyTeacher) -> tuple[str, ...]:
    """Return the modalities that a teacher reads."""
    if isinstance(teacher, ManyTeacher):
        return tuple(teacher.modalities)
    return (teacher.modality,)


def check_needs(teacher: Teacher | ManyTeacher, decode_spec: DecodeSpec) -> None:
    """Raise when a teacher needs more than the sample store holds.

    Raises:
        StoreError: A modality is not stored, is of another kind, or holds too little.
    """
    if isinstance(teacher, ManyTeacher):
        for modality in teacher.modalities:
            _check_modality(modality, teacher.needs[modality], decode_spec)
    else:
        _check_modality(teacher.modality, teacher.needs, decode_spec)


def _check_modality(modality: str, needs: Mapping[str, Any], decode_spec: DecodeSpec) -> None:
    """Raise when a teacher needs more of a modality than the sample store holds."""
    if modality not in decode_spec:
        raise StoreError(
            f"the teacher reads {modality!r} but decode stores {sorted(decode_spec)}; "
            f"add decode.{modality} or choose another teacher"
        )
    stored: Mapping[str, Any] = asdict(decode_spec[modality])
    for key, needed in unmet_needs(needs, stored).items():
        found = stored.get(key)
        if key == DIGEST:
            raise StoreError(f"the teacher: {another_tokenizer(modality, needed, found)}")
        bound = "at least " if key in AT_LEAST else "at most " if key in AT_MOST else ""
        raise StoreError(
            f"the teacher needs {bound}{key}={needed} of {modality!r} but "
            f"decode.{modality}.{key} is {found}; change decode.{modality}.{key} "
            "(the samples are then decoded anew) or choose another teacher"
        )
