"""A student as files: weights in safetensors, a typed specification in JSON, a model card."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from mke_ray.errors import ConfigError, StoreError
from mke_ray.models.backbone_spec import portable
from mke_ray.models.building import Build
from mke_ray.models.probabilities import probabilities
from mke_ray.models.student import Network, build_student
from mke_ray.schema import FORMAT_VERSION, LabelSpace
from mke_ray.storage import Root, open_root

WEIGHTS_NAME = "student.safetensors"
SPEC_NAME = "student.json"
CARD_NAME = "README.md"


@dataclass(slots=True)
class LoadedStudent:
    """A student and what is needed to use it.

    Args:
        student: The network in evaluation mode.
        label_space: Names of the classes in logit order.
        temperature: Divide logits by it before the softmax or sigmoid.
        spec: Plain specification that the network was built from.
        digest: SHA-256 of the weights.
        extra: What else was saved with it.
    """

    student: Network
    label_space: LabelSpace
    temperature: float
    spec: dict[str, Any]
    digest: str
    extra: dict[str, Any]

    @property
    def decode(self) -> dict[str, dict[str, Any]]:
        """What a sample's arrays hold, per modality that the student reads, as ``decode``.

        ``mke_ray.data.one_sample.read_sample`` reads a clip into such arrays.

        Raises:
            StoreError: It was saved without.
        """
        known = self.extra.get("decode")
        if known is None:
            raise StoreError(
                "the student was saved without the decode specification of its samples "
                "(extra.decode); export it again with jobs/evaluate.py"
            )
        return {name: dict(known[name]) for name in self.student.modalities}

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        """Return calibrated probabilities of logits [B, C], of dense labels [B, C, H, W]."""
        return probabilities(logits_BC, self.label_space.kind, self.temperature)


def student_files(
    student: Network,
    *,
    spec: Mapping[str, Any],
    label_space: LabelSpace,
    temperature: float = 1.0,
    card: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """Return the files of a student by name; the specification is last, since it completes them.

    Args:
        student: The network; weights and normalisation statistics are saved.
        spec: Plain specification that it was built from; files that pretrained encoders started
            from are not in what is saved.
        label_space: Names of the classes in logit order.
        temperature: Temperature fitted on labelled data.
        card: Text of the model card; None for a short one.
        extra: Plain data to keep with it.
    """
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()
    }
    weights = safetensors.torch.save(state)
    plain = {
        "format_version": FORMAT_VERSION,
        "spec": portable(spec),
        "label_space": label_space.to_dict(),
        "temperature": temperature,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "extra": dict(extra or {}),
    }
    text = card if card is not None else _short_card(student, label_space)
    return {
        WEIGHTS_NAME: weights,
        CARD_NAME: text.encode(),
        SPEC_NAME: json.dumps(plain, indent=2).encode(),
    }


def save_student(
    folder: str | Path | Root,
    student: Network,
    *,
    spec: Mapping[str, Any],
    label_space: LabelSpace,
    temperature: float = 1.0,
    card: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a student to a folder; the arguments are those of ``student_files``."""
    root = folder if isinstance(folder, Root) else open_root(str(folder))
    files = student_files(
        student,
        spec=spec,
        label_space=label_space,
        temperature=temperature,
        card=card,
        extra=extra,
    )
    for name, content in files.items():
        root.write(name, content)


def load_student(
    path: str | Path | Root, *, classes: Mapping[str, type] | None = None, key: str = ""
) -> LoadedStudent:
    """Load an exported student or a finished fit, with no other part of its run.

    Args:
        path: Folder, local or in an object store.
        classes: The user's own encoders and fusions by the ``_target_`` of the specification;
            no class is ever found by a name that was read from a file.
        key: Configuration key that names the folder, for the error.

    Raises:
        StoreError: A file is missing, damaged, of another format, or does not fit the others.
        ConfigError: The specification names a class that is not in ``classes``.
    """
    root = path if isinstance(path, Root) else open_root(str(path))
    plain = _read_spec(root, key)
    weights = _read(root, WEIGHTS_NAME, key)
    digest = hashlib.sha256(weights).hexdigest()
    if digest != plain["sha256"]:
        raise StoreError(
            f"{root.uri}/{WEIGHTS_NAME} has SHA-256 {digest} but {SPEC_NAME} says "
            f"{plain['sha256']}: one of them is damaged or of another student; export it again"
        )
    label_space = LabelSpace.from_dict(plain["label_space"])
    student = build_student(plain["spec"], label_space.num_classes, build=_builder(classes))
    _load_weights(student, weights, f"{root.uri}/{WEIGHTS_NAME}")
    return LoadedStudent(
        student.eval(), label_space, plain["temperature"], plain["spec"], digest, plain["extra"]
    )


def _read_spec(root: Root, key: str) -> dict[str, Any]:
    """Return the content of the specification file."""
    try:
        plain = json.loads(_read(root, SPEC_NAME, key))
    except ValueError as error:
        raise StoreError(f"{root.uri}/{SPEC_NAME} is not JSON: {error}; export it again") from None
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{root.uri}/{SPEC_NAME} has format_version {version}, this mke_ray reads "
            f"{FORMAT_VERSION}; export the student again"
        )
    missing = {"spec", "label_space", "temperature", "sha256", "extra"} - set(plain)
    if missing:
        raise StoreError(f"{root.uri}/{SPEC_NAME} lacks {sorted(missing)}; export it again")
    return plain


def _read(root: Root, name: str, key: str) -> bytes:
    """Return a file of the folder."""
    try:
        return root.read(name)
    except FileNotFoundError:
        given = f"{key}={root.uri}" if key else root.uri
        raise StoreError(
            f"{given} holds no student: {name} is missing; name the folder that has {SPEC_NAME} "
            f"and {WEIGHTS_NAME}, student/ below the root of a run. A run that is not finished, or "
            "whose gate kept the teacher, has none: see report/ there; networks lie below fits/"
        ) from None


def _builder(classes: Mapping[str, type] | None) -> Build | None:
    """Return what builds the user's own classes, from those given and no others."""
    if not classes:
        return None

    def build(spec: Mapping[str, Any], **extra: Any) -> object:
        target = spec["_target_"]
        if target not in classes:
            raise ConfigError(
                f"the student needs the class {target!r} but classes has {sorted(classes)}; "
                f"add it to classes"
            )
        settings = {name: value for name, value in spec.items() if name != "_target_"}
        return classes[target](**settings, **extra)

    return build


def _load_weights(student: Network, weights: bytes, name: str) -> None:
    """Put the weights into a network, all of them and no others."""
    try:
        student.load_state_dict(safetensors.torch.load(weights))
    except (SafetensorError, RuntimeError) as error:
        raise StoreError(f"{name} does not fit its specification: {error}") from error


def _short_card(student: Network, label_space: LabelSpace) -> str:
    """Return a model card that says how to load the student."""
    return (
        "# A student of mke_ray\n\n"
        f"Modalities: {', '.join(student.modalities)}. "
        f"Classes: {', '.join(label_space.classes)}.\n\n"
        "```python\nfrom mke_ray.data.one_sample import read_sample\n"
        "from mke_ray.models import load_student\n\n"
        'loaded = load_student("path/of/this/folder")\n'
        'arrays, present = read_sample("clip.mp4", loaded.decode)\n'
        "logits = loaded.student(arrays, present)\n```\n"
    )
