"""The source whose samples are several files each, one per modality: picture and depth or sound."""

import hashlib
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mke_ray.batching import batched
from mke_ray.data.file_tables import rows_of_table
from mke_ray.data.listing import ListedFile, walk
from mke_ray.data.lookup import Lookup, place_of
from mke_ray.data.pairs_reader import KEY, PairsReader, file_name
from mke_ray.data.places import Places, places_of
from mke_ray.data.reachable import check_root, check_table
from mke_ray.data.roles import label_space_of, labels_of_path, parse_labels, parse_split
from mke_ray.data.scene_files import DepthFiles, MaskFiles
from mke_ray.data.sources import Progress, SourceRow
from mke_ray.data.table_rows import TableRow, read_table
from mke_ray.data.text_files import text_files_of, text_tokenizers
from mke_ray.errors import ConfigError
from mke_ray.schema import (
    MASK,
    DecodeSpec,
    FeatureSpec,
    LabelKind,
    LabelSpace,
    Split,
    TokenSpec,
)
from mke_ray.storage import Root

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class PairsSource:
    """Samples of several files: the names of a sample's files differ only around its key.

    ``files`` gives each modality a pattern below the root with one ``{key}``, which may stand for
    several folders: ``{rgb: "rgb/{key}.png", depth: "depth/{key}.png"}``. Two modalities may have
    the same pattern (pictures and sound of one video), and its file is then read once.

    Without a table the samples are the files of the first modality, and their keys say what the
    paths say to a source of videos: ``labelled/CLASS/...``, ``unlabeled/...``, ``probe/CLASS/...``
    and ``test/CLASS/...``, that is ``rgb/labelled/dog/0001.png`` and
    ``depth/labelled/dog/0001.png``. With a table, its rows are the samples: column ``key`` and,
    where wanted, ``label``, ``group``, ``split``, ``start_s`` and ``end_s``; a blank group is the
    sample itself, and a blank split is ``labelled`` where there is a label and ``unlabeled`` where
    there is none. A file that is not there leaves a sample without that modality.

    A modality of ``kind: tokens`` or ``features`` is text, a file of its own or a field of a JSON
    file, read as ids of tokens or as a hashed bag of words (``mke_ray.data.text_files``).

    Dense labels are pictures of class ids: ``files.mask`` names them, ``mapping`` says what the
    ids mean, and there are no folders of classes and no column ``label``; a sample has a label
    where it has that file.

    Args:
        root: Local folder or URI that fsspec can open.
        files: Pattern of each modality's file, the first of them the one that is listed.
        classes: Class names in the order of the logits.
        table: CSV or Parquet file relative to the root, None for labels by folder.
        label_kind: ``single``, ``multi`` where names are joined by ``|``, or ``dense``.
        mapping: Class of each pixel value of dense labels, 255 for none: a list by pixel value, or
            a mapping; None where pixel values are class indices. 255 counts for nothing.
        depth: ``metres_per_step`` of files of distances (0.001 by default, pixel value 0 is
            unknown), and ``view_deg``, the camera's horizontal angle of view.
        withheld: Per split modalities that its samples are not given although there are files, for
            example ``{labelled: [depth]}``.
        text: ``{}`` where files of text are the text, ``field`` of those that are JSON; None where
            no file is text.
        tokenizers: Per modality of tokens ``path`` and ``revision`` of its tokenizer; a run fills
            them in from ``decode``.
        endpoint_url: Address of a store other than the provider's own.
        region: Region of the bucket.
        anonymous: Reach the bucket without credentials.
        storage_options: Further options of the file system; never stored.
        places: Folders and URIs outside the root that files may lie in: full URIs of a table, links
            of a local disk.
    """

    root: str
    files: Mapping[str, str]
    classes: Sequence[str]
    table: str | None = None
    label_kind: str = "single"
    mapping: Sequence[int] | Mapping[Any, int] | None = None
    depth: Mapping[str, float] | None = None
    withheld: Mapping[str, Sequence[str]] | None = None
    text: Mapping[str, str] | None = None
    tokenizers: Mapping[str, Mapping[str, Any]] | None = field(default=None, repr=False)
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    places: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the patterns, and what is said of depth and of what is withheld."""
        if not self.files:
            raise ConfigError('source.files is empty; name a pattern, as in {rgb: "rgb/{key}.png"}')
        for modality, pattern in self.files.items():
            _check_pattern(modality, pattern)
        before = self._listed.split(KEY)[0]
        if self.table is None and before and not before.endswith("/"):
            raise ConfigError(
                f"source.files.{next(iter(self.files))}={self._listed}: without a table the key "
                "begins with the folder of its split, so put {key} right after a '/'"
            )
        if MASK in self.files and not self._is_dense:
            raise ConfigError(
                f"source.files.{MASK}: a picture of class ids is a label of "
                f"source.label_kind=dense, not of {self.label_kind}"
            )
        _check_withheld(self.withheld or {}, self.files)
        _depth_files(self.depth)
        text_files_of(self.text)

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        return label_space_of(self.classes, self.label_kind, kinds=list(LabelKind))

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root: patterns, classes and the table's name."""
        mapping = self.mapping
        if isinstance(mapping, Mapping):
            mapping = {str(value): index for value, index in mapping.items()}
        asked = {"mapping": mapping, "depth": self.depth, "withheld": self.withheld}
        return {
            "source": "pairs",
            "files": dict(self.files),
            "label_space": self.label_space.to_dict(),
            "table": self.table,
            **{name: one for name, one in asked.items() if one},
            **({} if self.text is None else {"text": dict(self.text)}),
        }

    def place(self) -> str:
        """Return the URI of the root, and that of the table with its version."""
        root = self._places.root
        return place_of(root, None if self.table is None else (root, self.table))

    def prepare(self, progress: Progress | None = None) -> None:
        """Check that the root, and the table where one is named, are there.

        Raises:
            ConfigError: One of them is not.
        """
        root = self._places.root
        check_root(root, given=self.root, holds="files")
        if self.table is not None:
            check_table(root, self.table, given=self.table)

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows of the table in its order, or the samples of the folders by name.

        Args:
            after: Cursor of the row to begin behind.

        Raises:
            ConfigError: A folder, a table, a class or a split is not what it should be.
        """
        self.prepare()
        if self.table is None:
            yield from self._rows_of_folders(after or "")
        else:
            yield from self._rows_of_table(self.table, int(after or 0))

    def reader(self, spec: DecodeSpec) -> PairsReader:
        """Return a reader of whole files.

        Raises:
            ConfigError: A modality has no file, or is of a kind that no file holds.
        """
        for modality, one in spec.items():
            if modality not in self.files:
                raise ConfigError(
                    f"decode.{modality}: source.files has only {sorted(self.files)}; "
                    f"add source.files.{modality}"
                )
            if isinstance(one, FeatureSpec | TokenSpec) and self.text is None:
                raise ConfigError(
                    f"decode.{modality}.kind={one.kind}: what files can give as {one.kind} is "
                    "text; set source.text={} where the files are text, {field: NAME} where they "
                    "are JSON, or use a table source for rows of features"
                )
        if MASK in self.files and MASK not in spec:
            raise ConfigError(
                f"source.files.{MASK} names true classes, but decode has no {MASK}; add "
                f"decode.{MASK}={{kind: mask, height: H, width: W}}"
            )
        return PairsReader(
            self._places.root,
            dict(self.files),
            spec,
            _depth_files(self.depth),
            MaskFiles.of(self.label_space, self.mapping) if self._is_dense else None,
            self.withheld or {},
            text_files_of(self.text),
            text_tokenizers(spec, self.tokenizers or {}),
            self._places.tops,
        )

    def rows_of(self, rows: Iterable[TableRow], *, table: str) -> Iterator[SourceRow]:
        """Yield the samples that the rows of a table name.

        Args:
            rows: The rows.
            table: Name of the table, for errors.

        Raises:
            ConfigError: A class or a split is not what it should be.
        """
        return rows_of_table(
            rows,
            Lookup(self._places),
            table=table,
            names=lambda row: self._names(row.uri),
            labels=self._labels_of_row,
            version=lambda _, files: _version(files),
        )

    @property
    def location(self) -> Root:
        """Where the files lie."""
        return self._places.root

    @property
    def _places(self) -> Places:
        return places_of(self, self.root)

    @property
    def _is_dense(self) -> bool:
        return self.label_kind == LabelKind.DENSE

    @property
    def _listed(self) -> str:
        """The pattern whose files are listed."""
        return next(iter(self.files.values()))

    def _rows_of_table(self, table: str, after: int) -> Iterator[SourceRow]:
        rows = read_table(self._places.root, table, key_column="key", after=after)
        return self.rows_of(rows, table=table)

    def _labels_of_row(
        self, row: TableRow, files: Sequence[ListedFile | None], where: str
    ) -> tuple[int, ...] | None:
        if self._is_dense:
            return self._dense_labels(files)
        return parse_labels(row.label, self.label_space, where=where)

    def _dense_labels(self, files: Sequence[ListedFile | None]) -> tuple[int, ...] | None:
        """Return ``()`` where a sample has its file of true classes, None where it has not."""
        patterns = list(dict.fromkeys(self.files.values()))
        is_there = MASK in self.files and files[patterns.index(self.files[MASK])] is not None
        return () if is_there else None

    def _rows_of_folders(self, after: str) -> Iterator[SourceRow]:
        top, num_rows = self._listed.split(KEY)[0].rstrip("/"), 0
        for split in Split:
            folder = posixpath.join(top, split.value)
            if after and not after.startswith(f"{folder}/"):
                continue  # the cursor lies in a split that comes later
            for row in self._rows_of_split(folder, split, after):
                num_rows += 1
                yield row
            if after:
                num_rows, after = num_rows + 1, ""
        if not num_rows:
            raise ConfigError(
                f"source.files: no file of {self.root} is named {self._listed} with a key that "
                f"begins with one of {[split.value for split in Split]}; correct the pattern, or "
                "name a table in source.table"
            )

    def _rows_of_split(self, folder: str, split: Split, after: str) -> Iterator[SourceRow]:
        lookup = Lookup(self._places)
        keyed = (
            (file, _key_of(file.name, self._listed))
            for file in walk(self._places.root, folder, after, further=self._places.further)
        )
        named = ((file, key) for file, key in keyed if key is not None)
        for some in batched(named, _ROWS_AT_ONCE):
            found = lookup.find([name for _, key in some for name in self._names(key)[1:]])
            for file, key in some:
                files = [file, *(found.get(name) for name in self._names(key)[1:])]
                size, etag = _version(files)
                yield SourceRow(
                    key=key,
                    size=size,
                    etag=etag,
                    start_s=None,
                    end_s=None,
                    group=key,
                    split=split.value,
                    labels=self._labels_of_files(key, split, files),
                    cursor=file.name,
                )

    def _labels_of_files(
        self, key: str, split: Split, files: Sequence[ListedFile | None]
    ) -> tuple[int, ...] | None:
        """Return the labels of a sample of a folder.

        Raises:
            ConfigError: Its split needs some, and there are none.
        """
        if not self._is_dense:
            return labels_of_path(key, split, self.label_space)
        labels = self._dense_labels(files)
        parse_split(split.value, labels, where=key)
        return labels

    def _names(self, key: str) -> list[str]:
        """Return the names of a sample's files, the listed one first, none twice."""
        return [file_name(pattern, key) for pattern in dict.fromkeys(self.files.values())]


