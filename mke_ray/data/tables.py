"""Sources of feature rows: tables of columns, and the TwoMoon set of the paper."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from mke_ray.data.sources import Decoded, Reader, SourceRow
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import DecodeSpec, FeatureSpec, LabelSpace, ManifestRow, Split
from mke_ray.storage import Root, open_root

_TWO_MOON_FILE = "two_moon.parquet"


class TableSource:
    """Rows of one Parquet table as samples, with a group of columns per modality.

    Args:
        root: Folder or URI that holds the table.
        table: Name of the Parquet file below ``root``.
        modalities: Columns of each modality.
        classes: Class names in logit order; the label column holds names or indices.
        columns: Names of the columns ``label`` (null values are unknown), ``split`` and, if there
            is one, ``group``; without a group each row is its own.
        storage_options: Options of the file system.
    """

    def __init__(
        self,
        *,
        root: str,
        table: str,
        modalities: Mapping[str, Sequence[str]],
        classes: Sequence[str],
        columns: Mapping[str, str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.label_space = LabelSpace(tuple(classes))
        self._root = open_root(root, storage_options)
        self._table = table
        self._modalities = {name: tuple(columns) for name, columns in modalities.items()}
        named = {"label": "label", "split": "split", **(columns or {})}
        unknown = sorted(set(named) - {"label", "split", "group"})
        if unknown:
            raise ConfigError(f"source.columns has {unknown}; it may name label, split and group")
        self._label, self._split, self._group = named["label"], named["split"], named.get("group")

    def identity(self) -> dict[str, Any]:
        """Return what may not change under one root: the table's name and its columns."""
        return {
            "source": "table",
            "table": self._table,
            "modalities": {name: list(columns) for name, columns in self._modalities.items()},
            "label_space": self.label_space.to_dict(),
            "columns": [self._label, self._split, self._group],
        }

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Do nothing: the table is there."""

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per line of the table; its version is a digest of its features.

        Args:
            after: Cursor of the row to go on behind.

        Raises:
            ConfigError: The table or one of its columns is missing.
        """
        table = _read_table(self._root, self._table)
        wanted = [self._label, self._split, *([self._group] if self._group else [])]
        features = [column for columns in self._modalities.values() for column in columns]
        missing = sorted({*wanted, *features} - set(table.column_names))
        if missing:
            raise ConfigError(
                f"source.table={self._table} has no columns {missing}; it has {table.column_names}"
            )
        features_ND = _matrix(table, features)
        first = int(after or 0)
        for number, line in enumerate(table.select(wanted).slice(first).to_pylist(), start=first):
            etag = hashlib.blake2b(features_ND[number].tobytes(), digest_size=8).hexdigest()
            yield replace(self._row(number, line), etag=etag)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return what reads the features of a row."""
        return TableReader(root=self._root, modalities=self._modalities, spec=spec)

    def _row(self, number: int, line: Mapping[str, Any]) -> SourceRow:
        """Return the manifest's view of one line."""
        value = line[self._label]
        labels = None if value is None else (self._index(value),)
        group = str(line[self._group]) if self._group else f"row-{number}"
        if line[self._split] not in list(Split):
            raise ConfigError(
                f"row {number} of {self._table} has {self._split}={line[self._split]!r}; "
                f"choose one of {[str(split) for split in Split]}"
            )
        return SourceRow(
            key=f"{self._table}#{number}",
            size=-1,
            etag="",
            start_s=None,
            end_s=None,
            group=group,
            split=str(line[self._split]),
            labels=labels,
            cursor=str(number + 1),
        )

    def _index(self, value: object) -> int:
        """Return the class index of a label given by name or by index."""
        if isinstance(value, int | float) and float(value).is_integer():
            if 0 <= int(value) < self.label_space.num_classes:
                return int(value)
            raise ConfigError(
                f"label {value} of {self._table} is no class index; "
                f"there are {self.label_space.num_classes} classes"
            )
        return self.label_space.index(str(value))


class TableReader:
    """Reads feature rows of a table; the table is loaded once per process.

    Args:
        root: Folder that holds the table.
        modalities: Columns of each modality.
        spec: What is to be stored of each modality.
    """

    def __init__(
        self, *, root: Root, modalities: Mapping[str, Sequence[str]], spec: DecodeSpec
    ) -> None:
        self._root = root
        self._modalities = {name: modalities.get(name, ()) for name in spec}
        for name, one in spec.items():
            expected = one.num_features if isinstance(one, FeatureSpec) else None
            if expected != len(self._modalities[name]):
                raise ConfigError(
                    f"decode.{name} wants {expected} features, "
                    f"source.modalities.{name} has {len(self._modalities[name])} columns"
                )

    def read(self, row: ManifestRow) -> Decoded:
        """Return the features of a row; a modality with a value missing or not finite is missing.

        Raises:
            MediaError: No modality of the row is complete.
        """
        table, number = row.key.rsplit("#", 1)
        arrays: dict[str, np.ndarray] = {}
        missing: dict[str, str] = {}
        for modality, columns in self._modalities.items():
            matrix = _read_matrix(self._root, table, tuple(columns))
            features = matrix[int(number)]
            if np.isfinite(features).all():
                arrays[modality] = features
            else:
                missing[modality] = "no_value"
        if not arrays:
            raise MediaError("no_value", f"row {row.key} has no complete modality")
        return Decoded(arrays, missing)


