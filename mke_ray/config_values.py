"""Configurations composed anew with other values: those of a trial, and those of a winner."""

import copy
import json
import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

import fsspec
import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mke_ray.config_help import dotted_keys, nearest
from mke_ray.errors import ConfigError

WINNER = "winner"

_NAMED = re.compile(r"^[~+]*([\w./-]+)(?:@[\w.]+)?(?:=|$)")
_OVERRIDE = "override /"
_CONFIG_NAME = "config"
_ABSENT = object()


def with_winner(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return a configuration with the values of a winner, where ``+winner=FILE`` names one.

    What the command line says of a key counts more than what the winner says.

    Args:
        cfg: The composed configuration.
        overrides: Its command line.

    Raises:
        ConfigError: The file is none of a winner.
    """
    if OmegaConf.select(cfg, WINNER, default=None) is None:
        return cfg
    return recomposed(*without_winner(overrides))


def without_winner(overrides: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return a command line without ``+winner=FILE``, and the values of the winner it lacks.

    Args:
        overrides: The command line.
    """
    lines = [one for one in overrides if named(one) != WINNER]
    files = [one.partition("=")[2] for one in overrides if named(one) == WINNER]
    values = winner_values(files[-1].strip("'\"")) if files else {}
    return lines, _not_said(values, [named(one) for one in lines])


def _not_said(values: Mapping[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """Return the values of a winner of which a command line says nothing.

    What it says of a group chooses an option, in which the winner sets single keys all the same.

    Raises:
        ConfigError: It says a part of what the winner gives whole.
    """
    kept: dict[str, Any] = {}
    for key, value in values.items():
        plain = key.lstrip("+")
        inside = [one for one in said if one.startswith(f"{plain}.")]
        if inside and not is_group(plain):
            raise ConfigError(
                f"{inside[0]} is a part of {plain}, which the winner gives as a whole; give "
                f"{plain} as a whole too"
            )
        above = (one for one in said if plain.startswith(f"{one}.") and not is_group(one))
        if plain not in said and not any(above):
            kept[key] = value
    return kept


def recomposed(
    overrides: Sequence[str],
    values: Mapping[str, Any],
    known: MutableMapping[tuple[str, ...], DictConfig] | None = None,
) -> DictConfig:
    """Return the configuration of a command line with some values in the place of its own.

    Args:
        overrides: The command line.
        values: Per dotted key its value, of a group of ``conf/`` the name of an option. A ``+``
            before a key adds one that is not there.
        known: What was composed by others of these calls, which put there what they compose: Hydra
            takes long to read its files. None composes anew.

    Raises:
        ConfigError: A key is not there, or a value does not fit.
    """
    groups = [key for key in values if is_group(key)]
    lines = _lines(overrides, values, groups)
    known = {} if known is None else known
    try:
        if (whole := known.get(tuple(lines))) is None:
            whole = known[tuple(lines)] = hydra.compose(_CONFIG_NAME, overrides=lines)
    except (HydraException, OmegaConfBaseException) as error:
        said = str(error).strip().splitlines()[0]
        about = [one for one in lines if named(one) in groups] or lines
        raise ConfigError(f"{', '.join(about)}: {said}") from error
    cfg = copy.deepcopy(whole)
    for key, value in values.items():
        if key not in groups:
            _set(cfg, key, value)
    return cfg


def winner_words(values: Mapping[str, Any]) -> str:
    """Return what a winner sets, as it would stand on a command line.

    Args:
        values: Its values by key.
    """
    return ", ".join(f"{key.lstrip('+')}={json.dumps(one)}" for key, one in values.items())


def is_group(key: str) -> bool:
    """Return whether a key is a group of ``conf/``."""
    return bool(GlobalHydra.instance().config_loader().get_group_options(key))


def named(override: str) -> str:
    """Return the key that an override of the command line is about."""
    found = _NAMED.match(override)
    return found[1] if found else override


def usual_values(
    overrides: Sequence[str], values: Mapping[str, Any], keys: Sequence[str]
) -> dict[str, Any]:
    """Return what some keys are in a configuration, of a group the name of the chosen option.

    Args:
        overrides: Its command line.
        values: Values in the place of its own, see ``recomposed``.
        keys: The keys; of those that are not there nothing is returned.
    """
    cfg, lines = recomposed(overrides, values), _lines(overrides, values, filter(is_group, values))
    found: dict[str, Any] = {}
    for key in keys:
        plain = key.lstrip("+")
        if is_group(key):
            whole = hydra.compose(_CONFIG_NAME, overrides=lines, return_hydra_config=True)
            found[key] = str(whole.hydra.runtime.choices[key])
        elif (value := OmegaConf.select(cfg, plain, default=_ABSENT)) is not _ABSENT:
            found[key] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        elif key != plain:
            found[key] = None
    return found


def _lines(overrides: Sequence[str], values: Mapping[str, Any], groups: Iterable[str]) -> list[str]:
    """Return a command line that chooses other options of some groups."""
    chosen = [f"{group}={values[group]}" for group in groups]
    about = [named(one) for one in chosen]
    return [*(one for one in overrides if named(one) not in about), *chosen]


def winner_values(path: str) -> dict[str, Any]:
    """Return the values that a file of a winner holds, as ``recomposed`` takes them.

    Args:
        path: Path or URI of a YAML of the shape of those in ``conf/``: ``defaults`` that override
            groups, and sections. A mapping with a ``type`` replaces what is there, others are
            added to it.

    Raises:
        ConfigError: The file is missing, or is no such YAML.
    """
    try:
        with fsspec.open(path, "rb") as file:
            read: Any = file
            content = yaml.safe_load(read) or {}
    except (OSError, ValueError, ImportError, yaml.YAMLError) as error:
        raise ConfigError(f"{WINNER}={path}: {error}; give the winner.yaml of a search") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{WINNER}={path} is no mapping; give the winner.yaml of a search")
    groups: dict[str, Any] = {}
    for one in content.pop("defaults", []):
        (key, option), *more = one.items() if isinstance(one, dict) else (("", ""),)
        if more or not str(key).startswith(_OVERRIDE):
            raise ConfigError(f"{WINNER}={path}: defaults may only override groups, found {one}")
        groups[str(key).removeprefix(_OVERRIDE)] = option
    return groups | _leaves(content, "+")


def winner_yaml(values: Mapping[str, Any], groups: Sequence[str], said: str) -> str:
    """Return the file of a winner, as ``winner_values`` reads it.

    Args:
        values: Per dotted key its value, of a group the name of its option.
        groups: The keys that are groups.
        said: A comment.
    """
    nested: dict[str, Any] = {}
    if chosen := [{f"{_OVERRIDE}{key}": values[key]} for key in values if key in groups]:
        nested["defaults"] = chosen
    for key in values:
        if key not in groups:
            *sections, last = key.lstrip("+").split(".")
            inner = nested
            for one in sections:
                inner = inner.setdefault(one, {})
            inner[last] = values[key]
    return f"# @package _global_\n# {said}\n{yaml.safe_dump(nested, sort_keys=False)}"


def _leaves(node: Mapping[str, Any], above: str) -> dict[str, Any]:
    """Return dotted keys and values of nested sections; specifications stay whole."""
    found: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping) and "type" not in value and "_target_" not in value:
            found |= _leaves(value, f"{key}.")
        else:
            found[key] = value
    return found


def _set(cfg: DictConfig, key: str, value: Any) -> None:
    """Set a value.

    Raises:
        ConfigError: There is no such key, or its type is another.
    """
    plain = key.lstrip("+")
    if key == plain and OmegaConf.select(cfg, plain, default=_ABSENT) is _ABSENT:
        keys = dotted_keys(OmegaConf.to_container(cfg))
        near = nearest(plain, (one for one in keys if not one.startswith("search.space.")))
        meant = f"did you mean {near}?" if near else "there is none like it."
        raise ConfigError(f"{plain}: there is no such key; {meant} A + before a key adds one")
    try:
        OmegaConf.update(cfg, plain, value, merge=False, force_add=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{plain}={value!r}: {str(error).splitlines()[0]}") from error