def _check_withheld(withheld: Mapping[str, Sequence[str]], files: Mapping[str, str]) -> None:
    """Refuse splits and modalities that are none: what is misspelt would be withheld of nobody.

    Raises:
        ConfigError: It names the key.
    """
    for split, names in withheld.items():
        if split not in list(Split):
            raise ConfigError(
                f"source.withheld.{split} is no split; choose of {[str(one) for one in Split]}"
            )
        for name in names:
            if name not in files or name == MASK:
                raise ConfigError(
                    f"source.withheld.{split}={list(names)}: {name!r} is no modality of "
                    f"source.files, which has {[one for one in files if one != MASK]}"
                )


def _depth_files(depth: Mapping[str, float] | None) -> DepthFiles:
    """Return how files of distances are read.

    Raises:
        ConfigError: A key is unknown.
    """
    try:
        return DepthFiles(**(depth or {}))
    except TypeError:
        known = [one.name for one in fields(DepthFiles)]
        raise ConfigError(f"source.depth={dict(depth or {})}; it may have {known}") from None


def _check_pattern(modality: str, pattern: str) -> None:
    is_below = not pattern.startswith("/") and ".." not in pattern.split("/")
    if pattern.count(KEY) != 1 or "://" in pattern or not is_below:
        raise ConfigError(
            f"source.files.{modality}={pattern}: give a name below source.root with {{key}} once"
        )


def _key_of(name: str, pattern: str) -> str | None:
    """Return the key of a file by its pattern, None where it is another one."""
    before, after = pattern.split(KEY)
    is_one = name.startswith(before) and name.endswith(after)
    key = name[len(before) : len(name) - len(after)] if is_one else ""
    return key or None


def _version(files: Sequence[ListedFile | None]) -> tuple[int, str]:
    """Return the size of a sample's files together, and a digest of their versions.

    A file that is not there counts too, so that one which comes later is a new version.
    """
    there = [file for file in files if file is not None]
    if not there:
        return -1, ""
    etags = [None if file is None else file.etag for file in files]
    size = sum(file.size for file in there)
    if not any(etags):
        return size, ""
    return size, hashlib.blake2b(json.dumps(etags).encode(), digest_size=16).hexdigest()
