"""Keys that are nowhere: one that a section does not have, and one that another key refers to."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from mke_ray.config_help import explained_keys, nearest
from mke_ray.errors import ConfigError

_NOT_FOUND = re.compile(r"Interpolation key '([^']+)' not found")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def check_keys(cfg: DictConfig, schema: type) -> None:
    """Refuse keys that a section with a schema does not have; ``+`` lets Hydra add them.

    Sections that are free, as ``source`` or ``decode``, take any key.

    Args:
        cfg: The composed configuration.
        schema: Dataclass of it.

    Raises:
        ConfigError: It names the key, its section, and the key that was probably meant.
    """
    for section, key, known in _unknown(cfg, schema, ""):
        where = f"the section {section}" if section else "a job"
        near = nearest_key(section, key, schema)
        meant = f"did you mean {near}?" if near else f"choose one of {known}"
        raise ConfigError(f"{_dotted(section, key)}: {where} has no key {key!r}; {meant}")


def nearest_key(section: str, key: str, schema: type) -> str | None:
    """Return the dotted key of a schema that one was probably meant to be, None where none is near.

    Args:
        section: Dotted key of the section that does not have it, "" for the whole.
        key: The key in it.
        schema: Dataclass of the whole.
    """
    known = [name for name, _ in explained_keys(schema)]
    own = [one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == section]
    if found := difflib.get_close_matches(key, own, n=1):
        return _dotted(section, found[0])
    return next((one for one in known if one.rpartition(".")[2] == key), None)


def _unknown(cfg: DictConfig, schema: type, section: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield section, key and known keys of every key that a schema does not have."""
    types, known = get_type_hints(schema), [one.name for one in fields(schema)]
    for key in map(str, cfg):
        if key not in known:
            yield section, key, known
        elif isinstance(kind := types[key], type) and is_dataclass(kind):
            below = cfg._get_node(key)  # a missing one resolves nothing
            if isinstance(below, DictConfig):
                yield from _unknown(below, kind, _dotted(section, key))


def explained_reference(error: InterpolationKeyError, cfg: DictConfig) -> ConfigError:
    """Return what is wrong where a key refers to another that is not there.

    Args:
        error: What resolving the configuration raised.
        cfg: The composed configuration.
    """
    raw = OmegaConf.to_container(cfg, resolve=False)
    found = _NOT_FOUND.search(str(error))
    missing = found[1] if found else str(error.key)
    referring = dict(_referring(raw, ""))
    direct = [key for key, text in referring.items() if f"${{{missing}}}" in text]
    key = direct[0] if direct else str(error.full_key)
    parent, there = _deepest(raw, missing)
    has = f"{parent} has {sorted(there)}"
    if direct or key not in referring:
        return ConfigError(
            f"{key}=${{{missing}}}: there is no {missing}{f', {has}' if parent else ''}; add it, "
            f"or give {key} a value of its own"
        )
    chosen = _REFERENCE.findall(referring[key])[-1]
    value = OmegaConf.select(cfg, chosen)
    near = nearest(str(value), map(str, there))
    meant = f"; did you mean {chosen}={near}?" if near else f"; choose one of these for {chosen}"
    return ConfigError(
        f"{chosen}={value}: {key} needs {missing}, but {has}"
        f"{meant if there else f'; add {missing}'}"
    )


def _referring(node: Any, above: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of every value that refers to other keys."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _referring(child, _dotted(above, str(name)))
    elif isinstance(node, list):
        for number, child in enumerate(node):
            yield from _referring(child, f"{above}[{number}]")
    elif isinstance(node, str) and "${" in node:
        yield above, node


def _dotted(section: str, key: str) -> str:
    """Return the dotted name of a key in a section, "" being the whole."""
    return f"{section}.{key}" if section else key


def _deepest(raw: Any, key: str) -> tuple[str, list[str]]:
    """Return the lowest section above a key that is there, and its keys."""
    parent: list[str] = []
    for name in key.split("."):
        if not isinstance(raw, Mapping) or not isinstance(raw.get(name), Mapping):
            break
        raw = raw[name]
        parent.append(name)
    return ".".join(parent), [str(one) for one in raw] if isinstance(raw, Mapping) else []
