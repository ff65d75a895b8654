"""Splits that are drawn: whole groups, or rows with every class in proportion."""

from collections import Counter, defaultdict

import pytest

from mke_ray.data.table_splits import check_splits, draw_splits
from mke_ray.errors import ConfigError
from mke_ray.labels.probe import GATE, SELECT, probe_part

ACTORS = [f"actor-{number % 24}" for number in range(240)]
KEYS = [str(number) for number in range(240)]
LABELS = [(number % 4,) for number in range(240)]
FOUR = {"labelled": 4, "probe": 4, "unlabeled": 11, "test": 5}


def draw(wanted, *, keys=KEYS, labels=LABELS, groups=ACTORS, data_seed=0):
    return draw_splits(keys, labels, groups, wanted=wanted, data_seed=data_seed)


def test_a_group_is_in_one_split_and_the_numbers_are_as_wanted() -> None:
    splits = defaultdict(set)
    for actor, split in zip(ACTORS, draw(FOUR), strict=True):
        splits[actor].add(split)
    assert all(len(one) == 1 for one in splits.values())
    assert Counter(one for (one,) in splits.values()) == FOUR


def test_the_same_seed_draws_the_same_and_another_seed_another() -> None:
    assert draw(FOUR, data_seed=3) == draw(FOUR, data_seed=3)
    assert draw(FOUR, data_seed=3) != draw(FOUR, data_seed=4)


def test_over_many_draws_every_group_comes_to_every_split_as_often() -> None:
    of_first = ACTORS.index("actor-0")
    times = Counter(draw(FOUR, data_seed=data_seed)[of_first] for data_seed in range(300))
    assert 300 * 5 / 24 - 30 < times["test"] < 300 * 5 / 24 + 30
    assert 300 * 11 / 24 - 40 < times["unlabeled"] < 300 * 11 / 24 + 40


def test_without_groups_every_split_has_all_classes_in_proportion() -> None:
    labels = [(int(number >= 180),) for number in range(240)]
    shares = {"labelled": 0.1, "probe": 0.1, "unlabeled": "rest", "test": 0.2}
    by_split = defaultdict(Counter)
    for label, split in zip(labels, draw(shares, labels=labels, groups=None), strict=True):
        by_split[split][label[0]] += 1
    assert {split: sum(one.values()) for split, one in by_split.items()} == {
        "labelled": 24, "probe": 24, "unlabeled": 144, "test": 48,
    }  # fmt: skip
    for one in by_split.values():
        assert one[1] == pytest.approx(sum(one.values()) / 4, abs=1)


def test_shares_that_add_up_take_every_row() -> None:
    thirds = {"labelled": 1 / 3, "unlabeled": 1 / 3, "test": 1 / 3}
    counts = Counter(draw(thirds, keys=KEYS[:100], labels=LABELS[:100], groups=None))
    assert sorted(counts.values()) == [33, 33, 34]


def test_what_has_a_row_without_a_label_is_unlabeled() -> None:
    labels = [None if actor == "actor-7" and n < 24 else (0,) for n, actor in enumerate(ACTORS)]
    for data_seed in range(10):
        splits = draw(FOUR, labels=labels, data_seed=data_seed)
        assert {s for s, a in zip(splits, ACTORS, strict=True) if a == "actor-7"} == {"unlabeled"}
    unknown = [None if int(a[6:]) < 12 else (0,) for a in ACTORS]
    with pytest.raises(ConfigError, match=r"wants 13 groups .* 12 of 24 have a label"):
        draw(FOUR, labels=unknown)


def test_a_group_that_is_added_moves_few_others() -> None:
    rest = {**FOUR, "unlabeled": "rest"}
    grown = draw(rest, keys=[*KEYS, "240"], labels=[*LABELS, (0,)], groups=[*ACTORS, "new"])
    moved = {a for a, one, two in zip(ACTORS, draw(rest), grown, strict=False) if one != two}
    assert len(moved) <= 3


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({**FOUR, "unlabeled": 9}, "takes 22 groups, and there are 24; let one split take"),
        ({**FOUR, "unlabeled": 13}, "takes 26 groups"),
        ({"labelled": 0.5, "unlabeled": 0.6}, "takes 26 groups"),
        ({"labelled": 25, "unlabeled": "rest"}, "takes 25 groups"),
    ],
)
def test_numbers_that_do_not_add_up_are_refused(wanted, said) -> None:
    with pytest.raises(ConfigError, match=said):
        draw(wanted)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"train": 4}, r"source\.splits\.train is no split"),
        ({"test": 1.5}, r"source\.splits\.test=1\.5; give a number"),
        ({"test": -1}, r"source\.splits\.test=-1"),
        ({"test": "all"}, r"source\.splits\.test=all"),
        ({"test": "rest", "unlabeled": "rest"}, "only one split may take the rest"),
    ],
)
def test_splits_that_mean_nothing_are_refused_with_their_key(wanted, said) -> None:
    with pytest.raises(ConfigError, match=said):
        check_splits(wanted)


@pytest.mark.parametrize("data_seed", range(5))
def test_the_groups_of_a_drawn_probe_come_to_both_of_its_parts(data_seed) -> None:
    people = [f"p{number:03d}" for number in range(200)]
    wanted = {"labelled": 0.2, "probe": 0.4, "unlabeled": "rest", "test": 0.2}
    splits = draw_splits(people, [(0,)] * 200, people, wanted=wanted, data_seed=data_seed)
    probe = [who for who, split in zip(people, splits, strict=True) if split == "probe"]
    parts = Counter(probe_part(who) for who in probe)
    assert min(parts[SELECT], parts[GATE]) > 25
