"""A student that is served: loaded from its folder, with what it reads and what it says."""

# B samples, C classes, H height, W width.

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.special import expit, softmax

from mke_ray import __version__
from mke_ray.data.codec import empty_modality
from mke_ray.errors import ConfigError
from mke_ray.models.device import checked_device
from mke_ray.models.weights import LoadedStudent, load_student
from mke_ray.schema import MASK, DecodeSpec, LabelKind, decode_spec_from_dict, decode_spec_to_dict
from mke_ray.serve.decoding import DecodedSample
from mke_ray.storage import open_root

_WAY_OUT = "num_gpus=0"


@dataclass(slots=True)
class ServedStudent:
    """A student on its device.

    Args:
        loaded: The student.
        decode: What is read of each of its modalities.
        device: Device that it computes on.
    """

    loaded: LoadedStudent
    decode: DecodeSpec
    device: torch.device

    @torch.inference_mode()
    def predict(self, samples: Sequence[DecodedSample]) -> list[np.ndarray]:
        """Return the logits of samples [C], or of dense labels [C, H, W], as one batch."""
        arrays, present = {}, {}
        for name, spec in self.decode.items():
            rows = [one.arrays.get(name) for one in samples]
            filled = [empty_modality(spec) if row is None else row for row in rows]
            arrays[name] = torch.from_numpy(np.stack(filled)).to(self.device)
            there = [row is not None for row in rows]
            present[name] = torch.tensor(there, dtype=torch.bool, device=self.device)
        return list(self.loaded.student(arrays, present).float().cpu().numpy())

    def answer(self, logits: np.ndarray) -> dict[str, Any]:
        """Return what logits say: classes and probabilities, or a class map as PNG.

        Args:
            logits: Of one sample [C], or of dense labels [C, H, W].
        """
        space = self.loaded.label_space
        if space.kind is LabelKind.DENSE:
            buffer = io.BytesIO()
            Image.fromarray(logits.argmax(axis=0).astype(np.uint8)).save(buffer, format="PNG")
            return {"class_map_png": base64.b64encode(buffer.getvalue()).decode()}
        scaled_C = logits.astype(np.float64) / self.loaded.temperature
        is_multi = space.kind is LabelKind.MULTI
        probability_C = expit(scaled_C) if is_multi else softmax(scaled_C)
        named = np.flatnonzero(scaled_C > 0) if is_multi else [int(scaled_C.argmax())]
        return {
            "classes": [space.classes[one] for one in named],
            "probabilities": dict(zip(space.classes, probability_C.tolist(), strict=True)),
        }

    def card(self) -> dict[str, Any]:
        """Return what a user of the student has to know."""
        loaded = self.loaded
        gate = loaded.extra.get("gate")
        return {
            "digest": loaded.digest,
            "kind": str(loaded.label_space.kind),
            "classes": list(loaded.label_space.classes),
            "modalities": decode_spec_to_dict(self.decode),
            "temperature": loaded.temperature,
            "promoted": None if gate is None else bool(gate["promoted"]),
            "verdict": None if gate is None else gate["verdict"],
            "reason": None if gate is None else gate["reason"],
            "versions": {"mke_ray": __version__, "torch": torch.__version__},
        }


def load_served(
    folder: str,
    *,
    device: str = "cpu",
    classes: Mapping[str, type] | None = None,
    decode: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> ServedStudent:
    """Load an exported student.

    Args:
        folder: Its folder, local or in an object store.
        device: Device to compute on.
        classes: The user's own encoders and fusions by ``_target_``.
        decode: Plain decode specification; None takes that which the student was saved with.
        options: Options of the file system of the folder.

    Raises:
        StoreError: The folder holds no student.
        ConfigError: Nothing says how its modalities are read, or the device does not compute.
    """
    loaded = load_student(open_root(folder, options, key="folder"), classes=classes, key="folder")
    plain = decode or loaded.extra.get("decode")
    if plain is None:
        raise ConfigError(
            f"folder={folder} was saved without its decode specification; give it as "
            "modalities, as the run has it, or export the student again"
        )
    whole = decode_spec_from_dict({name: one for name, one in plain.items() if name != MASK})
    names = loaded.student.modalities
    if missing := sorted(set(names) - set(whole)):
        raise ConfigError(
            f"folder={folder} reads {missing}, of which the decode specification says nothing (it "
            f"has {sorted(whole)}); give modalities"
        )
    on = checked_device(device, way_out=_WAY_OUT)
    loaded.student.to(on)
    return ServedStudent(loaded, {name: whole[name] for name in names}, on)
