"""What a source of samples is, and the source that reads videos from a folder or a bucket."""

import hashlib
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from mke_ray.data.listing import FolderListings, ListedFile, split_key, walk
from mke_ray.data.media import LIMITS, Decoded, decode_clip
from mke_ray.data.table_rows import TableRow, read_table
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import DecodeSpec, FeatureSpec, LabelKind, LabelSpace, ManifestRow, Split
from mke_ray.storage import Root, open_root

__all__ = ["Decoded", "Progress", "Reader", "Source", "SourceRow", "VideosSource"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One sample as its source names it.

    Args:
        key: Path relative to the root of the source, or an absolute URI.
        size: Size of the object in bytes, -1 where there is none.
        etag: Version of the object as its store names it, "" where unknown.
        start_s: Start of the span in seconds, None for the whole object.
        end_s: End of the span in seconds, None for the whole object.
        group: Who or what the sample comes from.
        split: Role of the sample.
        labels: Indices of the true classes; None where unknown.
    """

    key: str
    size: int
    etag: str
    start_s: float | None
    end_s: float | None
    group: str
    split: str
    labels: tuple[int, ...] | None


class Reader(Protocol):
    """Fetches and decodes one sample; lives in a worker and holds what is costly to open."""

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one sample.

        Raises:
            MediaError: The sample is bad and will stay so.
            OSError: The store did not answer, after retries; worth another try later.
        """
        ...


class Source(Protocol):
    """Where samples come from. Cheap to construct; nothing is opened before a method is called."""

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return plain data that changes whenever the rows may change."""
        ...

    def prepare(self, progress: Progress | None = None) -> None:
        """Make the samples if the source makes its own; does nothing when they are there."""
        ...

    def rows(self) -> Iterator[SourceRow]:
        """Yield every sample, streamed, in an order that is always the same."""
        ...

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return what decodes samples to a specification."""
        ...


@dataclass(frozen=True, slots=True)
class VideosSource:
    """Videos in a folder or bucket, with their labels in a table or in the names of folders.

    Without a table the root holds the folders ``labelled/``, ``unlabeled/``, ``probe/`` and
    ``test/`` (those there are); in all but ``unlabeled/`` the next folder names the class. With a
    table, its columns are ``uri`` and, where wanted, ``label``, ``group``, ``split``, ``start_s``
    and ``end_s``; a blank label is an unknown one, a blank group is the file itself, and a blank
    split is ``labelled`` where there is a label and ``unlabeled`` where there is none.

    Args:
        root: Local folder or URI that fsspec can open.
        classes: Class names in the order of the logits.
        table: CSV or Parquet file relative to the root, None for labels by folder.
        label_kind: ``single``, or ``multi`` where names are joined by ``|``.
        storage_options: Options of the file system.
    """

    root: str
    classes: Sequence[str]
    table: str | None = None
    label_kind: str = "single"
    storage_options: Mapping[str, Any] | None = None

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        return LabelSpace(tuple(self.classes), _label_kind(self.label_kind))

    def identity(self) -> dict[str, Any]:
        """Return what the rows depend on: the table's content, or the place that is listed.

        Raises:
            ConfigError: The table does not exist.
        """
        what: dict[str, Any] = {"source": "videos", "label_space": self.label_space.to_dict()}
        if self.table is None:
            return what | {"root": self._root.uri}
        return what | {"table": self.table, "table_digest": _digest(self._root, self.table)}

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the root, and the table where one is named, are there.

        Raises:
            ConfigError: One of them is not.
        """
        if not self._root.exists():
            raise ConfigError(
                f"source.root={self.root} does not exist or is empty; "
                "set it to the folder or bucket that holds the videos"
            )
        if self.table is not None and not self._root.exists(self.table):
            raise _missing_table(self._root, self.table)

    def rows(self) -> Iterator[SourceRow]:
        """Yield the rows of the table in its order, or the files of the folders by name.

        Raises:
            ConfigError: A folder, a table, a class or a split is not what it should be.
        """
        self.prepare()
        if self.table is None:
            yield from self._rows_of_folders()
        else:
            yield from self._rows_of_table(self.table)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return a reader of whole objects.

        Raises:
            ConfigError: The specification asks for features, which videos do not have.
        """
        for modality, one in spec.items():
            if isinstance(one, FeatureSpec):
                raise ConfigError(
                    f"decode.{modality}.kind=features: videos hold video and audio; "
                    "use a table source for rows of features"
                )
        return VideoReader(self._root, spec)

    @property
    def _root(self) -> Root:
        return open_root(self.root, self.storage_options)

    def _rows_of_table(self, table: str) -> Iterator[SourceRow]:
        label_space, listings = self.label_space, FolderListings(self._root)
        for row in read_table(self._root, table):
            found = listings.find(row.uri)
            labels = _parse_labels(row.label, label_space, where=f"{table}: {row.uri}")
            yield SourceRow(
                key=row.uri,
                size=found.size if found else -1,
                etag=found.etag if found else "",
                start_s=row.start_s,
                end_s=row.end_s,
                group=row.group or row.uri,
                split=_split_of(row, labels, table=table),
                labels=labels,
            )

    def _rows_of_folders(self) -> Iterator[SourceRow]:
        there = [split for split in Split if self._root.exists(split.value)]
        if not there:
            raise ConfigError(
                f"source.root={self.root} has none of the folders "
                f"{[split.value for split in Split]}; make them, or name a table in source.table"
            )
        label_space = self.label_space
        for split in there:
            for file in walk(self._root, split.value):
                yield _row_of_file(file, split, label_space)


@dataclass(slots=True)
class VideoReader:
    """Reads a whole object from its store and decodes it.

    Args:
        root: Root of the source; absolute URIs are opened with the same options.
        spec: What to decode.
    """

    root: Root
    spec: DecodeSpec
    _other_roots: dict[str, Root] = field(default_factory=dict)

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one clip.

        Raises:
            MediaError: The object is missing or cannot be decoded.
            OSError: The store did not answer, after retries.
        """
        if row.size > LIMITS.num_bytes:
            raise MediaError("too_large", f"{row.key} has {row.size} bytes")
        try:
            content = self._fetch(row.key)
        except FileNotFoundError:
            raise MediaError("missing_file", f"{row.key} is not in {self.root.uri}") from None
        decoded = decode_clip(content, self.spec, start_s=row.start_s, end_s=row.end_s)
        decoded.num_bytes_read = len(content)
        return decoded

    def _fetch(self, key: str) -> bytes:
        folder, name = split_key(key)
        if folder is None:
            return self.root.read(name)
        if folder not in self._other_roots:
            self._other_roots[folder] = open_root(folder, self.root.options)
        return self._other_roots[folder].read(name)


def _label_kind(name: str) -> LabelKind:
    if name not in (LabelKind.SINGLE, LabelKind.MULTI):
        raise ConfigError(f"source.label_kind={name!r}; videos have 'single' or 'multi' labels")
    return LabelKind(name)


def _missing_table(root: Root, table: str) -> ConfigError:
    return ConfigError(
        f"source.table={table} is not in {root.uri}; name a CSV or Parquet file relative to "
        "source.root, or set it to null to take the classes from the folders"
    )


def _digest(root: Root, table: str) -> str:
    """Return a digest of a table's content, read in blocks."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with root.filesystem().open(root.path(table), "rb") as file:
            while block := cast(bytes, file.read(1 << 22)):
                digest.update(block)
    except FileNotFoundError:
        raise _missing_table(root, table) from None
    return digest.hexdigest()


def _parse_labels(text: str, label_space: LabelSpace, *, where: str) -> tuple[int, ...] | None:
    """Return the class indices that a label names; None for a blank one."""
    if not text:
        return None
    names = text.split("|") if label_space.kind is LabelKind.MULTI else [text]
    try:
        return tuple(sorted({label_space.index(name.strip()) for name in names}))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}; correct it or add it to source.classes") from None


