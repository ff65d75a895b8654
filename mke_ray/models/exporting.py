"""A student as one file that other runtimes read: ONNX, or a program of torch.export."""

# B samples, C classes, M modalities, X any; of dense labels logits are [B, C, H, W].

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.decode_spec import (
    ModalitySpec,
    TokenSpec,
    decode_spec_from_dict,
    stored_dtype,
    stored_shape,
)
from mke_ray.errors import ConfigError
from mke_ray.models.student import Network
from mke_ray.models.weights import LoadedStudent

FORMATS = {"onnx": "student.onnx", "torch": "student.pt2"}
PRESENT_SUFFIX = "_present"
OUTPUTS = ("logits", "probabilities")

_NUM_EXAMPLES = 3
_CHECKED_WITH = (1, 5)
_TOLERANCE = 1e-3
_CHATTY = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
_EXPORT_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError)


class StudentProgram(nn.Module):
    """A student whose inputs have an order: arrays of all modalities, then which are present.

    Args:
        loaded: The student.
    """

    def __init__(self, loaded: LoadedStudent) -> None:
        super().__init__()
        self.student: Network = loaded.student
        self.modalities = loaded.student.modalities
        self._calibrated = loaded.probabilities

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""
        return [*self.modalities, *(name + PRESENT_SUFFIX for name in self.modalities)]

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and calibrated probabilities [B, C].

        Args:
            given: Stored arrays [B, ...] of the modalities in order, and for each of them whether
                a sample has it [B], bool. What stands in the array of a sample without it does not
                matter.
        """
        num = len(self.modalities)
        arrays = dict(zip(self.modalities, given[:num], strict=True))
        present = dict(zip(self.modalities, given[num:], strict=True))
        logits_BC = self.student(arrays, present).float()
        return logits_BC, self._calibrated(logits_BC)


def exported(loaded: LoadedStudent, *, format: str = "onnx") -> dict[str, bytes]:
    """Return the files of a student in another format, compared with the student before.

    Inputs are named after the modalities and ``<modality>_present``, outputs ``logits`` and
    ``probabilities``; the number of samples is free. Classes, temperature and what the arrays hold
    are in the metadata of the file.

    Args:
        loaded: The student, which is moved to the CPU.
        format: ``onnx`` or ``torch``.

    Returns:
        The content of the files by their names, the first of which is the network; a network of
        gigabytes has its weights in files beside it.

    Raises:
        ConfigError: The format is unknown, what it needs is not installed, the network cannot be
            written in it, or does not compute the same there.
        StoreError: The student was saved without its decode specification.
    """
    if format not in FORMATS:
        raise ConfigError(f"format={format!r}; choose one of {sorted(FORMATS)}")
    loaded.student.to("cpu").eval()
    program = StudentProgram(loaded).eval()
    specs = decode_spec_from_dict(loaded.decode)
    about = json.dumps(
        {
            **loaded.label_space.to_dict(),
            "temperature": loaded.temperature,
            "sha256": loaded.digest,
            "decode": loaded.decode,
        }
    )
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="mke_ray_export_") as folder:
        path = os.path.join(folder, FORMATS[format])
        try:
            traced = _traced(program, specs)
            if format == "onnx":
                _write_onnx(traced, program, path, about)
            else:
                torch.export.save(traced, path, extra_files={"mke_ray.json": about})
        except _EXPORT_ERRORS as error:
            raise ConfigError(_why_not(loaded, format, error)) from error
        run = _run_onnx(path) if format == "onnx" else _run_program(path)
        _check_same(program, specs, run, format)
        names = sorted(os.listdir(folder), key=lambda name: name != FORMATS[format])
        return {name: _content(os.path.join(folder, name)) for name in names}


def example_inputs(
    modalities: Sequence[str], specs: Mapping[str, ModalitySpec], num_samples: int, seed: int = 0
) -> list[Tensor]:
    """Return random inputs of a ``StudentProgram``, some modalities missing.

    Args:
        modalities: What the student reads.
        specs: What their arrays hold.
        num_samples: Samples B.
        seed: What they are drawn from.
    """
    generator = np.random.default_rng(seed)
    arrays, present = [], []
    for number, name in enumerate(modalities):
        arrays.append(torch.from_numpy(_drawn(specs[name], num_samples, generator)))
        has_B = (np.arange(num_samples) + number) % (len(modalities) + 1) != 0
        present.append(torch.from_numpy(has_B))
    return [*arrays, *present]


def _drawn(spec: ModalitySpec, num_samples: int, generator: np.random.Generator) -> np.ndarray:
    """Return random arrays of a modality [B, ...]."""
    shape, dtype = (num_samples, *stored_shape(spec)), stored_dtype(spec)
    if isinstance(spec, TokenSpec):
        return generator.integers(0, min(spec.num_ids, 1000), shape).astype(dtype)
    if dtype == "uint8":
        return generator.integers(0, 256, shape).astype(dtype)
    return generator.uniform(-1.0, 1.0, shape).astype(dtype)


def _traced(
    program: StudentProgram, specs: Mapping[str, ModalitySpec]
) -> torch.export.ExportedProgram:
    """Return the program of any number of samples."""
    inputs = tuple(example_inputs(program.modalities, specs, _NUM_EXAMPLES))
    free = tuple({0: torch.export.Dim("batch", min=1)} for _ in inputs)
    with torch.no_grad():
        return torch.export.export(program, inputs, dynamic_shapes=(free,), strict=False)


def _write_onnx(
    traced: torch.export.ExportedProgram, program: StudentProgram, path: str, about: str
) -> None:
    """Write a program as ONNX.

    Raises:
        ConfigError: What writes it is not installed.
    """
    try:
        made = torch.onnx.export(
            traced,
            dynamo=True,
            verbose=False,
            input_names=program.inputs,
            output_names=list(OUTPUTS),
        )
    except ImportError as error:
        raise _not_installed(error) from error
    assert made is not None  # that is what dynamo=True returns
    made.model.metadata_props["mke_ray"] = about
    made.save(path)


def _run_onnx(path: str) -> Any:
    """Return what computes the file by onnxruntime."""
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise _not_installed(error) from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> list[np.ndarray]:
        named = zip(session.get_inputs(), inputs, strict=True)
        given = {one.name: value.numpy() for one, value in named}
        return [np.asarray(one) for one in session.run(list(OUTPUTS), given)]

    return run


def _run_program(path: str) -> Any:
    """Return what computes a file that this process has just written."""
    module = torch.export.load(path).module()

    @torch.no_grad()
    def run(inputs: Sequence[Tensor]) -> list[np.ndarray]:
        return [one.numpy() for one in module(*inputs)]

    return run


@torch.no_grad()
def _check_same(
    program: StudentProgram, specs: Mapping[str, ModalitySpec], run: Any, format: str
) -> None:
    """Refuse a file that computes something else than the student, at any number of samples.

    Differences are measured by the largest value, since the probabilities of many classes are all
    small.

    Raises:
        ConfigError: It does.
    """
    for num_samples in _CHECKED_WITH:
        inputs = example_inputs(program.modalities, specs, num_samples, seed=num_samples)
        expected = [one.numpy() for one in program(*inputs)]
        for name, one, wanted in zip(OUTPUTS, run(inputs), expected, strict=True):
            largest = float(np.abs(wanted).max())
            scale = max(1.0, largest) if name == OUTPUTS[0] else largest
            off = float(np.abs(one - wanted).max()) / scale
            if not off <= _TOLERANCE:
                raise ConfigError(
                    f"format={format}: with {num_samples} samples the file gives {name} that "
                    f"differ by up to {off:.2g} of the largest from those of the student; its "
                    "network does not translate, so use load_student"
                )


def _not_installed(error: ImportError) -> ConfigError:
    return ConfigError(f"format=onnx: {error.name} is missing; pip install 'mke-ray[onnx]'")


def _why_not(loaded: LoadedStudent, format: str, error: Exception) -> str:
    """Return why a network cannot be written, in one line."""
    said = " ".join(str(error).split())[:300]
    parts = {name: one.get("type", one.get("_target_")) for name, one in _parts(loaded).items()}
    return (
        f"format={format}: a network of {parts} cannot be written in it ({type(error).__name__}: "
        f"{said}); try the other format, or use load_student"
    )


def _parts(loaded: LoadedStudent) -> dict[str, Mapping[str, Any]]:
    return {**loaded.spec["encoders"], "fusion": loaded.spec["fusion"]}


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
