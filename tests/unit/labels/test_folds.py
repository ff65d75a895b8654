"""Folds go by group, are equally large, and the same wherever they are computed."""

import pytest

from mke_ray.errors import ConfigError
from mke_ray.labels.folds import FoldDivision, balanced_folds, even_folds

GROUPS = [f"actor {number}" for number in range(11)]


def sizes_of(division: FoldDivision, sizes: list[int]) -> list[int]:
    total = [0] * division.num_folds
    for group, size in zip(GROUPS, sizes, strict=True):
        total[division.fold_of(group)] += size
    return total


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_few_groups_are_dealt_out_evenly(num_folds: int, seed: int) -> None:
    division = balanced_folds(GROUPS, [15] * 11, num_folds, seed=seed)
    found = sizes_of(division, [15] * 11)
    assert max(found) - min(found) <= 15


def test_groups_of_very_different_sizes_leave_no_fold_empty() -> None:
    sizes = [1000, *[1] * 10]
    assert all(sizes_of(balanced_folds(GROUPS, sizes, 3), sizes))


def test_as_many_folds_as_groups_hold_one_each() -> None:
    assert sizes_of(balanced_folds(GROUPS, [1] * 11, 11), [1] * 11) == [1] * 11


def test_the_order_of_the_groups_does_not_matter() -> None:
    assert balanced_folds(GROUPS, [15] * 11, 3) == balanced_folds(GROUPS[::-1], [15] * 11, 3)


def test_another_seed_deals_out_anew() -> None:
    one, other = (balanced_folds(GROUPS, [15] * 11, 3, seed=seed) for seed in (0, 1))
    assert [one.fold_of(group) for group in GROUPS] != [other.fold_of(group) for group in GROUPS]


def test_very_many_groups_are_dealt_out_by_the_hash_alone() -> None:
    division = even_folds(4)
    folds = [division.fold_of(f"{number}.mp4") for number in range(4000)]
    assert all(900 < folds.count(fold) < 1100 for fold in range(4))


def test_a_division_survives_as_plain_data() -> None:
    division = balanced_folds(GROUPS, [15] * 11, 3, seed=4)
    assert FoldDivision.from_dict(division.to_dict()) == division


def test_too_few_groups_are_refused_with_the_key() -> None:
    with pytest.raises(ConfigError, match=r"expansion\.folds is 3.*2 groups"):
        balanced_folds(GROUPS[:2], [5, 5], 3)
    with pytest.raises(ConfigError, match=r"expansion\.folds is 1"):
        even_folds(1)
