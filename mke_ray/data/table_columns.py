"""Which columns of a table of features are what: those of each modality, label, split, group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mke_ray.errors import ConfigError

_ROLES = ("label", "split", "group", "key")
_WILD = "*?["
_SHOWN = 12
_DRAWN = (
    "; or let splits be drawn: source.splits={labelled: 0.1, probe: 0.1, unlabeled: rest, "
    "test: 0.2}"
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Columns that a table has.

    Args:
        modalities: Columns of each modality.
        label: The label column, or one of flags per class.
        others: Columns of the other roles by role.
    """

    modalities: dict[str, list[str]]
    label: list[str]
    others: dict[str, str]


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """The columns as a configuration names them.

    Args:
        modalities: Names and patterns of each modality.
        label: Names and patterns of the label.
        others: Columns of the other roles by role.
    """

    modalities: dict[str, list[str]]
    label: list[str]
    others: dict[str, str]

    def among(self, names: Sequence[str], table: str) -> Chosen:
        """Return the columns that the names and patterns stand for.

        Args:
            names: Columns of the table.
            table: Its name, for errors.

        Raises:
            ConfigError: There is no such column, or a feature has another role as well.
        """
        label = _matching(self.label, names, "source.columns.label", table)
        for role, name in self.others.items():
            if name not in names:
                raise _no_column(f"source.columns.{role}", name, names, table)
        taken = {*label, *self.others.values()}
        features = [name for name in names if name not in taken]
        modalities = {}
        for modality, patterns in self.modalities.items():
            key = f"source.modalities.{modality}"
            if both := sorted(taken.intersection(patterns)):
                raise ConfigError(
                    f"{key} names {both}, and source.columns names them too: the network would "
                    "read the answer; take them out of one of the two"
                )
            modalities[modality] = _matching(patterns, features, key, table)
        return Chosen(modalities, label, self.others)


def column_choice(
    modalities: Mapping[str, str | Sequence[str]],
    columns: Mapping[str, Any] | None,
    *,
    has_splits: bool,
) -> ColumnChoice:
    """Return what ``source.modalities`` and ``source.columns`` say.

    Args:
        modalities: A column, a pattern or a list of them per modality.
        columns: Columns by role; a null one counts as not named.
        has_splits: Whether splits are drawn, so that none is read.

    Raises:
        ConfigError: A role is unknown, a split is both read and drawn, or nothing is named.
    """
    named = {role: one for role, one in (columns or {}).items() if one is not None}
    unknown = sorted(set(named) - set(_ROLES))
    if unknown:
        raise ConfigError(f"source.columns has {unknown}; it may name {', '.join(_ROLES)}")
    if has_splits and "split" in named:
        raise ConfigError(
            f"source.columns.split={named['split']} and source.splits both say which split a row "
            "is in; leave one of them out"
        )
    label = _listed(named.pop("label", "label"))
    others = {role: str(one) for role, one in named.items()}
    if not has_splits:
        others.setdefault("split", "split")
    chosen = {modality: _listed(one) for modality, one in modalities.items()}
    if not chosen or not all(chosen.values()):
        raise ConfigError(
            f"source.modalities={chosen} names no column of a modality; give columns of each, as "
            "in {voice: [mfcc*, f0_mean]}"
        )
    return ColumnChoice(chosen, label, others)


def is_pattern(name: str) -> bool:
    """Tell whether a name stands for all columns that it matches."""
    return any(sign in name for sign in _WILD)


def _listed(columns: Any) -> list[str]:
    return [columns] if isinstance(columns, str) else [str(one) for one in columns]


def _matching(patterns: Sequence[str], names: Sequence[str], key: str, table: str) -> list[str]:
    """Return the columns of some patterns, each once, in the order of patterns and table."""
    found: dict[str, None] = {}
    for pattern in patterns:
        some = [pattern] if pattern in names else []
        if not some and is_pattern(pattern):
            some = [name for name in names if fnmatchcase(name, pattern)]
        if not some:
            raise _no_column(key, pattern, names, table)
        found |= dict.fromkeys(some)
    return list(found)


def _no_column(key: str, name: str, names: Sequence[str], table: str) -> ConfigError:
    """Return the error for a column that is not there."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ConfigError(
        f"{key}: {table} has no columns {[name]}; it has {list(names[:_SHOWN])}{more}. Correct "
        f"the name{_DRAWN if key == 'source.columns.split' else ''}"
    )
