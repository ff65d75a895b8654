"""What the label columns of a table of features say: names, indices, or a flag per class."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.schema import LabelKind, LabelSpace

_YES_AND_NO = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def labels_of_table(
    columns: Mapping[str, Sequence[Any]], space: LabelSpace, *, table: str
) -> list[tuple[int, ...] | None]:
    """Return the classes of every row, None where unknown.

    Args:
        columns: The label column, or one of flags for every class in the order of the classes.
        space: The classes.
        table: Name of the table, for errors.

    Raises:
        ConfigError: A value names no class.
    """
    if len(columns) == 1:
        ((name, values),) = columns.items()
        return [_labels(one, space, f"{table}, row {n}, {name}") for n, one in enumerate(values)]
    named = f"columns {list(columns)}"
    rows = zip(*columns.values(), strict=True)
    return [_flagged(row, space, f"{table}, row {n}, {named}") for n, row in enumerate(rows)]


def is_blank(value: object) -> bool:
    """Tell whether a cell holds nothing."""
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or (isinstance(value, str) and not value.strip())


def _labels(value: Any, space: LabelSpace, where: str) -> tuple[int, ...] | None:
    """Return the classes that one cell names."""
    if isinstance(value, list):
        is_named = any(isinstance(one, str) for one in value)
        return _named(value, space, where) if is_named else _flagged(value, space, where)
    if is_blank(value):
        return None
    if space.kind is LabelKind.MULTI and isinstance(value, str):
        return _named(value.split("|"), space, where)
    return _named([value], space, where)


def _named(values: Sequence[Any], space: LabelSpace, where: str) -> tuple[int, ...]:
    """Return the classes that are named, or given by index."""
    return tuple(sorted({_index(one, space, where) for one in values if not is_blank(one)}))


def _index(value: Any, space: LabelSpace, where: str) -> int:
    """Return one class; a number that is the name of a class is that name."""
    text = str(int(value) if isinstance(value, bool) else value).strip()
    number = _whole_number(text)
    name = text if number is None else str(number)
    if number is None or name in space.classes:
        try:
            return space.index(name)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}; correct it or add it to source.classes") from None
    if 0 <= number < space.num_classes and not all(one.isdigit() for one in space.classes):
        return number
    raise ConfigError(
        f"{where}: label {number} of {where.split(',', maxsplit=1)[0]} is no class index; there "
        f"are {space.num_classes} classes: {list(space.classes)}"
    )


def _whole_number(text: str) -> int | None:
    """Return a number that is written as 3 or as 3.0, None for other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _flagged(values: Sequence[Any], space: LabelSpace, where: str) -> tuple[int, ...] | None:
    """Return the classes whose flag is up; None where no flag is known.

    Raises:
        ConfigError: Some flags are missing or none, or not one is up where one class holds.
    """
    blank = [is_blank(one) for one in values]
    if all(blank):
        return None
    flags = [_YES_AND_NO.get(str(one).strip().lower()) for one in values]
    if len(flags) != space.num_classes or None in flags:
        raise ConfigError(
            f"{where}: found {list(values)}; give 0 or 1 for each of the {space.num_classes} "
            "classes, or leave all of them blank where the label is unknown"
        )
    labels = tuple(number for number, flag in enumerate(flags) if flag)
    if space.kind is LabelKind.SINGLE and len(labels) != 1:
        raise ConfigError(
            f"{where}: {len(labels)} classes hold; set source.label_kind=multi if many may"
        )
    return labels
