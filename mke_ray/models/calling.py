"""A teacher that is any function of the user's."""

# B samples, C classes, X any.

import importlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mke_ray.errors import ConfigError
from mke_ray.models.programs import give_label_space
from mke_ray.pretrained_folders import file_digest
from mke_ray.schema import LabelKind, fingerprint


class CallableTeacher:
    """A function of stored arrays, found by its dotted name.

    Its fingerprint holds the digest of the file that the function is in and of the files that it is
    said to read; what else may change its answers is said by ``version``.

    Args:
        function: ``package.module.function``, from a package in ``allow_targets``; called with the
            arrays [B, ...] as they are stored, and with ``settings``.
        modality: Name of the modality.
        needs: What has to be stored, ``{"kind": "audio", "sample_rate_hz": 16000}``; has to be
            given.
        classes: Classes in logit order; None takes those of the source for granted.
        kind: Kind of labels.
        settings: Further arguments by name. The fingerprint has the content of a file or folder
            that one names by its absolute path, as those below ``path``, ``table`` and ``files``
            are given.
        files: Files that it reads: weights, tables.
        version: Any text; another one labels anew.

    Raises:
        ConfigError: There is no such function, a file is missing, or nothing says what is needed.
    """

    def __init__(  # noqa: PLR0913
        self,
        function: str,
        *,
        modality: str,
        needs: Mapping[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        kind: str = LabelKind.SINGLE.value,
        settings: Mapping[str, Any] | None = None,
        files: Sequence[str] = (),
        version: str = "",
    ) -> None:
        if not needs or "kind" not in needs:
            raise ConfigError(
                f"needs={needs}: a function does not say what it reads; give needs.kind, the kind "
                "of the stored array, and what else has to hold of it, as in "
                "needs={kind: audio, sample_rate_hz: 16000}"
            )
        self.modality = modality
        self.needs = dict(needs)
        give_label_space(self, classes, LabelKind(kind))
        self._name = function
        self._settings = dict(settings or {})
        self._files, self._said = list(files), {"kind": kind, "version": str(version)}
        _ = self._function

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C] of stored arrays."""
        said = torch.as_tensor(self._function(arrays_BX, **self._settings))
        return said.to(device="cpu", dtype=torch.float32).numpy()

    def fingerprint(self) -> str:
        """Return a hash of the function's file, of the files it reads and of its settings."""
        return fingerprint(
            {
                "function": self._name,
                "source": _source_digest(self._function, self._said["version"]),
                "files": [_digest(one) for one in self._files],
                "settings": repr(sorted(_by_content(self._settings).items())),
                **self._said,
            }
        )

    @cached_property
    def _function(self) -> Callable[..., Any]:
        """The function, imported when it is first needed in a process."""
        module, _, name = self._name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(
                f"function={self._name} cannot be imported: {error}; write package.module.function"
            ) from error
        if not callable(found):
            raise ConfigError(f"function={self._name} is no function but {type(found).__name__}")
        return found


def _by_content(value: Any) -> Any:
    """Return a setting with the digest of every file or folder in the place of its path."""
    if isinstance(value, Mapping):
        return {name: _by_content(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_by_content(child) for child in value]
    if not isinstance(value, str) or not os.path.isabs(value) or not os.path.exists(value):
        return value
    files = [value] if os.path.isfile(value) else _files_below(value)
    return [(os.path.relpath(one, value), _digest(one)) for one in files]


def _files_below(folder: str) -> list[str]:
    return sorted(
        os.path.join(where, name) for where, _, names in os.walk(folder) for name in names
    )


def _digest(path: str) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise ConfigError(f"files: {path} cannot be read: {error}") from error


def _source_digest(function: Callable[..., Any], version: str) -> str:
    """Return the digest of the file that a function is in.

    Raises:
        ConfigError: It is in none, and no version says what it is.
    """
    try:
        source = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        source = None
    if source is not None:
        return file_digest(source)
    if not version:
        raise ConfigError(f"{function!r} has no source file; set version, and change it with it")
    return ""
