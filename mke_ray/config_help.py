"""What ``--help`` and a misspelt key tell: every key explained, and the keys that are near."""

import difflib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import docstring_parser

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class JobHelp:
    """What ``--help`` says of a job that shares its configuration with others.

    Args:
        header: What the job does; it comes first.
        footer: Its examples, which come before and after the keys.
        section: Section of the configuration whose keys are explained first.
    """

    header: str
    footer: str
    section: str

    def begin(self, schema: type) -> str:
        """Return what comes first: what it is, examples, and the keys of its section."""
        own = explanation(schema, f"{self.section}.")
        return f"{self.header}\n\n{self.footer}\n\nKeys of this job\n{own}\n"


def explained_keys(schema: type, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the explanation of every key of a dataclass schema.

    Explanations are those of the ``Args`` of its docstring.
    """
    said = {
        one.arg_name: one.description for one in docstring_parser.parse_from_object(schema).params
    }
    types = get_type_hints(schema)
    for one in fields(schema):
        yield f"{above}{one.name}", " ".join((said.get(one.name) or "").replace("``", "").split())
        if isinstance(kind := types[one.name], type) and is_dataclass(kind):
            yield from explained_keys(kind, f"{above}{one.name}.")


def explanation(schema: type, above: str = "") -> str:
    """Return what the keys of a schema mean, one paragraph per key.

    Args:
        schema: A dataclass.
        above: What the names of the keys that are wanted begin with.
    """
    return "\n".join(
        textwrap.fill(f"{name}: {said}", _WIDTH, initial_indent="  ", subsequent_indent="      ")
        for name, said in explained_keys(schema)
        if said and name.startswith(above)
    )


def group_lines(config_dir: str, names: Sequence[str]) -> str:
    """Return the options of some groups, a line for each.

    Args:
        config_dir: Folder of the groups.
        names: Those that a job can use.
    """
    options = {name: sorted(Path(config_dir, name).glob("*.yaml")) for name in names}
    return "\n".join(
        f"{name}: {', '.join(one.stem for one in files)}" for name, files in options.items()
    )


def dotted_keys(node: Any, above: str = "") -> Iterator[str]:
    """Yield the dotted name of every key below a plain node."""
    if not isinstance(node, Mapping):
        return
    for name, child in node.items():
        yield f"{above}{name}"
        yield from dotted_keys(child, f"{above}{name}.")


def nearest(key: str, known: Iterator[str]) -> str | None:
    """Return the known key that one was probably meant to be, None where none is near."""
    names = list(known)
    found = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    if found:
        return found[0]
    last = key.rpartition(".")[2]
    return next((one for one in names if one.rpartition(".")[2] == last), None)
