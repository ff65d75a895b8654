"""The names of the files of a store of units."""

import posixpath
import re
import uuid

SPEC_FILE = "spec.json"
COMMITS = "commits"
ATTEMPTS = "attempts"
PARTS = "parts"
COMPACTING = "compacting"

_INDEX = re.compile(r"index-(\d+)\.parquet")


def commit_name(unit: str, generation: int = 0) -> str:
    """Return the name of the commit record of a generation of a unit."""
    name = f"{unit}.{generation}" if generation else unit
    return f"{commit_folder(unit)}/{name}.json"


def commit_folder(unit: str) -> str:
    """Return the folder of the commit records of a unit."""
    return f"{COMMITS}/{unit[:2]}"


def parse_commit_name(name: str) -> tuple[str, int]:
    """Return the unit and the generation that a commit record is of."""
    unit, _, generation = posixpath.basename(name).removesuffix(".json").partition(".")
    return unit, int(generation or 0)


def new_file_name(folder: str, unit: str) -> str:
    """Return a name that no file has: of an attempt at a unit, or of a part that begins with it."""
    return f"{folder}/{unit}-{uuid.uuid4().hex[:12]}.parquet"


def is_part(name: str) -> bool:
    """Return whether a file holds several units."""
    return name.startswith(f"{PARTS}/")


def unit_of_file(name: str) -> str:
    """Return the unit that an attempt file is of, or the first one of a part."""
    return posixpath.basename(name).split("-", 1)[0]


def index_name(number: int) -> str:
    """Return the name of an index file."""
    return f"index-{number:06d}.parquet"


def index_number(name: str) -> int | None:
    """Return the number of an index file, None for another file."""
    found = _INDEX.fullmatch(name)
    return None if found is None else int(found[1])
