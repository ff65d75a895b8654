"""The files of a manifest: their names, and what a process holds of them."""

import io
import json
import logging
import re
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow.parquet as pq

from mke_ray.data.manifest.marks import MarkTable, table_from_bytes
from mke_ray.retries import retried
from mke_ray.schema import MANIFEST_SCHEMA
from mke_ray.storage import Root

META = "meta.json"

_NUM_READ_THREADS = 8
_NUMBERED = re.compile(r"(?:part|marks)-(\d{5,})[-.]")

_logger = logging.getLogger(__name__)


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


class PartOfFile(io.BytesIO):
    """Bytes of a file that stand where they stand in the file; nothing else of it can be read.

    Args:
        content: The bytes.
        begin: Where they begin.
    """

    def __init__(self, content: bytes, begin: int) -> None:
        super().__init__(content)
        self._begin = begin

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Set the position in the file and return it."""
        is_absolute = whence == io.SEEK_SET
        return self._begin + super().seek(offset - self._begin if is_absolute else offset, whence)

    def tell(self) -> int:
        """Return the position in the file."""
        return self._begin + super().tell()


def range_of_row_group(footer: pq.FileMetaData, number: int) -> tuple[int, int]:
    """Return where the bytes of a row group begin and end in its file."""
    group = footer.row_group(number)
    columns = [group.column(place) for place in range(group.num_columns)]
    begins = [
        min(one.data_page_offset, one.dictionary_page_offset or one.data_page_offset)
        for one in columns
    ]
    ends = [begin + one.total_compressed_size for begin, one in zip(begins, columns, strict=True)]
    return min(begins), max(ends)


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


def new_attempt() -> str:
    """Return what tells the files of one driver from those of any other."""
    return uuid.uuid4().hex[:12]


def marks_name(generation: int, attempt: str) -> str:
    """Return the name of the file with the marks of a generation, as one driver writes it."""
    return f"marks-{generation:05d}-{attempt}.parquet"


def part_name(generation: int, number: int, attempt: str) -> str:
    """Return the name of a part of a generation, as one driver writes it."""
    return f"part-{generation:05d}-{number:05d}-{attempt}.parquet"


def remove_unnamed(root: Root, meta: Mapping[str, Any]) -> None:
    """Remove what other drivers left of a generation that is finished, and of those before it.

    Args:
        root: Folder of the manifest.
        meta: Meta of the generation, which names all files that stay.
    """
    stays = {*meta["parts"], *meta["marks"]}
    try:
        for name in list(root.names(recursive=False)):
            found = _NUMBERED.match(name)
            if found and int(found[1]) <= meta["generation"] and name not in stays:
                root.delete(name)
        root.delete_unfinished(recursive=False)
    except OSError as error:
        _logger.warning("%s: files that nothing names are left: %s", root.uri, error)


def held_footer(root: Root, part: str, *, version: str) -> pq.FileMetaData:
    """Return the footer of a part, read once per process and version of the manifest."""
    return _read_footer(root.uri, _options(root), version, part)


def held_marks(root: Root, names: tuple[str, ...]) -> MarkTable:
    """Return the marks of some files, read once per process."""
    return _read_marks(root.uri, _options(root), names)


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


@lru_cache(maxsize=4)  # a footer takes megabytes
def _read_footer(uri: str, options: str, _version: str, part: str) -> pq.FileMetaData:
    """Read the footer of a part once per process and generation of the manifest."""
    root = Root(uri, json.loads(options))

    def read() -> pq.FileMetaData:
        with root.filesystem().open(root.path(part), "rb") as file:
            return pq.ParquetFile(file).metadata

    return retried(read, f"reading the footer of {part}")


@lru_cache(maxsize=4)
def _read_marks(uri: str, options: str, names: tuple[str, ...]) -> MarkTable:
    """Read the marks of some files once per process."""
    root = Root(uri, json.loads(options))
    if not names:
        return MarkTable([])
    with ThreadPoolExecutor(_NUM_READ_THREADS) as pool:
        contents = pool.map(root.read, names)
        return MarkTable(table_from_bytes(content) for content in contents)
