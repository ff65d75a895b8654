"""Teachers that are whole programs in a file: ONNX, TorchScript and torch.export."""

# B samples, K classes, X any.

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mke_ray.errors import ConfigError
from mke_ray.models.array_form import ArrayForm, form_of
from mke_ray.models.device import checked_device
from mke_ray.models.onnx_files import weight_files
from mke_ray.pretrained_folders import file_digest, optional_library
from mke_ray.schema import IGNORE, LabelKind, LabelSpace, fingerprint

_NUMBERS = {"float": np.float32, "float16": np.float16, "double": np.float64, "uint8": np.uint8}


class OnnxTeacher:
    """A network in an ONNX file, computed by onnxruntime.

    Args:
        path: The file.
        modality: Name of the modality.
        form: Arguments of ``ArrayForm``: what the input is made of, and what the answer is; has to
            be given.
        classes: Classes in logit order; None takes those of the source for granted.
        kind: Kind of labels.
        needs: What else has to be stored, for example ``{sample_rate_hz: 16000}``.
        names: ``input`` and ``output``, where the network has several of them.
        constants: Values of further inputs by their names.
        providers: Execution providers in order; the first has to be there.
        batch_size: Arrays that are computed at once, unless the file fixes that.

    Raises:
        ConfigError: There is no such file, it lacks weights that it keeps beside it, or it has
            other inputs, outputs or providers.
    """

    def __init__(  # noqa: PLR0913
        self,
        path: str,
        *,
        modality: str,
        form: Mapping[str, Any] | None = None,
        classes: Sequence[str] | None = None,
        kind: str = LabelKind.SINGLE.value,
        needs: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        batch_size: int = 32,
    ) -> None:
        _check_file(path)
        self.modality = modality
        self._form = form_of(form)
        self.needs = needs_of_form(self._form, needs)
        self._kind = LabelKind(kind)
        give_label_space(self, classes, self._kind)
        digests = _digests(path)
        self._session = _session(path, providers)
        self._constants = dict(constants or {})
        wanted = dict(names or {})
        inputs = [one for one in self._session.get_inputs() if one.name not in self._constants]
        self._input = _named(path, "input", inputs, wanted.get("input"))
        self._output = _named(path, "output", self._session.get_outputs(), wanted.get("output"))
        fixed = self._input.shape[0] if self._form.axes[0] == "B" else None
        self._batch_size = fixed if isinstance(fixed, int) else batch_size
        self._is_fixed = isinstance(fixed, int)
        said = [dict(form or {}), wanted, self._constants, list(providers), kind]
        self._fingerprint = fingerprint({"onnx": digests, "said": repr(said)})

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, K]."""
        is_multi = self._kind == LabelKind.MULTI
        return self._form.answered(arrays_BX, self._answers, is_multi=is_multi).numpy()

    def fingerprint(self) -> str:
        """Return a hash of the file and of the arguments that matter."""
        return self._fingerprint

    def _answers(self, x_BX: Tensor) -> Tensor:
        """Return the answers for an input, in batches."""
        return in_parts(x_BX.cpu(), self._batch_size, self._run, is_fixed=self._is_fixed)

    def _run(self, x_BX: Tensor) -> Tensor:
        values = {self._input.name: x_BX.numpy().astype(_number(self._input.type))}
        for one in self._session.get_inputs():
            if one.name in self._constants:
                number = np.int64 if "int" in one.type else _number(one.type)
                values[one.name] = np.asarray(self._constants[one.name], number)
        return torch.from_numpy(np.asarray(self._session.run([self._output.name], values)[0]))


class ProgramTeacher:
    """A network in a file of TorchScript, or of ``torch.export`` (``.pt2``).

    Both hold a program, and loading one of ``torch.export`` unpickles as well, so that the user has
    to say that the file is trusted.

    Args:
        path: The file; ``.pt2`` is of ``torch.export``, any other one TorchScript.
        modality: Name of the modality.
        form: Arguments of ``ArrayForm``: what the input is made of, and what the answer is; has to
            be given.
        trust: Whether code from this file may run.
        classes: Classes in logit order; None takes those of the source for granted.
        kind: Kind of labels.
        needs: What else has to be stored, for example ``{sample_rate_hz: 16000}``.
        device: Device to compute on, first touched by ``predict``.
        batch_size: Arrays that are computed at once.

    Raises:
        ConfigError: There is no such file, it is not trusted, or holds no program.
    """

    def __init__(  # noqa: PLR0913
        self,
        path: str,
        *,
        modality: str,
        form: Mapping[str, Any] | None = None,
        trust: bool = False,
        classes: Sequence[str] | None = None,
        kind: str = LabelKind.SINGLE.value,
        needs: Mapping[str, Any] | None = None,
        device: str = "cpu",
        batch_size: int = 32,
    ) -> None:
        _check_file(path)
        if trust is not True:
            raise ConfigError(
                f"path={path} is a program: loading and running it runs code that whoever made it "
                "chose, on every worker; set trust=true if you trust its origin, or bring the "
                "network as safetensors or ONNX"
            )
        self.modality = modality
        self._form = form_of(form)
        self.needs = needs_of_form(self._form, needs)
        self._kind = LabelKind(kind)
        give_label_space(self, classes, self._kind)
        self._path, self._device_name, self._batch_size = path, device, batch_size
        said = {"form": repr(dict(form or {})), "kind": kind}
        self._fingerprint = fingerprint({"program": file_digest(path), **said})
        self.network: torch.nn.Module = _program(path)

    @torch.inference_mode()
    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, K]."""
        x_BX = torch.as_tensor(arrays_BX)
        is_multi = self._kind == LabelKind.MULTI
        return self._form.answered(x_BX, self._answers, is_multi=is_multi).cpu().numpy()

    def fingerprint(self) -> str:
        """Return a hash of the file and of the arguments that matter."""
        return self._fingerprint

    def _answers(self, x_BX: Tensor) -> Tensor:
        def run(part_BX: Tensor) -> Tensor:
            return self.network(part_BX.to(self._device)).cpu()

        return in_parts(x_BX, self._batch_size, run, is_fixed=False)

    @cached_property
    def _device(self) -> torch.device:
        device = checked_device(self._device_name)
        self.network.to(device)
        return device