class TwoMoonSource:
    """The TwoMoon set of the paper: the horizontal axis is modality ``a``, the vertical ``b``.

    Args:
        root: Folder or URI in which the table is written.
        data_seed: Seed of the points and of both splits; the paper's notebook uses 42.
        num_points: Points drawn.
        noise: Standard deviation of the noise on the points.
        storage_options: Options of the file system.

    Source:
        Xue et al., Multimodal Knowledge Expansion, ICCV 2021, section 4.1 and its notebook.
    """

    def __init__(
        self,
        *,
        root: str,
        data_seed: int = 42,
        num_points: int = 500,
        noise: float = 0.1,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._root = open_root(root, storage_options)
        self._drawn = {"data_seed": data_seed, "num_points": num_points, "noise": noise}
        self._table = TableSource(
            root=root,
            table=_TWO_MOON_FILE,
            modalities={"a": ["x"], "b": ["y"]},
            classes=["upper", "lower"],
            storage_options=storage_options,
        )
        self.label_space = self._table.label_space

    def identity(self) -> dict[str, Any]:
        """Return what decides whether a manifest of this source can be used again."""
        return {**self._table.identity(), "source": "two_moon", **self._drawn}

    def preview(self, scratch: str) -> "TwoMoonSource":
        """Return the same set in a scratch folder, for a rehearsal that writes nothing else."""
        source = TwoMoonSource(root=scratch, **self._drawn)
        source.prepare()
        return source

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Write the table if it is not there."""
        sink = io.BytesIO()
        pq.write_table(two_moon_table(**self._drawn), sink)
        self._root.create(_TWO_MOON_FILE, sink.getvalue())

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per point, those behind a cursor where one is given."""
        return self._table.rows(after)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return what reads the coordinates of a point."""
        return self._table.reader(spec)


def two_moon_table(*, data_seed: int, num_points: int, noise: float) -> pa.Table:
    """Draw the TwoMoon points and their splits: 40% test, of the rest 10% labelled.

    The points are standardised over the whole set, before the split, as the paper's notebook does.

    Returns:
        Table with columns x, y (float32), label (int32) and split.
    """
    points, label_N = make_moons(n_samples=num_points, noise=noise, random_state=data_seed)
    points_N2 = np.asarray(StandardScaler().fit_transform(points), dtype=np.float32)
    rest, test = train_test_split(np.arange(num_points), test_size=0.4, random_state=data_seed)
    labelled, unlabeled = train_test_split(rest, test_size=0.9, random_state=data_seed)
    split_N = np.empty(num_points, dtype=object)
    for name, chosen in (("labelled", labelled), ("unlabeled", unlabeled), ("test", test)):
        split_N[chosen] = name
    return pa.table(
        {
            "x": points_N2[:, 0],
            "y": points_N2[:, 1],
            "label": np.asarray(label_N, dtype=np.int32),
            "split": pa.array(split_N.tolist(), pa.string()),
        }
    )


def _read_table(root: Root, name: str) -> pa.Table:
    """Return the table below a root.

    Raises:
        ConfigError: There is no such file.
    """
    try:
        return pq.read_table(io.BytesIO(root.read(name)))
    except FileNotFoundError:
        raise _missing_table(root, name) from None
    except pa.ArrowInvalid as error:
        raise ConfigError(f"source.table={name} is not a Parquet file: {error}") from error


def _missing_table(root: Root, name: str) -> ConfigError:
    """Return the error for a table that is not there."""
    return ConfigError(
        f"source.table={name} is not in source.root={root.uri}; give the folder of the table"
    )


@lru_cache(maxsize=32)
def _load_matrix(uri: str, options_json: str, key: tuple[str, ...]) -> np.ndarray:
    """Load columns of a table as float32 [N, D] once per process."""
    name, *columns = key
    return _matrix(_read_table(Root(uri, json.loads(options_json)), name), columns)


def _matrix(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """Return columns of a table as float32 [N, D]."""
    stacked = [table.column(column).to_numpy(zero_copy_only=False) for column in columns]
    return np.stack(stacked, axis=1).astype(np.float32)


def _read_matrix(root: Root, name: str, columns: tuple[str, ...]) -> np.ndarray:
    """Return columns of a table as float32 [N, D]."""
    return _load_matrix(root.uri, json.dumps(dict(root.options), sort_keys=True), (name, *columns))
