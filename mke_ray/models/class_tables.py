"""Tables of classes: from names of one label space to those of another, as a user writes them."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mke_ray.errors import ConfigError
from mke_ray.storage import open_root


def by_teacher_class(table: Mapping[str, Any]) -> dict[str, str]:
    """Return ``{class of the teacher: class of the run}`` of either way to write a table.

    Raises:
        ConfigError: It is empty, of another form, or a class of the teacher goes to two.
    """
    pairs: list[tuple[str, str]] = []
    for name, other in table.items():
        if isinstance(other, str):
            pairs.append((str(name), other))
        elif isinstance(other, Sequence):
            pairs += [(str(one), str(name)) for one in other]
        else:
            raise ConfigError(f"table: {name}: {other!r}; give a class, or a list of classes")
    return _without_doubt(pairs)


def read_table(path: str) -> dict[str, Any]:
    """Return a table from a YAML file, or from a CSV file with the columns ``from`` and ``to``.

    Raises:
        ConfigError: There is no such file, or it holds no table.
    """
    text = _text(path)
    if not path.endswith(".csv"):
        return _mapping(path, text)
    rows = csv.DictReader(io.StringIO(text))
    if not {"from", "to"} <= set(rows.fieldnames or ()):
        raise ConfigError(f"table={path} has the columns {rows.fieldnames}; give from and to")
    return _without_doubt([(row["from"], row["to"]) for row in rows])


def _text(path: str) -> str:
    """Return the content of a file."""
    folder, slash, name = path.rpartition("/")
    try:
        return open_root(folder or slash or ".").read(name).decode()
    except FileNotFoundError:
        raise ConfigError(f"table={path} does not exist; name a YAML or CSV file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"table={path} is no text in UTF-8 ({error}); save it as that") from None


def _mapping(path: str, text: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds."""
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"table={path} is no YAML: {said}; write from: to, one a line") from None
    if not isinstance(plain, dict):
        raise ConfigError(f"table={path} holds no mapping; write from: to, one a line")
    return plain


def _without_doubt(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return pairs as a mapping, in which a name has one meaning."""
    found: dict[str, str] = {}
    for name, target in pairs:
        if found.setdefault(name, target) != target:
            raise ConfigError(
                f"table: {name!r} goes to {found[name]!r} and to {target!r}; keep one of them"
            )
    if not found:
        raise ConfigError("table is empty; map classes of the teacher to classes of the run")
    return found