def in_parts(
    x_BX: Tensor, batch_size: int, run: Callable[[Tensor], Tensor], *, is_fixed: bool
) -> Tensor:
    """Return the answers of a network for an input, computed in batches.

    Args:
        x_BX: The input.
        batch_size: Arrays of a batch.
        run: The network.
        is_fixed: Whether every batch has to be whole; the last one is then filled up.
    """
    said = []
    for part_BX in x_BX.split(batch_size):
        lacking = batch_size - len(part_BX) if is_fixed else 0
        filled = torch.cat([part_BX, part_BX[-1:].expand(lacking, *part_BX.shape[1:])])
        said.append(run(filled)[: len(part_BX)])
    return torch.cat(said)


def needs_of_form(form: ArrayForm, needs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what has to be stored for a form."""
    least = {} if form.num_frames is None else {"num_frames": form.num_frames}
    return {"kind": form.stored, **least, **(needs or {})}


def give_label_space(teacher: Any, classes: Sequence[str] | None, kind: LabelKind) -> None:
    """Set the label space of a teacher that was told its classes."""
    if classes is not None:
        ignore = IGNORE if kind == LabelKind.DENSE else None
        teacher.label_space = LabelSpace(tuple(classes), kind, ignore)


def _check_file(path: str) -> None:
    if not os.path.isfile(path):
        raise ConfigError(f"path={path} does not exist here; name a file that every node has")


def _digests(path: str) -> list[str]:
    """Return the digests of an ONNX file and of the weights that lie beside it."""
    found = [one for one in (path, f"{path}.data", f"{path}_data") if os.path.isfile(one)]
    further = [one for one in weight_files(path) if one not in found]
    return [file_digest(one) for one in (*found, *further)]


def _session(path: str, providers: Sequence[str]) -> Any:
    """Return a session of onnxruntime with as many threads as torch has here."""
    library = optional_library("onnxruntime", "onnx")
    if not providers or providers[0] not in library.get_available_providers():
        raise ConfigError(
            f"providers={list(providers)}; this onnxruntime has "
            f"{library.get_available_providers()}, and another one would be taken without a word"
        )
    options = library.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return library.InferenceSession(path, options, providers=list(providers))
    except Exception as error:  # onnxruntime has an error class per cause, none of them public
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"path={path} is no network that onnxruntime reads: {said}") from error


def _named(path: str, role: str, found: Sequence[Any], name: str | None) -> Any:
    """Return an input or output by its name, or the only one there is."""
    known = [one.name for one in found]
    if name is None and len(found) == 1:
        return found[0]
    if name not in known:
        raise ConfigError(
            f"{path} has the {role}s {known}; set names.{role} to one of them, not {name}"
            + (", and the others in constants" if role == "input" else "")
        )
    return found[known.index(name)]


def _number(kind: str) -> Any:
    """Return the numpy type of an ONNX type such as ``tensor(float)``."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    if name not in _NUMBERS:
        raise ConfigError(f"the network wants {kind}; inputs may be {sorted(_NUMBERS)}")
    return _NUMBERS[name]


def _program(path: str) -> torch.nn.Module:
    """Return the program of a trusted file."""
    try:
        if path.endswith(".pt2"):
            return torch.export.load(path).module()
        return torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"path={path} holds no program that torch reads: {said}") from error
