"""Parts of a network from plain data of a closed vocabulary, or from classes of the user's."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from mke_ray.errors import ConfigError

Build = Callable[..., object]


def build_part(
    key: str,
    spec: Mapping[str, Any] | None,
    vocabulary: Mapping[str, Callable[..., nn.Module]],
    build: Build | None,
    extra: dict[str, Any],
) -> nn.Module:
    """Build an encoder or a fusion from its own part of the specification.

    Args:
        key: Where it stands in the configuration.
        spec: ``type`` and its arguments, or ``_target_`` and its arguments.
        vocabulary: The classes that a ``type`` may name.
        build: Builds a ``_target_``: ``build(spec, **extra)``.
        extra: Arguments that the specification does not have.

    Raises:
        ConfigError: A type, key or value is not in the vocabulary.
    """
    spec = spec or {}
    if "_target_" in spec:
        return _build_target(key, spec, build, extra)
    kind = str(spec.get("type"))
    if kind not in vocabulary:
        raise ConfigError(f"{key}.type is {kind!r}; choose one of {sorted(vocabulary)}")
    settings = {name: value for name, value in spec.items() if name != "type"}
    parameters = inspect.signature(vocabulary[kind]).parameters
    check_keys(key, settings, [name for name in parameters if name not in extra])
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in {*settings, *extra}:
            raise ConfigError(f"{key}.{name} is missing; type {kind!r} needs it")
    return vocabulary[kind](**extra, **settings)


def build_encoders(
    specs: Mapping[str, Any] | None,
    vocabulary: Mapping[str, Callable[..., nn.Module]],
    build: Build | None,
) -> dict[str, nn.Module]:
    """Build the encoder of every modality, in order of their names.

    Raises:
        ConfigError: There is none, or one is not in the vocabulary.
    """
    if not specs:
        raise ConfigError("student.encoders is empty; name at least one modality and its encoder")
    encoders = {}
    for modality, one in sorted(specs.items()):
        _check_modality(modality)
        key = f"student.encoders.{modality}"
        encoders[modality] = build_part(key, one, vocabulary, build, {"modality": modality})
    return encoders


def checked_dropout(spec: Mapping[str, Any]) -> float:
    """Return the dropout of a specification.

    Raises:
        ConfigError: It is no share.
    """
    dropout = spec.get("dropout", 0.0)
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"student.dropout is {dropout}; give a share from 0 to below 1")
    return dropout


def check_keys(key: str, spec: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise when a key is not in the vocabulary.

    Raises:
        ConfigError: It names the key.
    """
    for name in spec:
        if name not in known:
            raise ConfigError(f"{key}.{name} is no such key; choose from {sorted(known)}")


def _build_target(
    key: str, spec: Mapping[str, Any], build: Build | None, extra: dict[str, Any]
) -> nn.Module:
    """Build a part that is a class of the user's."""
    if build is None:
        raise ConfigError(
            f"{key} is the class {spec['_target_']!r}, which is not part of mke_ray; pass it, for "
            f"example load_student(path, classes={{{spec['_target_']!r}: TheClass}})"
        )
    part = build(spec, **extra)
    if not isinstance(part, nn.Module):
        raise ConfigError(f"{key}._target_={spec['_target_']!r} is not a torch.nn.Module")
    return part


def _check_modality(modality: str) -> None:
    """Raise when a modality cannot name a part of a network."""
    if not modality.isidentifier() or hasattr(nn.ModuleDict, modality):
        raise ConfigError(
            f"student.encoders.{modality}: a modality is named by letters, digits and "
            "underscores, and not like a method of torch.nn.ModuleDict; choose another name"
        )