def _split_of(row: TableRow, labels: tuple[int, ...] | None, *, table: str) -> str:
    """Return the split of a row, checked against its label."""
    implied = Split.UNLABELED if labels is None else Split.LABELLED
    split = row.split or implied.value
    if split not in list(Split):
        raise ConfigError(
            f"{table}: {row.uri}: split {split!r} is not one of {[one.value for one in Split]}"
        )
    if labels is None and split != Split.UNLABELED:
        raise ConfigError(
            f"{table}: {row.uri}: a row of split {split!r} needs a label; "
            "give it one or move it to 'unlabeled'"
        )
    return split


def _row_of_file(file: ListedFile, split: Split, label_space: LabelSpace) -> SourceRow:
    """Return the row of a file whose folders say its split and class."""
    labels = None
    if split is not Split.UNLABELED:
        folders = file.name.split("/")[1:-1]
        if not folders:
            raise ConfigError(
                f"{file.name}: files of {split.value}/ lie in a folder named after their class"
            )
        labels = _parse_labels(folders[0], label_space, where=posixpath.dirname(file.name))
    return SourceRow(
        key=file.name,
        size=file.size,
        etag=file.etag,
        start_s=None,
        end_s=None,
        group=file.name,
        split=split.value,
        labels=labels,
    )
