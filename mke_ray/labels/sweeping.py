"""Files of a store that no commit record names: found by listing, and deleted."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from mke_ray.labels.file_names import ATTEMPTS, PARTS, unit_of_file
from mke_ray.labels.index import Index
from mke_ray.labels.indexing import survey
from mke_ray.labels.records import newest_record
from mke_ray.storage import Root

_NUM_THREADS = 16


def unnamed_files(root: Root, index: Index) -> list[str]:
    """Return the files of rows that nothing refers to.

    Args:
        root: The folder of the store.
        index: Index of all committed units.
    """
    named = _named(index)
    return [n for folder in (ATTEMPTS, PARTS) for n in root.names(folder) if n not in named]


def delete_unnamed_parts(root: Root) -> list[str]:
    """Delete the parts that no commit record names, and return their names."""
    parts = list(root.names(PARTS))  # before the index, so that a part of later is not looked at
    if not parts:
        return []
    index = survey(root).index
    named = _named(index)
    unnamed = [name for name in parts if name not in named and not _is_claimed(root, name)]
    delete_all(root, unnamed)
    return unnamed


def delete_unnamed_attempts(root: Root, index: Index) -> list[str]:
    """Delete the attempts at committed units that their records do not name.

    Of a unit whose own file is not there nothing is deleted: it may be all that is left.

    Args:
        root: The folder of the store.
        index: Index of all committed units.

    Returns:
        The names of the files.
    """
    attempts = list(root.names(ATTEMPTS))
    there = {*attempts, *root.names(PARTS)}
    named = {unit: file for unit, _, file in index.entries() if file in there}
    unnamed = [name for name in attempts if named.get(unit_of_file(name), name) != name]
    delete_all(root, unnamed)
    return unnamed


def delete_all(root: Root, names: Iterable[str]) -> None:
    """Delete files, several at a time."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        list(pool.map(root.delete, names))


def _named(index: Index) -> set[str]:
    """Return the files that an index names."""
    return {file for _, _, file in index.entries()}


def _is_claimed(root: Root, part: str) -> bool:
    """Look once more whether a part has been claimed by now; its first unit is claimed first."""
    record = newest_record(root, unit_of_file(part))
    return record is not None and record["file"] == part
