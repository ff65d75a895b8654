"""Metrics against values by hand and against other libraries."""

import math
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score

from mke_ray.errors import MkeRayError
from mke_ray.metrics import (
    accuracy,
    bootstrap_by_group,
    expected_calibration_error,
    fit_temperature,
    lower_bound_by_group,
    mean_average_precision,
    num_needed,
)


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_accuracy_is_the_share_of_right_predictions():
    assert accuracy([0, 1, 2, 2], [0, 1, 1, 2]) == 0.75


def test_average_precision_is_that_of_scikit_learn():
    score, truth = _rng().normal(size=(40, 5)) * 50, _rng(1).integers(0, 2, (40, 5))
    expected = average_precision_score(truth, score, average="macro")
    assert mean_average_precision(score, truth) == pytest.approx(expected, abs=1e-6)


def test_average_precision_keeps_ties_and_the_order_of_extreme_logits():
    score = np.array([[900.0], [800.0], [800.0], [-900.0]])
    truth = np.array([[0], [1], [0], [1]])
    expected = average_precision_score(truth[:, 0], score[:, 0])
    assert mean_average_precision(score, truth) == pytest.approx(expected, abs=1e-6)


def test_a_class_without_positive_samples_is_left_out():
    score = np.array([[0.9, 0.1], [0.2, 0.7]])
    assert mean_average_precision(score, [[1, 0], [0, 0]]) == pytest.approx(1.0)


def test_an_interval_of_single_samples_is_that_of_the_normal_approximation():
    value = _rng().integers(0, 2, 1000)
    interval = bootstrap_by_group(value, np.arange(1000), num_resamples=4000)
    error = value.std() / 1000**0.5
    assert interval.value == value.mean()
    assert interval.low == pytest.approx(value.mean() - 1.96 * error, abs=0.003)
    assert interval.high == pytest.approx(value.mean() + 1.96 * error, abs=0.003)
    assert (interval.num_samples, interval.num_groups) == (1000, 1000)


def test_an_interval_agrees_with_scipy_on_group_means():
    value = _rng().normal(size=30)
    expected = stats.bootstrap((value,), np.mean, method="percentile", random_state=1)
    found = bootstrap_by_group(value, np.arange(30), num_resamples=9999)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.02)


def test_copies_of_a_sample_in_its_group_do_not_narrow_the_interval():
    value = _rng().integers(0, 2, 200)
    single = bootstrap_by_group(value, np.arange(200))
    copied = bootstrap_by_group(np.repeat(value, 10), np.repeat(np.arange(200), 10))
    assert copied.low == pytest.approx(single.low, abs=1e-12)
    assert copied.high == pytest.approx(single.high, abs=1e-12)


def test_groups_weigh_by_their_samples():
    interval = bootstrap_by_group([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert (interval.value, interval.low, interval.high) == (0.75, 0.0, 1.0)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=1, max_size=20),
    st.randoms(),
)
def test_an_interval_holds_its_value_and_ignores_order_and_names(rows, random):
    value, group = zip(*rows, strict=True)
    found = bootstrap_by_group(value, group, num_resamples=200)
    assert found.low <= found.high
    assert found.num_groups == len(set(group))
    shuffled = list(rows)
    random.shuffle(shuffled)
    named = [("abcde"[one], number) for number, one in shuffled]
    again = bootstrap_by_group(
        [number for _, number in named], [name for name, _ in named], num_resamples=200
    )
    assert again.low == pytest.approx(found.low, abs=1e-9)
    assert again.high == pytest.approx(found.high, abs=1e-9)


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    value, group = _rng().normal(size=50), np.arange(50)
    first = bootstrap_by_group(value, group, seed=1)
    assert bootstrap_by_group(value, group, seed=1) == first
    assert bootstrap_by_group(value, group, seed=2) != first


