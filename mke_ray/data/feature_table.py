"""A table of features in memory: its rows with labels, groups and splits, and what was filled."""

# N rows, D features.

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mke_ray.data.roles import parse_split
from mke_ray.data.table_columns import Chosen, ColumnChoice
from mke_ray.data.table_files import TableFile
from mke_ray.data.table_gaps import MEAN, Filled, Lacking, fill_with_means, lacking_rows
from mke_ray.data.table_labels import is_blank, labels_of_table
from mke_ray.data.table_splits import Wanted, draw_splits
from mke_ray.errors import ConfigError
from mke_ray.schema import LabelSpace, Split

Labels = list[tuple[int, ...] | None]


@dataclass(frozen=True, slots=True)
class TableReading:
    """How a table is read.

    Args:
        choice: Its columns.
        label_space: The classes.
        missing: Per modality what happens to a row that lacks a value.
        splits: What the splits are drawn by, None where a column says them.
        data_seed: Seed of that draw.
    """

    choice: ColumnChoice
    label_space: LabelSpace
    missing: Mapping[str, str]
    splits: Mapping[str, Wanted] | None
    data_seed: int


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """A table in memory.

    Args:
        features: Per modality its features, float32 [N, D]; not finite where there is no value.
        row_of: Number of the row of each key, in the order of the table.
        labels: Classes of each row, None where unknown.
        groups: Who or what each row comes from.
        splits: Split of each row.
        gaps: What means were put in the place of missing values, and which rows still lack some.
    """

    features: dict[str, np.ndarray]
    row_of: dict[str, int]
    labels: Labels
    groups: list[str]
    splits: list[str]
    gaps: tuple[Filled | Lacking, ...]

    def version(self, number: int) -> str:
        """Return a digest of the features of a row."""
        content = b"".join(one[number].tobytes() for one in self.features.values())
        return hashlib.blake2b(content, digest_size=8).hexdigest()


class _Newest:
    """Holds the table that was asked for last, so that a process holds one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[str, FeatureTable] | None = None

    def get(self, key: str, load: Callable[[], FeatureTable]) -> FeatureTable:
        """Return the table of a key, loaded once by whichever thread comes first."""
        with self._lock:
            if self._held is None or self._held[0] != key:
                self._held = None  # frees its memory before the next one fills up
                self._held = (key, load())
            return self._held[1]


NEWEST = _Newest()


def load_table(file: TableFile, reading: TableReading) -> FeatureTable:
    """Read a table.

    Raises:
        ConfigError: A column is missing, or holds what it should not.
        FileNotFoundError: There is no such file.
    """
    chosen = reading.choice.among(file.names(), file.name)
    features = dict.fromkeys(name for names in chosen.modalities.values() for name in names)
    values = dict.fromkeys([*chosen.label, *chosen.others.values()])
    read = file.read(features=list(features), values=list(values))
    label_columns = {name: read.values[name] for name in chosen.label}
    labels = labels_of_table(label_columns, reading.label_space, table=file.name)
    keys = _keys(chosen, read.values, len(labels), file.name)
    groups = _groups(chosen, read.values, keys)
    splits = _splits(chosen, read.values, rows=(keys, labels, groups), reading=reading, file=file)
    matrices, gaps = _matrices(chosen, read.features, splits, reading.missing)
    row_of = {key: number for number, key in enumerate(keys)}
    return FeatureTable(matrices, row_of, labels, groups, splits, gaps)


def _keys(chosen: Chosen, values: Mapping[str, list[Any]], num: int, table: str) -> list[str]:
    """Return the names of the rows, their numbers where no column names them.

    Raises:
        ConfigError: Two rows have one name.
    """
    column = chosen.others.get("key")
    if column is None:
        return [str(number) for number in range(num)]
    keys = [str(one) for one in values[column]]
    key, times = Counter(keys).most_common(1)[0] if keys else ("", 0)
    if times > 1:
        raise ConfigError(
            f"source.columns.key={column}: {table} has {key!r} {times} times; name a column "
            "without repetitions, or leave the key out"
        )
    return keys


def _groups(chosen: Chosen, values: Mapping[str, list[Any]], keys: Sequence[str]) -> list[str]:
    """Return the group of every row; one without is a group of its own."""
    column = chosen.others.get("group")
    named = values[column] if column else [None] * len(keys)
    return [
        f"row-{key}" if is_blank(one) else str(one) for key, one in zip(keys, named, strict=True)
    ]


def _splits(
    chosen: Chosen,
    values: Mapping[str, list[Any]],
    *,
    rows: tuple[list[str], Labels, list[str]],
    reading: TableReading,
    file: TableFile,
) -> list[str]:
    """Return the split of every row, drawn or as its column says."""
    keys, labels, groups = rows
    if reading.splits is not None:
        grouped = groups if "group" in chosen.others else None
        wanted, data_seed = reading.splits, reading.data_seed
        return draw_splits(keys, labels, grouped, wanted=wanted, data_seed=data_seed)
    column = chosen.others["split"]
    texts = ["" if is_blank(one) else str(one).strip() for one in values[column]]
    return [
        parse_split(text, one, where=f"{file.name}, row {number}, {column}")
        for number, (text, one) in enumerate(zip(texts, labels, strict=True))
    ]


def _matrices(
    chosen: Chosen,
    features: Mapping[str, np.ndarray],
    splits: Sequence[str],
    missing: Mapping[str, str],
) -> tuple[dict[str, np.ndarray], tuple[Filled | Lacking, ...]]:
    """Return the features of every modality, filled where that is asked for, and their gaps."""
    is_unlabeled_N = np.asarray(splits, dtype=object) == str(Split.UNLABELED)
    matrices: dict[str, np.ndarray] = {}
    gaps: list[Filled | Lacking | None] = []
    for modality, names in chosen.modalities.items():
        matrices[modality] = np.concatenate([features[name] for name in names], axis=1)
        every = [name for name in names for _ in range(features[name].shape[1])]
        named = {"modality": modality, "names": every}
        if missing[modality] == MEAN:
            gaps.append(fill_with_means(matrices[modality], is_unlabeled_N, **named))
        gaps.append(lacking_rows(matrices[modality], **named))
    return matrices, tuple(one for one in gaps if one is not None)
