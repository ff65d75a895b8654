"""The teachers that a user brings, checked before anything starts."""

import inspect
import pickle
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from mke_ray.config import build
from mke_ray.config_schema import TeacherConfig
from mke_ray.errors import ConfigError, MkeRayError, StoreError
from mke_ray.expansion.averaged_views import check_average_views
from mke_ray.models.computing import Computing
from mke_ray.models.label_map import MappedTeacher
from mke_ray.models.teachers import Teacher, check_needs
from mke_ray.models.zero_shot import ZeroShotPictures, ZeroShotSound
from mke_ray.schema import DecodeSpec, LabelSpace

FIRST_NAME = "teacher"

_WAYS_OUT = {"teacher.network": "set teacher.train=true with a network of ours"}
_MAPPING = "teacher=mapped with a table, docs/teachers.md#classes-onto-classes"
_MAX_LETTERS = 300
_MEMBERS = ("modality", "needs", "predict", "fingerprint")
_TOLD_CLASSES = [
    f"{one.__module__}.{one.__qualname__}"
    for one in (MappedTeacher, ZeroShotPictures, ZeroShotSound)
]
# What loading weights raises that are not there, damaged or of another network.
_LOAD_ERRORS = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
    pickle.UnpicklingError,
    SafetensorError,
)


def with_classes(spec: Mapping[str, Any], label_space: LabelSpace) -> dict[str, Any]:
    """Return the specification of a teacher that is told the classes of the source.

    Only teachers that answer for whatever classes they are told get them, where theirs are null.

    Args:
        spec: ``_target_`` and the arguments of a teacher.
        label_space: The classes of the source.
    """
    is_told = spec.get("_target_") in _TOLD_CLASSES and spec.get("classes") is None
    return {**spec, "classes": list(label_space.classes)} if is_told else dict(spec)


def check_own_teacher(
    config: TeacherConfig, decode: DecodeSpec, label_space: LabelSpace, computing: Computing
) -> None:
    """Build the user's teacher, with its weights, and refuse one that does not fit the run.

    Args:
        config: The section ``teacher``.
        decode: What is stored of every modality.
        label_space: The classes of the source.
        computing: How it shall compute.

    Raises:
        ConfigError: It cannot be built or compute like that, reads another modality than the
            configuration says, or one of which there are no such views.
        StoreError: It needs more than is stored, or has other classes than the source.
    """
    built = _loaded(config.network, "teacher.network")
    if built.modality != config.modality:
        raise ConfigError(
            f"teacher.modality={config.modality}, but teacher.network reads "
            f"{built.modality!r}; set teacher.modality={built.modality}"
        )
    _check_fits(built, decode, label_space, "teacher.network")
    check_average_views(config, built.needs, decode, label_space.kind)
    computing.check(built, key="teacher.network")


def check_more_teachers(
    teachers: Mapping[str, Any], decode: DecodeSpec, label_space: LabelSpace, computing: Computing
) -> None:
    """Build the further teachers of a pass, with their weights, and refuse those that do not fit.

    Args:
        teachers: The section ``more_teachers``.
        decode: What is stored of every modality.
        label_space: The classes of the source.
        computing: How they shall compute.

    Raises:
        ConfigError: One cannot be built or compute like that.
        StoreError: One needs more than is stored, or has other classes than the source.
    """
    for name, spec in teachers.items():
        key = f"more_teachers.{name}"
        if name == FIRST_NAME:
            raise ConfigError(f"{key}: {name!r} is what the first one is called; name it otherwise")
        if not isinstance(spec, Mapping):
            raise ConfigError(f"{key}={spec!r}; give _target_ and the arguments of a teacher")
        built = _loaded(spec, key)
        try:
            _check_fits(built, decode, label_space, key)
        except StoreError as error:
            raise StoreError(f"{key}: {error}") from None
        computing.check(built, key=key)


def _check_fits(built: Teacher, decode: DecodeSpec, label_space: LabelSpace, key: str) -> None:
    """Refuse a teacher that needs more than is stored, or has other classes than the source."""
    check_needs(built, decode)
    space = getattr(built, "label_space", label_space)
    if space.kind != label_space.kind:
        raise StoreError(
            f"the teacher answers with labels of kind {space.kind}, the source's are "
            f"{label_space.kind}; set {key}.kind={label_space.kind} if it was trained so, or "
            f"map its classes ({_MAPPING})"
        )
    if space.classes != label_space.classes:
        raise StoreError(
            f"the teacher has the classes {list(space.classes)}, the source "
            f"{list(label_space.classes)}; they have to be the same, in the same order: "
            f"{_way_to_alike_classes(space, label_space)}"
        )


def _way_to_alike_classes(teacher: LabelSpace, source: LabelSpace) -> str:
    """Say how teacher and source come to have the same classes."""
    if sorted(teacher.classes) == sorted(source.classes):
        ordered = ",".join(teacher.classes)
        return (
            f"set source.classes=[{ordered}], where the source has that key, or map them "
            f"({_MAPPING})"
        )
    return f"correct source.classes, or map the teacher's ({_MAPPING})"


def _loaded(spec: Mapping[str, Any], key: str) -> Teacher:
    """Build a teacher, and ask what its weights are: one that loads them late does so then.

    Raises:
        ConfigError: There is no such class, or its arguments or its weights do not fit.
    """
    way_out = _WAYS_OUT.get(key, "leave it out")
    try:
        built: Teacher = build(spec)
        if missing := [name for name in _MEMBERS if not hasattr(built, name)]:
            raise ConfigError(
                f"{type(built).__name__} is not a Teacher: it has no {', '.join(missing)}"
            )
        built.fingerprint()
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}; correct it, or {way_out}") from error
    except _LOAD_ERRORS as error:
        said = " ".join(str(error).split())[:_MAX_LETTERS]
        raise ConfigError(
            f"{key}: {spec.get('_target_')} cannot be built: {type(error).__name__}: {said}; look "
            f"at its arguments and its weights, or {way_out}"
        ) from error
    return built


def answer_of(
    teacher: Teacher, arrays_BX: np.ndarray, *, key: str = "teacher.network"
) -> np.ndarray:
    """Return the logits [B, C] of a teacher of the user's.

    Args:
        teacher: The teacher.
        arrays_BX: Stored arrays [B, ...], as the pass gives them.
        key: Where it stands in the configuration.

    Raises:
        ConfigError: It fails, or answers with something that is no array; the error names the line.
    """
    try:
        with torch.inference_mode():
            return torch.as_tensor(teacher.predict(arrays_BX)).float().cpu().numpy()
    except MkeRayError:
        raise
    except Exception as error:  # code of the user's may raise anything; it is named, not hidden
        said = " ".join(str(error).split())[:_MAX_LETTERS]
        raise ConfigError(
            f"{key}: {type(teacher).__name__}.predict failed on an array of shape "
            f"{arrays_BX.shape} ({arrays_BX.dtype}): {type(error).__name__}: {said} "
            f"({_place(teacher, error)}); correct it"
        ) from error


def _place(teacher: Teacher, error: BaseException) -> str:
    """Return file and line of an error: the last ones in the teacher's own file, if it is there."""
    frames = traceback.extract_tb(error.__traceback__)
    own = inspect.getsourcefile(type(teacher))
    frame = next((one for one in reversed(frames) if one.filename == own), frames[-1])
    return f"{frame.filename}, line {frame.lineno}"
