"""Splits of a table that has none: drawn by group where there are groups, else by class."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from mke_ray.errors import ConfigError
from mke_ray.schema import Split

REST = "rest"
_ORDER = (Split.LABELLED, Split.PROBE, Split.TEST)  # unlabeled takes the others

Wanted = int | float | str


def check_splits(wanted: Mapping[str, Wanted]) -> None:
    """Refuse ``source.splits`` that no table could be drawn by.

    Raises:
        ConfigError: A split is unknown, or a number is neither a count nor a share.
    """
    for name, value in wanted.items():
        if name not in list(Split):
            raise ConfigError(
                f"source.splits.{name} is no split; choose of {[str(one) for one in Split]}"
            )
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        is_share = isinstance(value, float) and 0 <= value <= 1
        if not (is_count or is_share or value == REST):
            raise ConfigError(
                f"source.splits.{name}={value}; give a number of groups (or of rows, without "
                f"groups) such as 4, a share such as 0.25, or {REST}"
            )
    if sum(value == REST for value in wanted.values()) > 1:
        raise ConfigError(f"source.splits: only one split may take the {REST}, found {wanted}")


def draw_splits(
    keys: Sequence[str],
    labels: Sequence[tuple[int, ...] | None],
    groups: Sequence[str] | None,
    *,
    wanted: Mapping[str, Wanted],
    data_seed: int,
) -> list[str]:
    """Return the split of every row, drawn anew for every seed.

    A group is in one split as a whole; without groups a row is drawn alone, so that every split
    has all classes in their proportions. What has a row without a label is unlabeled. The draw is
    a hash of seed and name, so that a row that is added moves few others.

    Args:
        keys: Name of every row.
        labels: Its classes, None where unknown.
        groups: Its group, None where the table has none.
        wanted: Per split how many groups or rows, which share of them, or ``rest``.
        data_seed: Seed of the draw.

    Raises:
        ConfigError: The numbers do not add up to the groups or rows there are.
    """
    names = keys if groups is None else groups
    unit = "rows" if groups is None else "groups"
    known: dict[str, tuple[int, ...] | None] = {}
    for name, one in zip(names, labels, strict=True):
        known[name] = one if known.get(name, one) is not None else None
    numbers = _numbers(wanted, len(known), unit)
    able = [name for name, one in known.items() if one is not None]
    num_able = sum(numbers[split] for split in _ORDER)
    if num_able > len(able):
        raise ConfigError(
            f"source.splits wants {num_able} {unit} for {[str(one) for one in _ORDER]}, and "
            f"{len(able)} of {len(known)} have a label on every row; want fewer, or add labels"
        )
    ordered = _ordered(able, {} if groups is not None else known, data_seed)
    drawn = dict.fromkeys(known, str(Split.UNLABELED))
    first = 0
    for split in _ORDER:
        drawn |= dict.fromkeys(ordered[first : first + numbers[split]], str(split))
        first += numbers[split]
    return [drawn[name] for name in names]


def _ordered(names: Sequence[str], classes: Mapping[str, Hashable], data_seed: int) -> list[str]:
    """Return names in a random order any stretch of which has all classes in proportion."""
    of_class: defaultdict[Hashable, list[str]] = defaultdict(list)
    for name in sorted(names, key=lambda one: position(data_seed, one)):
        of_class[classes.get(name)].append(name)
    place: dict[str, tuple[float, float]] = {}
    for label, members in of_class.items():
        shift = position(data_seed, f"class {label}")
        for number, name in enumerate(members):
            place[name] = ((number + shift) / len(members), position(data_seed, name))
    return sorted(names, key=lambda name: place[name])


def position(data_seed: int, name: str) -> float:
    """Return a number in [0, 1) that seed and name determine, and nothing else goes by.

    The parts of the probe go by the same hash of a seed and a group; without the word before it,
    all groups of a probe drawn by seed 0 would be neighbours there, and in one part.
    """
    digest = hashlib.blake2b(f"split {data_seed}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _numbers(wanted: Mapping[str, Wanted], num: int, unit: str) -> dict[Split, int]:
    """Return how many groups or rows each split gets.

    Raises:
        ConfigError: They are not as many as there are.
    """
    exact = {Split(name): _exact(value, num) for name, value in wanted.items() if value != REST}
    numbers = {split: math.floor(one + 1e-9) for split, one in exact.items()}
    has_rest = REST in wanted.values()
    left = num - sum(numbers.values())
    if not has_rest and abs(sum(exact.values()) - num) < 1e-6 * max(num, 1):
        largest = sorted(exact, key=lambda split: numbers[split] - exact[split])
        for split in largest[:left]:
            numbers[split] += 1
        left = 0
    if left < 0 or (left > 0 and not has_rest):
        raise ConfigError(
            f"source.splits={dict(wanted)} takes {num - left} {unit}, and there are {num}; "
            f"let one split take the {REST}, as in {{unlabeled: {REST}}}"
        )
    rest = [Split(name) for name, value in wanted.items() if value == REST]
    return dict.fromkeys(Split, 0) | numbers | dict.fromkeys(rest, left)


def _exact(value: Wanted, num: int) -> float:
    """Return a count as it is, and what a share comes to."""
    return value * num if isinstance(value, float) else float(value)
