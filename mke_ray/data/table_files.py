"""The columns of a file of features, Parquet, CSV or npz, with one row per sample."""

# N rows, D features.

import csv
import io
import posixpath
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mke_ray.errors import ConfigError
from mke_ray.storage import Root

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_CSV_COLUMN = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?(.*)", re.DOTALL)
_IS_LIST = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_THRIFT = "thrift"  # what Arrow says in an OSError where the footer of a file is none


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a table.

    Args:
        features: Per column its numbers as float32 [N, D], D = 1 for a plain column; NaN where
            there is none.
        values: Per column its values, None where there is none; of an array [N, D] lists.
    """

    features: dict[str, np.ndarray]
    values: dict[str, list[Any]]


class _Format(Protocol):
    """One way to keep a table in a file; both methods get the file at its begin."""

    def names(self, file: Any) -> list[str]:
        """Return the names of the columns."""
        ...

    def read(self, file: Any, features: Sequence[str], values: Sequence[str]) -> Columns:
        """Return some columns."""
        ...


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table of features below a root; each call opens it once and reads what is asked for.

    Args:
        root: Folder of the file.
        name: Its name, which ends in .parquet, .csv, .tsv or .npz.
    """

    root: Root
    name: str

    def names(self) -> list[str]:
        """Return the names of its columns, of an npz file of its arrays.

        Raises:
            ConfigError: The file cannot be read, or has a name twice.
        """
        with self._opened() as file:
            names = self._format().names(file)
        if twice := sorted({one for one in names if names.count(one) > 1}):
            raise ConfigError(f"source.table={self.name} has columns {twice} twice; rename some")
        return names

    def read(self, *, features: Sequence[str], values: Sequence[str]) -> Columns:
        """Return some columns.

        Args:
            features: Columns of numbers.
            values: Columns of anything.

        Raises:
            ConfigError: A column of features holds something else, or columns differ in length.
        """
        with self._opened() as file:
            columns = self._format().read(file, features, values)
        self._check_lengths(columns)
        return columns

    def _format(self) -> _Format:
        suffix = posixpath.splitext(self.name)[1]
        if suffix in _DELIMITERS:
            return _Csv(_DELIMITERS[suffix])
        known: Mapping[str, _Format] = {".parquet": _Parquet(), ".npz": _Npz()}
        if suffix not in known:
            raise ConfigError(
                f"source.table={self.name} must end in one of {[*_DELIMITERS, *known]}"
            )
        return known[suffix]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file; what is wrong with its content names it."""
        self._format()
        try:
            with self.root.filesystem().open(self.root.path(self.name), "rb") as file:
                yield file
        except (pa.ArrowException, UnicodeDecodeError, ValueError, zipfile.BadZipFile) as error:
            said = " ".join(str(error).split())
            raise ConfigError(f"source.table={self.name} cannot be read: {said}") from error
        except OSError as error:
            if _THRIFT not in str(error):
                raise
            raise ConfigError(f"source.table={self.name} is no Parquet file: {error}") from error
        except ConfigError as error:
            raise ConfigError(f"source.table={self.name}: {error}") from error

    def _check_lengths(self, columns: Columns) -> None:
        lengths = {name: len(one) for name, one in {**columns.features, **columns.values}.items()}
        if len(set(lengths.values())) > 1:
            raise ConfigError(
                f"source.table={self.name}: its arrays have {lengths} rows; give each one row per "
                "sample"
            )


@dataclass(frozen=True, slots=True)
class _Csv:
    """Text with the names in its first line."""

    delimiter: str

    def names(self, file: Any) -> list[str]:
        lines = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        names = next(csv.reader(lines, delimiter=self.delimiter), [])
        lines.detach()
        return names

    def read(self, file: Any, features: Sequence[str], values: Sequence[str]) -> Columns:
        names = self.names(file)
        file.seek(0)
        types = {**dict.fromkeys(features, pa.float32()), **dict.fromkeys(values, pa.string())}
        try:
            table = pa_csv.read_csv(
                file,
                read_options=pa_csv.ReadOptions(use_threads=False),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=types, include_columns=list(types)
                ),
            )
        except pa.ArrowInvalid as error:
            raise _not_a_number(error, names) from error
        return _columns_of(table, features, values)


class _Parquet:
    """Columns of numbers, or of lists of as many numbers in every row."""

    def names(self, file: Any) -> list[str]:
        return pq.ParquetFile(file).schema_arrow.names

    def read(self, file: Any, features: Sequence[str], values: Sequence[str]) -> Columns:
        wanted = list(dict.fromkeys([*features, *values]))
        return _columns_of(pq.read_table(file, columns=wanted), features, values)


class _Npz:
    """Arrays [N] or [N, D] by name."""

    def names(self, file: Any) -> list[str]:
        return list(np.load(file, allow_pickle=False).files)

    def read(self, file: Any, features: Sequence[str], values: Sequence[str]) -> Columns:
        arrays = np.load(file, allow_pickle=False)
        return Columns(
            {name: _two_axes(name, arrays[name]) for name in features},
            {name: _listed(arrays[name]) for name in values},
        )


def _listed(array_NX: np.ndarray) -> list[Any]:
    """Return an array of values as a list; bytes are text."""
    return (np.char.decode(array_NX) if array_NX.dtype.kind == "S" else array_NX).tolist()


def _two_axes(name: str, array_NX: np.ndarray) -> np.ndarray:
    """Return an array of features as float32 [N, D]."""
    if array_NX.ndim not in (1, 2) or array_NX.dtype.kind not in "fiub":
        raise ConfigError(
            f"array {name} is {array_NX.dtype}{list(array_NX.shape)}; features are numbers [N] or "
            "[N, D]"
        )
    return array_NX.reshape(len(array_NX), -1).astype(np.float32)


def _columns_of(table: pa.Table, features: Sequence[str], values: Sequence[str]) -> Columns:
    """Return columns of an Arrow table."""
    return Columns(
        {name: _numbers(name, table.column(name)) for name in features},
        {name: table.column(name).to_pylist() for name in values},
    )


def _numbers(name: str, column_N: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers, or of lists of them, as float32 [N, D]; NaN for null."""
    kind = column_N.type
    try:
        if not any(is_one(kind) for is_one in _IS_LIST):
            return _floats(column_N)[:, None]
        widths = pc.call_function("list_value_length", [column_N]).drop_null().unique().to_pylist()
        if len(widths) != 1:
            raise ConfigError(f"column {name} holds lists of {sorted(widths)} numbers; give one")
        features_ND = np.full((len(column_N), widths[0]), np.nan, dtype=np.float32)
        is_there_N = column_N.is_valid().to_numpy()
        features_ND[is_there_N] = _floats(pc.call_function("list_flatten", [column_N])).reshape(
            -1, widths[0]
        )
        return features_ND
    except pa.ArrowException as error:
        raise ConfigError(
            f"column {name} is {kind}, and features are numbers ({error}); take it out of "
            "source.modalities"
        ) from error


def _floats(column_N: Any) -> np.ndarray:
    """Return numbers as float32 [N], NaN for null."""
    return column_N.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False).astype(np.float32)


def _not_a_number(error: pa.ArrowInvalid, names: Sequence[str]) -> ConfigError:
    """Return the error for text in a column of features."""
    found = _CSV_COLUMN.search(str(error))
    if found is None:
        return ConfigError(str(error))
    column, row, said = found.groups()
    where = f" in line {row}" if row else ""
    return ConfigError(
        f"column {names[int(column)]}{where}: {said}; features are numbers, so correct it, leave "
        "it blank, or take the column out of source.modalities"
    )
