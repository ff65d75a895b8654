"""Groups are drawn by known chances, most where student and teacher disagree."""

import numpy as np
import pytest

from mke_ray.ask.drawing import AGREE, DISAGREE, Group, draw_groups, draw_unsure

GROUPS = [Group(f"g{number}", 1, number % 5 == 0) for number in range(1000)]


def test_most_are_drawn_where_they_disagree_and_some_where_they_agree():
    draw = draw_groups(GROUPS, 100, seed=0)
    assert draw.shares == {DISAGREE: 0.2, AGREE: 0.8}
    assert sum(map(len, draw.groups.values())) == 100
    assert len(draw.groups[DISAGREE]) > len(draw.groups[AGREE]) >= 20
    assert draw.worth > 1.2


def test_every_group_of_a_stratum_has_the_same_chance():
    counts = dict.fromkeys((one.name for one in GROUPS), 0)
    for seed in range(300):
        for names in draw_groups(GROUPS, 100, seed=seed).groups.values():
            for name in names:
                counts[name] += 1
    of_disagree = np.array([counts[one.name] for one in GROUPS if one.differs])
    expected = of_disagree.mean()
    assert of_disagree.std() == pytest.approx(np.sqrt(expected * (1 - expected / 300)), rel=0.2)
    assert min(counts.values()) >= 1


def test_groups_of_several_samples_take_as_many_samples_together():
    groups = [Group(f"g{number}", 4, number % 2 == 0) for number in range(100)]
    draw = draw_groups(groups, 80, seed=0)
    assert sum(map(len, draw.groups.values())) == 20


def test_a_stratum_that_is_too_small_leaves_its_share_to_the_other():
    groups = [Group(f"g{number}", 1, number < 8) for number in range(100)]
    draw = draw_groups(groups, 60, seed=0)
    assert (len(draw.groups[DISAGREE]), len(draw.groups[AGREE])) == (8, 52)
    assert sum(map(len, draw_groups(groups, 500, seed=0).groups.values())) == 100
    alone = [Group(f"g{number}", 1, False) for number in range(30)]
    assert len(draw_groups(alone, 20, seed=0).groups[AGREE]) == 20


def test_what_was_drawn_before_counts_in_the_shares_and_is_not_drawn_again():
    first = draw_groups(GROUPS, 100, seed=0)
    taken = {name for names in first.groups.values() for name in names}
    second = draw_groups(GROUPS, 100, seed=1, taken=taken)
    assert second.shares == first.shares
    assert not taken & {name for names in second.groups.values() for name in names}
    everything = [one.name for one in GROUPS if one.differs]
    third = draw_groups(GROUPS, 100, seed=1, taken=everything)
    assert set(third.groups[DISAGREE]) < set(everything)  # a draw has to stand for them too


def test_a_draw_does_not_depend_on_the_order_of_the_groups():
    assert draw_groups(GROUPS[::-1], 50, seed=3) == draw_groups(GROUPS, 50, seed=3)


def test_unsure_and_different_samples_are_chosen_beside_those_by_chance():
    sure = np.tile([0.98, 0.01, 0.01], (900, 1))
    doubt = np.random.default_rng(0).uniform(0.35, 0.65, (50, 1))
    first = np.hstack([doubt, 1 - doubt, 0 * doubt])
    second = first[:, [2, 0, 1]]
    rows = draw_unsure(np.concatenate([sure, first, second]), 40, seed=0)
    assert len(set(rows.tolist())) == 40
    unsure = rows[rows >= 900]
    assert len(unsure) >= 10
    assert {bool(one < 950) for one in unsure} == {True, False}


def test_more_than_there_is_takes_all():
    assert sorted(draw_unsure(np.full((5, 2), 0.5), 9, seed=0).tolist()) == [0, 1, 2, 3, 4]
