"""Tests of the statistics of decisions: hand-computed, and the same however they are gathered."""

import json

import numpy as np
import pytest
from scipy.special import softmax

from mke_ray.labels.decisions import (
    decisions_of,
    decisions_of_pixels,
    num_alternatives,
    pixels_of,
    targets_of,
)
from mke_ray.labels.label_statistics import (
    BIN_WIDTH,
    NUM_BINS,
    LabelStatistics,
    bins_of,
    threshold_of,
)

FOUR = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])[:, None]


def same(one: LabelStatistics, other: LabelStatistics) -> bool:
    numbers = (("mean_KL", 1e-12), ("confidence_K", 1e-12), ("squares_K", 1e-9))
    close = all(np.allclose(getattr(one, k), getattr(other, k), atol=atol) for k, atol in numbers)
    return close and one.num == other.num and np.array_equal(one.count_KLB, other.count_KLB)


def test_mean_and_variance_are_those_of_the_hand():
    found = LabelStatistics.of(FOUR)
    assert found.num == 4
    assert found.mean_KL == pytest.approx(np.array([[0.55, 0.45]]))
    assert found.confidence_K == pytest.approx([0.7])  # .9 .6 .8 .5
    assert found.variance == pytest.approx([0.1 / 3])  # .04 + .01 + .01 + .04
    assert found.count_KLB.sum(axis=2).tolist() == [[3, 1]]  # of equal ones the first counts
    assert found.count_KLB[0, 1, int(-np.log(0.2) / BIN_WIDTH)] == 1


def test_statistics_of_parts_merge_into_those_of_the_whole():
    rng = np.random.default_rng(0)
    whole = softmax(rng.normal(0, 3, (101, 4, 5)), axis=2)
    found = LabelStatistics.empty(4, 5)
    for part in np.split(whole, [1, 1, 40, 90]):  # one part is empty
        found = found.merged(LabelStatistics.of(part))
    assert same(found, LabelStatistics.of(whole))
    assert found.variance == pytest.approx(whole.max(axis=2).var(axis=0, ddof=1))
    assert same(LabelStatistics.of(whole).merged(LabelStatistics.empty(4, 5)), found)


def test_statistics_survive_the_way_through_json():
    found = LabelStatistics.of(FOUR)
    assert same(LabelStatistics.from_dict(json.loads(json.dumps(found.to_dict()))), found)


def test_the_surest_decision_falls_into_the_last_bin_and_the_least_sure_into_the_first():
    assert bins_of(np.array([0.0, 1.0, 1.0 - 1e-9])).tolist() == [0, NUM_BINS - 1, NUM_BINS - 1]


@pytest.mark.parametrize(("fraction", "num_kept"), [(0.25, 1), (0.5, 2), (0.51, 3), (1.0, 4)])
def test_a_threshold_keeps_the_share_that_is_surest(fraction, num_kept):
    confidence_N = np.array([0.5, 0.6, 0.8, 0.9])
    count_B = np.bincount(bins_of(confidence_N), minlength=NUM_BINS)
    assert (confidence_N >= threshold_of(count_B, fraction) - 1e-9).sum() == num_kept


def test_decisions_that_are_all_as_sure_are_all_kept_and_of_none_nothing_is_asked():
    count_B = np.bincount(bins_of(np.full(10, 0.97)), minlength=NUM_BINS)
    assert threshold_of(count_B, 0.1) <= 0.97
    assert threshold_of(np.zeros(NUM_BINS, int), 0.5) == 0.0


def test_decisions_of_one_class_are_its_probabilities():
    logits_RC = np.array([[np.log(4.0), 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = decisions_of(logits_RC, temperature=1.0, kind="single")
    assert found.shape == (2, *num_alternatives(3, "single")) == (2, 1, 3)
    assert found[0, 0] == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    assert targets_of(found, "single") == pytest.approx(found[:, 0])


def test_decisions_of_many_classes_are_whether_each_holds():
    found = decisions_of(np.array([[np.log(9.0) * 2, 0.0]]), temperature=2.0, kind="multi")
    assert found.shape == (1, *num_alternatives(2, "multi")) == (1, 2, 2)
    assert found[0] == pytest.approx(np.array([[0.1, 0.9], [0.5, 0.5]]))
    assert targets_of(found, "multi") == pytest.approx(np.array([[0.9, 0.5]]))


def test_pixels_come_back_to_their_places():
    probability_CHW = np.random.default_rng(0).dirichlet(np.ones(4), (2, 3)).transpose(2, 0, 1)
    decision_NKL = decisions_of_pixels(probability_CHW)
    assert decision_NKL.shape == (6, *num_alternatives(4, "dense"))
    assert decision_NKL[4, 0] == pytest.approx(probability_CHW[:, 1, 1])
    assert pixels_of(decision_NKL, 2, 3) == pytest.approx(probability_CHW)