def test_a_single_group_tells_no_interval():
    interval = bootstrap_by_group([0.0, 1.0], ["a", "a"])
    assert interval.value == 0.5
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.ends() is None
    assert lower_bound_by_group([1.0, 1.0], ["a", "a"]) == -math.inf


def test_the_ends_of_an_interval_are_plain_numbers():
    ends = bootstrap_by_group([0.0, 1.0, 1.0], [1, 2, 3]).ends()
    assert ends is not None and all(type(one) is float for one in ends)


def test_many_groups_are_resampled_quickly_and_in_bounded_memory():
    value, group = _rng().integers(0, 2, 30_000), _rng(1).integers(0, 10_000, 30_000)
    tracemalloc.start()
    start_s = time.process_time()
    bootstrap_by_group(value, group, num_resamples=2000)
    seconds = time.process_time() - start_s
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 5
    assert peak_bytes < 120e6


def test_intervals_cover_as_often_as_they_claim():
    covered = []
    for seed in range(200):
        rng = _rng(seed)
        effect = rng.normal(0, 1, 40)
        group = rng.integers(0, 40, 400)
        interval = bootstrap_by_group(effect[group] + rng.normal(0, 1, 400), group, seed=seed)
        covered.append(interval.low <= 0 <= interval.high)
    assert 0.89 <= np.mean(covered) <= 0.99


def test_the_lower_bound_is_one_sided():
    diff = _rng().normal(0.1, 1, 500)
    bound = lower_bound_by_group(diff, np.arange(500), num_resamples=8000)
    expected = diff.mean() - stats.norm.ppf(0.95) * diff.std() / 500**0.5
    assert bound == pytest.approx(expected, abs=0.005)
    assert bound > bootstrap_by_group(diff, np.arange(500)).low
    assert bound < lower_bound_by_group(diff, np.arange(500), confidence=0.8)


def test_the_lower_bound_keeps_its_promise_with_few_groups():
    rng, group = _rng(), np.repeat(np.arange(5), 10)
    promoted = [
        lower_bound_by_group(
            rng.normal(0, 0.15, 5)[group] + rng.normal(0, 0.5, 50), group, num_resamples=300
        )
        > 0
        for _ in range(300)
    ]
    assert 0.02 <= np.mean(promoted) <= 0.08


def test_the_error_of_the_lower_bound_leaves_out_one_group_after_the_other():
    diff = np.array([0.2, 0.4, 0.0, 0.5, 0.3, 0.1, 0.6])
    group = np.array(["a", "a", "a", "a", "b", "c", "c"])
    left_out = np.array([diff[group != one].mean() for one in "abc"])
    error = (2 / 3 * np.square(left_out - diff.mean()).sum()) ** 0.5
    bound = diff.mean() - stats.t.ppf(0.95, 2) * error
    assert lower_bound_by_group(diff, group) == pytest.approx(bound)


def test_the_number_needed_settles_the_gain():
    diff = np.tile([1.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 6)
    more = num_needed(diff, np.arange(66))
    spread = diff.std(ddof=1)
    assert more == math.ceil((stats.norm.ppf(0.95) * spread / diff.mean()) ** 2 - 66) == 22
    enough = np.tile(diff, 3)[: 66 + 2 * more]
    assert lower_bound_by_group(enough, np.arange(len(enough))) > 0
    assert lower_bound_by_group(diff, np.arange(66)) <= 0


def test_groups_that_differ_need_more_samples_than_single_ones():
    rng = _rng(4)
    group = np.repeat(np.arange(20), 10)
    diff = 0.05 + rng.normal(0, 0.3, 20)[group] + rng.normal(0, 0.1, 200)
    diff += 0.05 - diff.mean()
    grouped, single = num_needed(diff, group), num_needed(diff, np.arange(200))
    assert grouped is not None and single is not None
    assert grouped > 3 * single


def test_without_a_gain_or_without_groups_no_number_helps():
    assert num_needed([0.0, -1.0, 0.5], [1, 2, 3]) is None
    assert num_needed([0.0, 0.0], [1, 2]) is None
    assert num_needed([1.0, 1.0], ["a", "a"]) is None


def test_a_gain_that_is_nearly_settled_needs_at_least_one():
    assert num_needed([1.0] * 50 + [0.9], list(range(51))) == 1


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature):
    rng = _rng(2)
    logits = rng.normal(0, 3, (20_000, 4))
    probability = np.exp(logits / true_temperature)
    probability /= probability.sum(axis=1, keepdims=True)
    truth = (probability.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1).clip(max=3)
    assert fit_temperature(logits, truth) == pytest.approx(true_temperature, rel=0.05)


