"""Values that a table of features lacks: the modality is missing, or means take their place."""

# N rows, D features.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mke_ray.errors import ConfigError

ABSENT = "absent"
MEAN = "mean"
WAYS = (ABSENT, MEAN)

_COLUMNS_NAMED = 6


@dataclass(frozen=True, slots=True)
class Filled:
    """What was filled in one modality.

    Args:
        modality: Its name.
        by_column: Values filled per column, those without any left out.
        num_rows: Rows in which something was filled.
        num_values: Values of the modality, filled or not.
    """

    modality: str
    by_column: Mapping[str, int]
    num_rows: int
    num_values: int

    def __str__(self) -> str:
        """Say it in one line."""
        num = sum(self.by_column.values())
        return (
            f"source.missing=mean filled {num:,} of {self.num_values:,} values of "
            f"{self.modality} ({num / self.num_values:.1%}) in {self.num_rows:,} rows with the "
            f"means of the unlabeled rows: {_named(self.by_column)}"
        )


@dataclass(frozen=True, slots=True)
class Lacking:
    """Rows that lack one modality for want of values.

    Args:
        modality: Its name.
        by_column: Values missing in these rows per column, those without any left out.
        num_rows: How many rows lack it.
        num_all: Rows of the table.
        num_mendable: Of those that lack it, rows that have some of its values.
    """

    modality: str
    by_column: Mapping[str, int]
    num_rows: int
    num_all: int
    num_mendable: int

    def __str__(self) -> str:
        """Say it in one line."""
        way_out = ""
        if self.num_mendable:
            way_out = f"; source.missing=mean would fill {self.num_mendable:,} of them"
        return (
            f"{self.num_rows:,} of {self.num_all:,} rows lack {self.modality} for want of values: "
            f"{_named(self.by_column)}{way_out}"
        )


def ways_by_modality(missing: str | Mapping[str, str], modalities: Sequence[str]) -> dict[str, str]:
    """Return what ``source.missing`` says for every modality.

    Raises:
        ConfigError: A word or a modality is unknown.
    """
    ways = dict.fromkeys(modalities, missing) if isinstance(missing, str) else dict(missing)
    for modality, way in ways.items():
        if modality not in modalities:
            raise ConfigError(
                f"source.missing names {modality!r}; source.modalities has {list(modalities)}"
            )
        if way not in WAYS:
            raise ConfigError(f"source.missing={way!r} for {modality}; choose one of {list(WAYS)}")
    return dict.fromkeys(modalities, ABSENT) | ways


def fill_with_means(
    features_ND: np.ndarray, is_source_N: np.ndarray, *, modality: str, names: Sequence[str]
) -> Filled | None:
    """Put means in the place of missing values; rows without any value stay as they are.

    Args:
        features_ND: Features, which are changed; a value that is not finite is missing.
        is_source_N: Rows that the means are taken over, bool.
        modality: Name of the modality.
        names: Name of each feature.

    Returns:
        What was filled, None where there was nothing to fill.

    Raises:
        ConfigError: A feature has no value in the rows of the means.
    """
    is_gap_ND = ~np.isfinite(features_ND)
    is_gap_ND[is_gap_ND.all(axis=1)] = False
    num_D = is_gap_ND.sum(axis=0)
    if not num_D.any():
        return None
    for column in np.flatnonzero(num_D).tolist():
        known_N = features_ND[is_source_N, column]
        known_N = known_N[np.isfinite(known_N)]
        if not len(known_N):
            raise ConfigError(
                f"source.missing=mean: column {names[column]} of {modality} has no value in any "
                "unlabeled row; take it out of source.modalities, or set source.missing=absent"
            )
        features_ND[is_gap_ND[:, column], column] = known_N.mean(dtype=np.float64)
    num_rows = int(is_gap_ND.any(axis=1).sum())
    return Filled(modality, _by_column(names, num_D), num_rows, features_ND.size)


def lacking_rows(features_ND: np.ndarray, *, modality: str, names: Sequence[str]) -> Lacking | None:
    """Return which rows lack a modality, and for which columns; None where every row has it.

    Args:
        features_ND: Features; a value that is not finite is missing.
        modality: Name of the modality.
        names: Name of each feature.
    """
    is_gap_ND = ~np.isfinite(features_ND)
    lacks_N = is_gap_ND.any(axis=1)
    if not lacks_N.any():
        return None
    has_some_N = lacks_N & ~is_gap_ND.all(axis=1)
    by_column = _by_column(names, is_gap_ND.sum(axis=0))
    num, num_mendable = int(lacks_N.sum()), int(has_some_N.sum())
    return Lacking(modality, by_column, num, len(features_ND), num_mendable)


def _by_column(names: Sequence[str], num_D: np.ndarray) -> dict[str, int]:
    """Return the numbers of the columns that have any; a name may stand for several features."""
    by_column: dict[str, int] = {}
    for name, number in zip(names, num_D.tolist(), strict=True):
        if number:
            by_column[name] = by_column.get(name, 0) + number
    return by_column


def _named(by_column: Mapping[str, int]) -> str:
    """Name the columns with the greatest numbers."""
    most = sorted(by_column.items(), key=lambda one: -one[1])
    named = ", ".join(f"{name} {number:,}" for name, number in most[:_COLUMNS_NAMED])
    return named + (f" and {len(most) - _COLUMNS_NAMED} more" if len(most) > _COLUMNS_NAMED else "")
