"""Groups that lie in several splits: results on them look better than they are."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from mke_ray.data.manifest.reading import Manifest
from mke_ray.schema import Split

# Splits that decide something or that true labels are learned from; they are small.
_HELD = (Split.TEST, Split.PROBE, Split.LABELLED)


@dataclass(frozen=True, slots=True)
class SharedGroups:
    """Groups that two splits have in common.

    Args:
        first: One split.
        second: The other one.
        num_groups: How many groups both have.
        example: One of them.
    """

    first: str
    second: str
    num_groups: int
    example: str

    def __str__(self) -> str:
        """Say it to a person."""
        return (
            f"{self.num_groups} groups lie in {self.first} and in {self.second}, for example "
            f"{self.example!r}: samples of a group are alike, so numbers on {self.first} are too "
            "good; give every group one split"
        )


def shared_groups(manifest: Manifest) -> list[SharedGroups]:
    """Return which splits have groups in common, rows in use alone.

    The groups of test, probe and labelled samples are held; those of the unlabeled ones are
    compared with them as they are read.

    Args:
        manifest: A finished manifest.
    """
    splits_of: dict[str, set[str]] = {}
    for split, groups in _groups(manifest, _HELD):
        for group in groups:
            splits_of.setdefault(group, set()).add(split)
    for split, groups in _groups(manifest, [Split.UNLABELED]):
        for group in groups & splits_of.keys():
            splits_of[group].add(split)
    pairs: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for group, found in splits_of.items():
        ordered = [str(split) for split in (*_HELD, Split.UNLABELED) if split in found]
        for number, first in enumerate(ordered):
            for second in ordered[number + 1 :]:
                pairs[first, second] += 1
                examples.setdefault((first, second), group)
    return [SharedGroups(*pair, num, examples[pair]) for pair, num in pairs.items()]


def group_sizes(manifest: Manifest, split: str, *, most: int) -> Counter[str] | None:
    """Return how many rows in use each group of a split has, None where there are too many groups.

    Args:
        manifest: A finished manifest.
        split: The split.
        most: Groups that may be held.
    """
    sizes: Counter[str] = Counter()
    for _, column in _columns(manifest, [split]):
        sizes.update(column.to_pylist())
        if len(sizes) > most:
            return None
    return sizes


def count_groups(manifest: Manifest, split: str, *, enough: int) -> int:
    """Return of how many groups the rows in use of a split are; stops where there are enough."""
    groups: set[str] = set()
    for _, found in _groups(manifest, [split]):
        groups |= found
        if len(groups) >= enough:
            break
    return len(groups)


def _groups(manifest: Manifest, splits: Iterable[str]) -> Iterator[tuple[str, set[str]]]:
    """Yield split and groups of the rows in use of every unit of some splits."""
    for split, column in _columns(manifest, splits):
        yield split, set(column.to_pylist())


def _columns(manifest: Manifest, splits: Iterable[str]) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield split and group of the rows in use of every unit of some splits."""
    refs = manifest.unit_refs(splits)
    for part, refs_of_part in itertools.groupby(refs, key=lambda ref: ref.part):
        file = manifest.open_part(part)
        for ref in refs_of_part:
            column = file.read_row_group(ref.row_group, columns=["group"]).column("group")
            marked_N = manifest.marks(ref.unit)
            in_use = column if marked_N is None else column.filter(pa.array(~marked_N))
            yield ref.split, in_use
