"""The source that reads videos from a folder or a bucket."""

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mke_ray.data.ahead import map_ahead
from mke_ray.data.file_tables import rows_of_table
from mke_ray.data.links import UnusableKeyError
from mke_ray.data.listing import ListedFile, walk
from mke_ray.data.lookup import Lookup, place_of
from mke_ray.data.packets import WHOLE, Span
from mke_ray.data.places import Places, places_of
from mke_ray.data.reachable import check_root, check_table
from mke_ray.data.roles import label_space_of, labels_of_path, parse_labels
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.data.spans import ClipCutter
from mke_ray.data.table_rows import TableRow, read_table
from mke_ray.data.video_reader import VideoReader
from mke_ray.errors import ConfigError
from mke_ray.schema import AudioSpec, DecodeSpec, LabelSpace, Split, VideoSpec
from mke_ray.storage import Root

# Files that lie beside videos and are no samples. Anything else keeps a row with a status.
NOTES = (
    *(".txt", ".md", ".log", ".json", ".jsonl", ".yaml", ".yml", ".xml", ".csv", ".tsv"),
    *(".parquet", ".html", ".pdf", ".srt", ".vtt", ".ass", ".nfo", ".md5", ".sha256"),
)

_NUM_HEADER_THREADS = 8


@dataclass(frozen=True, slots=True)
class VideosSource:
    """Videos in a folder or bucket, with their labels in a table or in the names of folders.

    Without a table the root holds the folders ``labelled/``, ``unlabeled/``, ``probe/`` and
    ``test/`` (those there are); in all but ``unlabeled/`` the next folder names the class. With a
    split of all it may hold any folders, and no file of it has a label. With a
    table, its columns are ``uri`` and, where wanted, ``label``, ``group``, ``split``, ``start_s``,
    ``end_s``, ``size`` and ``etag``; a blank label is an unknown one, a blank group is the file
    itself, a blank split is ``labelled`` where there is a label and ``unlabeled`` where there is
    none, and a blank size or etag is looked up. A file that is missing keeps its row.

    Args:
        root: Local folder or URI; None for that of the table.
        classes: Class names in the order of the logits.
        table: CSV or Parquet file, relative to the root or anywhere; None for labels by folder.
        label_kind: ``single``, or ``multi`` where names are joined by ``|``.
        clip_seconds: Length of the clips that files without a span are cut into, None for whole
            files. A file whose header cannot be read stays whole.
        stride_seconds: From the start of a clip to that of the next, None for ``clip_seconds``.
        split_of_all: Split of every file below the root, whatever its folders; None for the folders
            that say so. Of no effect with a table.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.
        places: Folders and URIs outside the root that files may lie in: full URIs of a table, links
            of a local disk.
    """

    root: str | None
    classes: Sequence[str]
    table: str | None = None
    label_kind: str = "single"
    clip_seconds: float | None = None
    stride_seconds: float | None = None
    split_of_all: str | None = None
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    places: Sequence[str] = ()

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        return label_space_of(self.classes, self.label_kind)

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root: classes, the table's name and the spans."""
        is_far = self.table is not None and _is_absolute(self.table)
        return {
            "source": "videos",
            "label_space": self.label_space.to_dict(),
            "table": posixpath.basename(str(self.table)) if is_far else self.table,
            "clips": [self.clip_seconds, self._stride_s],
            **({"split_of_all": self.split_of_all} if self.split_of_all else {}),
        }

    def place(self) -> str:
        """Return the URI of the root, and that of the table with its version."""
        table = None if self.table is None else self._table_place(self.table)
        return place_of(self._places.root, table)

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the root, and the table where one is named, can be reached and are there.

        Raises:
            ConfigError: One of them is not, or a number makes no sense.
        """
        self._cutter()
        if self.split_of_all not in (None, *Split):
            raise ConfigError(
                f"source.split_of_all={self.split_of_all}; choose one of "
                f"{[split.value for split in Split]}, or null"
            )
        if self.table is None:
            check_root(self._places.root, given=self.root, holds="videos")
        else:
            check_table(*self._table_place(self.table), given=self.table)

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows of the table in its order, or the files of the folders by name.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: A folder, a table, a class or a split is not what it should be.
        """
        self.prepare()
        cutter = self._cutter()
        if cutter is None:
            yield from self._files(after)
        else:
            yield from _cut_rows(self._files, cutter, after)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return a reader that decodes to a specification.

        Raises:
            ConfigError: The specification asks for something that is not in a media file.
        """
        for name, one in spec.items():
            if not isinstance(one, VideoSpec | AudioSpec):
                raise ConfigError(
                    f"decode.{name}.kind={one.kind}: videos have only video and audio; "
                    "use a table source for rows of features, and one of pairs for pictures"
                )
        return VideoReader(self._places, spec)

    @property
    def _places(self) -> Places:
        root = self.root
        if root is None:
            if self.table is None or not _is_absolute(self.table):
                raise ConfigError(
                    "source.root is missing; set it, or give source.table as a full path or URI"
                )
            root = posixpath.dirname(self.table)
        return places_of(self, root)

    @property
    def _stride_s(self) -> float | None:
        return self.clip_seconds if self.stride_seconds is None else self.stride_seconds

    def _cutter(self) -> ClipCutter | None:
        if self.clip_seconds is None or self._stride_s is None:
            if self.stride_seconds is not None:
                raise ConfigError(
                    f"source.stride_seconds={self.stride_seconds} needs source.clip_seconds"
                )
            return None
        return ClipCutter(self._places, self.clip_seconds, self._stride_s)

    def _files(self, after: str | None) -> Iterator[SourceRow]:
        if self.table is None:
            return self._rows_of_folders(after or "")
        return self._rows_of_table(self.table, int(after or 0))

    def _table_place(self, table: str) -> tuple[Root, str]:
        """Return the root and the name of a table."""
        if not _is_absolute(table):
            return self._places.root, table
        folder, name = posixpath.split(table)
        return replace(self, root=folder)._places.root, name

    def _rows_of_table(self, table: str, after: int) -> Iterator[SourceRow]:
        return rows_of_table(
            read_table(*self._table_place(table), after=after),
            Lookup(self._places),
            table=table,
            names=_names_looked_up,
            labels=self._labels,
            version=_version,
        )

    def _labels(self, row: TableRow, _: object, where: str) -> tuple[int, ...] | None:
        return parse_labels(row.label, self.label_space, where=where)

    def _rows_of_folders(self, after: str) -> Iterator[SourceRow]:
        places, label_space = self._places, self.label_space
        root = places.root
        if self.split_of_all is not None:
            for file in walk(root, "", after, further=places.further):
                if not file.name.lower().endswith(NOTES):
                    yield _row_of_file(file, Split(self.split_of_all), None)
            return
        there = [split for split in Split if root.exists(split.value)]
        if not there:
            raise ConfigError(
                f"source.root={self.root} has none of the folders "
                f"{[split.value for split in Split]}; make them, or name a table in source.table"
            )
        begun = after.split("/", maxsplit=1)[0]
        order = list(Split)
        for split in there:
            if begun and order.index(split) < order.index(Split(begun)):
                continue
            start = after if split.value == begun else ""
            for file in walk(root, split.value, start, further=places.further):
                if not file.name.lower().endswith(NOTES):
                    yield _row_of_file(file, split, label_space)


def _is_absolute(table: str) -> bool:
    return "://" in table or table.startswith("/")


def _names_looked_up(row: TableRow) -> list[str]:
    """Return the file of a row whose size or version the table does not say."""
    return [row.uri] if row.size is None or not row.etag else []


def _version(row: TableRow, files: Sequence[ListedFile | None]) -> tuple[int, str]:
    """Return size and version as the table says, and where it says nothing as was found."""
    found = files[0] if files else None
    if found is None:
        return (row.size if row.size is not None and row.etag else -1), row.etag
    return found.size if row.size is None else row.size, row.etag or found.etag


def _row_of_file(file: ListedFile, split: Split, label_space: LabelSpace | None) -> SourceRow:
    """Return the row of a file whose folders say its class; None lets them say nothing."""
    return SourceRow(
        key=file.name,
        size=file.size,
        etag=file.etag,
        start_s=None,
        end_s=None,
        group=file.name,
        split=split.value,
        labels=None if label_space is None else labels_of_path(file.name, split, label_space),
        cursor=file.name,
    )


def _cut_rows(
    files: Callable[[str | None], Iterator[SourceRow]], cutter: ClipCutter, after: str | None
) -> Iterator[SourceRow]:
    """Yield a row per span of every file; rows that have a span already stay.

    A cursor is the cursor of the file before, the key, and how many of its spans are done, so that
    a file can be gone on with from the middle.
    """
    before, begun, num_done = json.loads(after) if after else (None, None, 0)

    def cut(row: SourceRow) -> tuple[SourceRow, list[Span]]:
        own = Span(row.start_s, row.end_s)
        if own != WHOLE:
            return row, [own]
        try:
            return row, cutter.cut(row.key, row.size)
        except UnusableKeyError:
            return row, [WHOLE]

    for row, spans in map_ahead(cut, files(before), num_threads=_NUM_HEADER_THREADS):
        skipped = num_done if row.key == begun else 0
        begun = None
        for number, span in enumerate(spans[skipped:], start=skipped + 1):
            cursor = json.dumps([before, row.key, number])
            yield replace(row, start_s=span.start_s, end_s=span.end_s, cursor=cursor)
        before = row.cursor
    cutter.log_whole()
