"""A gate over samples of unequal chances: unbiased, and no surer than it may be."""

import math

import numpy as np
import pytest

from mke_ray.gate import GateRules, GateScores, judge
from mke_ray.gate.sampling import (
    LEAST_CHANGED,
    Sampling,
    sampled_error,
    sampled_lower_bound,
    sampling_of,
)
from mke_ray.labels.asked import AskedSample, AskRecord
from mke_ray.metrics import lower_bound_by_group


def record(strata, shares, worth=1.0):
    samples = tuple(
        AskedSample(f"q-{one}", one, str(one), None, None, str(one), stratum)
        for one, stratum in strata.items()
    )
    return AskRecord("q", "settle", "fit", 0, worth, shares, samples)


def test_weights_undo_the_chances_of_the_draw():
    strata = {10: "disagree", 11: "disagree", 12: "disagree", 13: "agree"}
    drawn = record(strata, {"disagree": 0.25, "agree": 0.75}, worth=1.5)
    sampling = sampling_of(np.array([1, 2, 10, 11, 12, 13]), [drawn])
    assert sampling is not None
    assert sampling.weight_N.tolist() == pytest.approx([1, 1, 0.5, 0.5, 0.5, 4.5])
    assert len(set(sampling.stratum_N.tolist())) == 3
    assert sampling.mean([0, 0, 1, 1, 1, 0]) == pytest.approx(1.5 / 8)
    assert sampling_of(np.array([1, 2]), [drawn]) is None


def test_a_sample_that_nobody_knew_leaves_its_stratum_its_share():
    strata = {10: "disagree", 11: "disagree", 12: "agree", 13: "agree"}
    drawn = record(strata, {"disagree": 0.5, "agree": 0.5})
    sampling = sampling_of(np.array([10, 12, 13]), [drawn])
    assert sampling is not None
    assert sampling.weight_N.tolist() == pytest.approx([1.5, 0.75, 0.75])


def test_samples_of_equal_chances_give_the_usual_bound():
    rng = np.random.default_rng(0)
    diff_N, group_N = rng.integers(-1, 2, 80).astype(float), np.arange(80) // 2
    alike = Sampling(np.ones(80), np.zeros(80, int))
    usual = lower_bound_by_group(diff_N, group_N)
    assert sampled_lower_bound(diff_N, group_N, alike) == pytest.approx(usual, abs=0.02)


def test_a_stratum_without_any_difference_is_not_taken_to_be_certain():
    diff_N = np.concatenate([np.ones(10), np.zeros(10)])
    sampling = Sampling(np.ones(20), np.repeat([1, 2], 10))
    error = sampled_error(diff_N, np.arange(20), sampling)
    assert error == pytest.approx(math.sqrt(2 * 0.25 * LEAST_CHANGED / 10))


@pytest.mark.parametrize("alone", [0, 1, 2])
def test_a_stratum_of_one_group_is_joined_with_the_next(alone):
    diff_N = np.concatenate([np.zeros(1), np.tile([1.0, 1.0, 0.0], 10)])
    stratum_N = np.array([alone] + [(alone + 1) % 3] * 15 + [(alone + 2) % 3] * 15)
    heavy = Sampling(np.array([5.0] + [1.0] * 30), stratum_N)
    light = Sampling(np.ones(31), stratum_N)
    bounds = [sampled_lower_bound(diff_N, np.arange(31), one) for one in (heavy, light)]
    assert 0 < bounds[0] < bounds[1] < 2 / 3  # the more one group stands for, the less is sure
    errors = [sampled_error(diff_N, np.arange(31), one) for one in (heavy, light)]
    assert 0 < errors[1] < errors[0] < math.inf


def test_a_single_group_that_stands_for_most_settles_nothing():
    sampling = Sampling(np.array([40.0] + [1.0] * 10), np.array([1] + [2] * 10))
    assert sampled_lower_bound(np.ones(11), np.arange(11), sampling) < 0


def test_one_group_in_all_says_nothing():
    sampling = Sampling(np.ones(11), np.array([0] * 10 + [1]))
    assert sampled_lower_bound(np.ones(11), np.zeros(11, int), sampling) == -math.inf
    assert sampled_error(np.ones(11), np.zeros(11, int), sampling) == math.inf


def test_few_groups_of_the_stratum_that_varies_give_few_degrees_of_freedom():
    noisy, calm = np.array([1.0, 0.9, -0.8, 1.0]), np.full(200, 0.5)
    diff_N, stratum_N = np.concatenate([noisy, calm]), np.repeat([1, 2], [4, 200])
    sampling = Sampling(np.repeat([50.0, 1.0], [4, 200]), stratum_N)
    error = sampled_error(diff_N, np.arange(204), sampling)
    bound = sampled_lower_bound(diff_N, np.arange(204), sampling)
    assert bound < sampling.mean(diff_N) - 2.2 * error  # 2.35 of three degrees, not 1.65


def test_the_bound_lies_above_the_truth_as_seldom_as_it_says():
    rng = np.random.default_rng(0)
    num, above, means = 150, 0, []
    differs = np.arange(4000) < 800
    for _ in range(num):
        chance = np.where(differs, 0.3, 0.01)
        diff_N = np.where(rng.random(4000) < chance, 1, 0) - np.where(
            rng.random(4000) < chance, 1, 0
        )
        own = [rng.choice(np.flatnonzero(differs == one), size) for one, size in ((1, 60), (0, 30))]
        strata = {int(one): "disagree" for one in own[0]} | {int(one): "agree" for one in own[1]}
        rows = np.array(list(strata))
        drawn = record(strata, {"disagree": 0.2, "agree": 0.8})
        sampling = sampling_of(rows, [drawn])
        assert sampling is not None
        means.append(sampling.mean(diff_N[rows]))
        above += sampled_lower_bound(diff_N[rows], rows, sampling) > 0.0
    assert above / num <= 0.08
    assert abs(np.mean(means)) < 3 * np.std(means) / math.sqrt(num)


def test_the_verdict_says_that_samples_were_asked_for():
    right = np.ones(60)
    ids = np.arange(60)
    drawn = record(
        {one: "disagree" if one < 55 else "agree" for one in range(40, 60)},
        {"disagree": 0.3, "agree": 0.7},
    )
    scores = GateScores(
        ids, ids, np.tile([0.0, 1.0], 30), right, sampling=sampling_of(ids, [drawn])
    )
    decision = judge(scores, GateRules())
    assert decision.verdict == "promoted"
    assert "20 of the samples were asked for" in decision.reason