def test_the_temperature_of_samples_of_many_classes_is_found():
    rng = _rng(3)
    logits = rng.normal(0, 3, (5000, 4))
    truth = (rng.random((5000, 4)) < 1 / (1 + np.exp(-logits / 2))).astype(int)
    assert fit_temperature(logits, truth) == pytest.approx(2.0, rel=0.05)


def test_the_temperature_makes_labels_more_likely():
    rng = _rng(5)
    logits, truth = rng.normal(0, 9, (50, 3)), rng.integers(0, 3, 50)

    def loss(temperature):
        return float(
            torch.nn.functional.cross_entropy(
                torch.from_numpy(logits / temperature), torch.from_numpy(truth)
            )
        )

    best = fit_temperature(logits, truth)
    assert loss(best) <= min(loss(one) for one in np.geomspace(0.05, 20, 60)) + 1e-6


@pytest.mark.parametrize(
    ("logits", "truth", "expected"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=int), 1.0),
        (np.zeros((4, 3)), np.array([0, 1, 2, 0]), 1.0),
        (np.array([[1000.0, -1000.0]]), np.array([0]), 1.0),
        (np.array([[1.0, -1.0]]), np.array([0]), 0.05),
        (np.array([[1.0, -1.0]]), np.array([1]), 20.0),
    ],
    ids=["no samples", "equal logits", "extreme and right", "all right", "all wrong"],
)
def test_degenerate_logits_have_a_temperature_within_bounds(logits, truth, expected):
    assert fit_temperature(logits, truth) == pytest.approx(expected, rel=0.2)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(MkeRayError, match="not finite"):
        fit_temperature([[np.nan, 0.0]], [0])


@pytest.mark.parametrize(
    "measure",
    [
        lambda: accuracy([], []),
        lambda: bootstrap_by_group([], []),
        lambda: lower_bound_by_group([], []),
        lambda: mean_average_precision([[0.1, 0.2]], [[0, 0]]),
    ],
)
def test_nothing_to_measure_is_an_error_that_says_so(measure):
    with pytest.raises(MkeRayError, match="no sample with a known label"):
        measure()


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = np.log([0.8, 0.2])
    logits = np.tile(sure, (10, 1))
    truth = np.array([0] * 6 + [1] * 4)
    assert expected_calibration_error(logits, truth) == pytest.approx(0.2, abs=1e-6)
    assert expected_calibration_error(logits, [0] * 8 + [1] * 2) == pytest.approx(0.0, abs=1e-6)


def test_the_calibration_error_of_many_classes_asks_of_every_class():
    logits = np.log([[9.0, 1 / 9]] * 10)  # sigmoids 0.9 and 0.1
    truth = np.array([[1, 0]] * 5 + [[0, 0]] * 5)
    assert expected_calibration_error(logits, truth) == pytest.approx((0.4 + 0.1) / 2, abs=1e-6)


def test_the_temperature_of_one_half_of_the_data_calibrates_the_other():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 4000)
    honest = 1.5 * np.eye(3)[truth] + rng.normal(size=(4000, 3))
    logits = 5.0 * honest
    temperature = fit_temperature(logits[:2000], truth[:2000])
    before = expected_calibration_error(logits[2000:], truth[2000:])
    after = expected_calibration_error(logits[2000:] / temperature, truth[2000:])
    assert after < 0.04 < before
