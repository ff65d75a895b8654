"""The files of a manifest: their names, and what a process holds of them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import pyarrow.parquet as pq

from mke_ray.data.manifest.marks import MarkTable, table_from_bytes
from mke_ray.schema import MANIFEST_SCHEMA
from mke_ray.storage import Root

META = "meta.json"

_NUM_READ_THREADS = 8


@dataclass(frozen=True, slots=True)
class UnitRef:
    """Where a unit's rows are in the manifest.

    Args:
        unit: Id of the unit.
        part: File that holds it.
        row_group: Its row group in that file.
        split: Split of all its rows.
        num_rows: Number of its rows.
    """

    unit: str
    part: str
    row_group: int
    split: str
    num_rows: int


def newest_generation(root: Root) -> int | None:
    """Return the newest generation of a manifest, None where there is no finished one."""
    names = [name for name in root.names(recursive=False) if name.startswith("meta")]
    numbers = [
        0 if name == META else int(name.removeprefix("meta-").removesuffix(".json"))
        for name in names
    ]
    return max(numbers, default=None)


def meta_name(generation: int) -> str:
    """Return the name of the file that finishes a generation."""
    return f"meta-{generation:05d}.json" if generation else META


def marks_name(generation: int) -> str:
    """Return the name of the file with the marks of a generation."""
    return f"marks-{generation:05d}.parquet"


def part_name(generation: int, number: int) -> str:
    """Return the name of a part of a generation."""
    return f"part-{generation:05d}-{number:05d}.parquet"


def held_footer(root: Root, part: str, *, version: str) -> pq.FileMetaData:
    """Return the footer of a part, read once per process and version of the manifest."""
    return _read_footer(root.uri, _options(root), version, part)


def held_marks(root: Root, generations: tuple[int, ...], *, version: str) -> MarkTable:
    """Return the marks of some generations, read once per process and version of the manifest."""
    return _read_marks(root.uri, _options(root), version, generations)


def drop_held() -> None:
    """Drop what this process holds, after a part was written anew."""
    _read_footer.cache_clear()


def refs_of_part(footer: pq.FileMetaData, part: str) -> Iterator[UnitRef]:
    """Read unit and split from the statistics, which are exact as each is constant in a unit."""
    unit_column = MANIFEST_SCHEMA.names.index("unit")
    split_column = MANIFEST_SCHEMA.names.index("split")
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        yield UnitRef(
            unit=str(group.column(unit_column).statistics.min),
            part=part,
            row_group=number,
            split=str(group.column(split_column).statistics.min),
            num_rows=group.num_rows,
        )


def _options(root: Root) -> str:
    """Return the options of a root as text."""
    return json.dumps(dict(root.options), sort_keys=True)


@lru_cache(maxsize=8)
def _read_footer(uri: str, options: str, _version: str, part: str) -> pq.FileMetaData:
    """Read the footer of a part once per process and generation of the manifest."""
    root = Root(uri, json.loads(options))
    with root.filesystem().open(root.path(part), "rb") as file:
        return pq.ParquetFile(file).metadata


@lru_cache(maxsize=4)
def _read_marks(uri: str, options: str, _version: str, generations: tuple[int, ...]) -> MarkTable:
    """Read the marks of some generations once per process and generation of the manifest."""
    root = Root(uri, json.loads(options))
    if not generations:
        return MarkTable([])
    with ThreadPoolExecutor(_NUM_READ_THREADS) as pool:
        contents = pool.map(lambda one: root.read(marks_name(one)), generations)
        return MarkTable(table_from_bytes(content) for content in contents)
