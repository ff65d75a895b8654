"""The source whose samples are rows of features: a table with a group of columns per modality."""

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mke_ray.data.feature_table import NEWEST, FeatureTable, TableReading, load_table
from mke_ray.data.lookup import place_of
from mke_ray.data.reachable import is_there
from mke_ray.data.roles import label_space_of
from mke_ray.data.sources import Decoded, Reader, SourceRow
from mke_ray.data.table_columns import ColumnChoice, column_choice, is_pattern
from mke_ray.data.table_files import TableFile
from mke_ray.data.table_gaps import ABSENT, MEAN, ways_by_modality
from mke_ray.data.table_splits import Wanted, check_splits
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import DecodeSpec, FeatureSpec, LabelSpace, ManifestRow
from mke_ray.storage import open_root


@dataclass(frozen=True, slots=True)
class TableSource:
    """Rows of a table of features as samples, with a group of columns per modality.

    The table is a Parquet, CSV or TSV file, or an npz file, whose arrays [N] or [N, D] count as
    columns; in Parquet a column of lists holds several features too. A modality is a column or a
    list of columns, each a name or a pattern such as ``mfcc*``. A label is the name of a class or
    its index, blank where it is unknown; where many classes may hold it is names joined by ``|``.
    It may also be one column of 0 and 1 for every class, in the order of the classes.

    Args:
        table: Name of the file below ``root``.
        modalities: Columns of each modality.
        root: Folder or URI that holds the table; None where ``table`` is a whole path or URI.
        classes: Class names in logit order; None takes the names of the label columns.
        label_kind: ``single``, or ``multi`` where many classes may hold.
        columns: Columns ``label`` (a name, a pattern or a list), ``split``, ``group`` and ``key``
            (a name of the row that stays when rows move). Without a group each row is its own,
            without a key its number names it; a blank split is ``labelled`` where there is a label
            and ``unlabeled`` where there is none.
        missing: What happens to a row that lacks a value of a modality, one word or one per
            modality: ``absent`` leaves the row without the modality, ``mean`` takes the mean of
            the column over the unlabeled rows; a row with no value of a modality lacks it anyway.
        splits: Per split a number of groups (of rows, where there are no groups), a share of them,
            or ``rest``, in place of a split column.
        data_seed: Seed of that draw.
        about: What the table is and where it comes from, for the error when it is not there.
        storage_options: Options of the file system.
    """

    table: str
    modalities: Mapping[str, str | Sequence[str]]
    root: str | None = None
    classes: Sequence[Any] | None = None
    label_kind: str = "single"
    columns: Mapping[str, Any] | None = None
    missing: str | Mapping[str, str] = ABSENT
    splits: Mapping[str, Wanted] | None = None
    data_seed: int = 0
    about: str = ""
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check what can be checked without the table."""
        check_splits(self._reading.splits or {})
        self._file.root.filesystem()

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the labels."""
        return label_space_of(_classes(self.classes, self._choice), self.label_kind)

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root: the table's name and how it is read."""
        reading, choice = self._reading, self._reading.choice
        label = choice.label[0] if len(choice.label) == 1 else choice.label
        known = {
            "source": "table",
            "table": self._file.name,
            "modalities": choice.modalities,
            "label_space": self.label_space.to_dict(),
            "columns": [label, choice.others.get("split"), choice.others.get("group")],
        }
        if "key" in choice.others:
            known["key"] = choice.others["key"]
        if MEAN in reading.missing.values():
            known["missing"] = dict(reading.missing)
        if reading.splits is not None:
            known |= {"splits": dict(reading.splits), "data_seed": reading.data_seed}
        return known

    def place(self) -> str:
        """Return the URI of the table and its version."""
        return place_of(self._file.root, (self._file.root, self._file.name))

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Check that the table is there.

        Raises:
            ConfigError: It is not.
        """
        if not is_there(self._file.root, self._file.name, key="source.root"):
            raise self._not_there()

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per line of the table; its version is a digest of its features.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: The table or one of its columns is missing, or holds what it should not.
        """
        table = self._table()
        for key, number in list(table.row_of.items())[int(after or 0) :]:
            yield SourceRow(
                key=f"{self._file.name}#{key}",
                size=-1,
                etag=table.version(number),
                start_s=None,
                end_s=None,
                group=table.groups[number],
                split=table.splits[number],
                labels=table.labels[number],
                cursor=str(number + 1),
            )

    def notes(self) -> list[str]:
        """Say which missing values were filled, and which rows lack a modality for want of some."""
        return [str(one) for one in self._table().gaps]

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return what reads the features of a row.

        Raises:
            ConfigError: A modality has another number of columns than is to be stored.
        """
        table = self._table()
        for name, one in spec.items():
            found = table.features[name].shape[1] if name in table.features else 0
            expected = one.num_features if isinstance(one, FeatureSpec) else one.kind
            if expected != found:
                raise ConfigError(
                    f"decode.{name} wants {expected} features, source.modalities.{name} has "
                    f"{found} columns of {self._file.name}; set decode.{name}="
                    f"{{kind: features, num_features: {found}}}, or name other columns"
                )
        return TableReader(table, tuple(spec))

    @property
    def _place(self) -> tuple[str, str]:
        """Return the folder and the name of the table."""
        return (self.root, self.table) if self.root else posixpath.split(self.table)

    @property
    def _file(self) -> TableFile:
        folder, name = self._place
        return TableFile(open_root(folder, self.storage_options, key="source.root"), name)

    @property
    def _choice(self) -> ColumnChoice:
        return column_choice(self.modalities, self.columns, has_splits=self.splits is not None)

    @property
    def _reading(self) -> TableReading:
        choice = self._choice
        missing = ways_by_modality(self.missing, list(choice.modalities))
        return TableReading(choice, self.label_space, missing, self.splits, self.data_seed)

    def _table(self) -> FeatureTable:
        """Return the table as it is now; it is read once per process, and when it changed."""
        options = dict(self._file.root.options)
        key = json.dumps([self.identity(), self.place(), options], sort_keys=True, default=str)
        return NEWEST.get(key, self._load)

    def _load(self) -> FeatureTable:
        try:
            return load_table(self._file, self._reading)
        except FileNotFoundError:
            raise self._not_there() from None

    def _not_there(self) -> ConfigError:
        """Return the error for a table that is not there."""
        name, about = self._file.name, f" {self.about}" if self.about else ""
        return ConfigError(
            f"source.table={name} is not in {self._file.root.uri}; set source.root=DIR to the "
            f"folder that holds {name}.{about}"
        )


@dataclass(frozen=True, slots=True)
class TableReader:
    """Reads rows of a table in memory.

    Args:
        table: The table.
        modalities: What is to be stored of it.
    """

    table: FeatureTable
    modalities: tuple[str, ...]

    def read(self, row: ManifestRow) -> Decoded:
        """Return the features of a row; a modality with a value missing or not finite is missing.

        Raises:
            MediaError: No modality of the row is complete, or the row is not as it was listed.
        """
        number = self.table.row_of.get(row.key.rsplit("#", 1)[1])
        if number is None or (row.etag and row.etag != self.table.version(number)):
            raise MediaError(
                "changed", f"{row.key} is not as it was listed: the table changed; start again"
            )
        arrays: dict[str, np.ndarray] = {}
        missing: dict[str, str] = {}
        for modality in self.modalities:
            features_D = self.table.features[modality][number]
            if np.isfinite(features_D).all():
                arrays[modality] = features_D
            else:
                missing[modality] = "no_value"
        if not arrays:
            raise MediaError("no_value", f"row {row.key} has no complete modality")
        return Decoded(arrays, missing)


def _classes(classes: Sequence[Any] | None, choice: ColumnChoice) -> list[str]:
    """Return the names of the classes.

    Raises:
        ConfigError: Neither the classes nor the label columns are named.
    """
    if classes is not None:
        return [str(one) for one in classes]
    if len(choice.label) < 2 or any(is_pattern(one) for one in choice.label):
        raise ConfigError(
            "source.classes is not given; list the names of the classes in source.classes, or a "
            "column of 0 and 1 for each in source.columns.label"
        )
    return choice.label
