"""Scores and weights of samples of no known class, against values computed by hand."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import logsumexp

from mke_ray.labels.openset import LEAST_WEIGHT, Tilt, fit_tilt, log_ratio, open_set_scores
from mke_ray.labels.posterior import Posterior

NAN = np.nan
PRIOR = (0.25, 0.75)


def posterior(witnesses=(1.0,), teacher=1.0, temperature=1.0, prior=PRIOR):
    return Posterior(temperature, teacher, witnesses, prior)


def logs(*rows):
    return np.log(np.asarray(rows))


def test_the_ratio_is_the_sum_over_classes_by_hand():
    found = log_ratio(posterior(), logs([0.8, 0.2], [0.8, 0.2]), logs([0.5, 0.5], [0.1, 0.9])[None])
    by_hand = [0.8 * 0.5 / 0.25 + 0.2 * 0.5 / 0.75, 0.8 * 0.1 / 0.25 + 0.2 * 0.9 / 0.75]
    np.testing.assert_allclose(np.exp(found), by_hand)


def test_exponents_and_temperature_make_the_probabilities_that_are_compared():
    found = log_ratio(
        posterior((2.0,), teacher=0.5, temperature=2.0), logs([0.8, 0.2]), logs([0.5, 0.5])[None]
    )
    teacher = np.array([0.8, 0.2]) ** 0.25
    witness = np.array(PRIOR) * (np.array([0.5, 0.5]) / PRIOR) ** 2
    by_hand = (teacher / teacher.sum() * witness / witness.sum() / PRIOR).sum()
    np.testing.assert_allclose(np.exp(found[0]), by_hand)


def test_all_witnesses_have_to_be_of_the_class_together():
    teacher, one, other = logs([0.8, 0.2]), logs([0.5, 0.5]), logs([0.1, 0.9])
    found = log_ratio(posterior((1.0, 1.0)), teacher, np.stack([one, other]))
    by_hand = 0.8 * 0.5 * 0.1 / 0.25**2 + 0.2 * 0.5 * 0.9 / 0.75**2
    np.testing.assert_allclose(np.exp(found[0]), by_hand)


def test_modalities_that_are_independent_have_the_mean_ratio_one():
    rng = np.random.default_rng(0)
    teacher, witness = (rng.dirichlet([1.0, 1.0, 1.0], 40) for _ in range(2))
    prior = teacher.mean(axis=0)
    every = np.stack([np.tile(teacher, (40, 1)), np.repeat(witness, 40, axis=0)])
    found = log_ratio(posterior(prior=tuple(prior)), np.log(every[0]), np.log(every[1])[None])
    assert np.exp(found).mean() == pytest.approx(1.0)


def test_where_no_witness_with_a_say_saw_anything_there_is_no_ratio():
    teacher = logs([0.8, 0.2], [0.8, 0.2], [NAN, NAN])
    seen, unseen = logs([0.5, 0.5], [NAN, NAN], [0.5, 0.5]), np.full((3, 2), NAN)
    assert np.isnan(log_ratio(posterior(), teacher, seen[None])).tolist() == [False, True, True]
    two = log_ratio(posterior((1.0, 1.0)), teacher, np.stack([seen, unseen]))
    np.testing.assert_allclose(two[0], log_ratio(posterior(), teacher, seen[None])[0])
    assert np.isnan(log_ratio(posterior((0.0,)), teacher, seen[None])).all()


def test_the_other_score_is_the_energy_of_the_teachers_own_logits():
    teacher = np.array([[3.0, 1.0], [-1.0, 0.0]])
    found = open_set_scores(posterior(temperature=5.0), teacher, logs([0.5, 0.5], [NAN, NAN])[None])
    assert found[0, 1] == pytest.approx(logsumexp([3.0, 1.0]))
    assert np.isnan(found[1]).all()


def two_values(high: int, num: int) -> np.ndarray:
    """Return scores of which the second is 1 or -1 and the first never changes."""
    second = np.where(np.arange(num) < high, 1.0, -1.0)
    return np.stack([np.full(num, 7.0), second], axis=1)


def test_the_tilt_is_that_of_largest_penalised_likelihood_by_hand():
    found = fit_tilt(two_values(75, 100), two_values(50, 100), num_groups=100)
    slope = brentq(lambda one: 100 * (0.5 - np.tanh(one)) - one, 0.0, 2.0)
    assert found.slopes == pytest.approx((0.0, slope), abs=1e-4)
    assert found.offset == pytest.approx(np.log(np.cosh(slope)), abs=1e-4)
    gain = 0.5 * slope - np.log(np.cosh(slope))
    assert found.likelihood_ratio == pytest.approx(2 * 100 * gain, rel=1e-3)
    ratios = np.exp(np.array([slope, -slope])) / np.cosh(slope)
    share = 1 - 1 / (0.75 * ratios[0] + 0.25 * ratios[1])
    assert found.share == pytest.approx(share, abs=1e-4)
    weights = found.weights(np.array([[7.0, 1.0], [7.0, -1.0], [NAN, NAN]]))
    sure, unsure = np.minimum((1 - share) * ratios, 1.0)
    by_hand = [sure, unsure, (sure + unsure) / 2]  # half of the unlabeled samples are of each
    np.testing.assert_allclose(weights, by_hand, atol=1e-4)
    assert found.is_certain


def test_a_score_that_is_lower_for_known_classes_is_not_believed():
    found = fit_tilt(two_values(25, 100), two_values(50, 100), num_groups=100)
    assert found.slopes == (0.0, 0.0) and found.share == 0.0 and not found.is_certain


def test_pairs_of_few_groups_are_worth_as_many_samples():
    pairs, unlabeled = two_values(75, 100), two_values(50, 100)
    few, many = (fit_tilt(pairs, unlabeled, num_groups=num) for num in (4, 100))
    assert many.is_certain and not few.is_certain
    assert few.likelihood_ratio < 4 / 100 * many.likelihood_ratio


def test_samples_that_are_all_known_are_weighed_about_once_in_twenty_times():
    rng = np.random.default_rng(0)
    unlabeled = rng.normal(size=(4000, 2))
    certain = [
        fit_tilt(rng.normal(size=(60, 2)), unlabeled, num_groups=60).is_certain for _ in range(300)
    ]
    assert 0.01 < np.mean(certain) < 0.08


def test_a_share_of_unknown_samples_is_found_and_weighs_less():
    rng = np.random.default_rng(1)
    known, unknown = rng.normal(1.0, 1.0, (3000, 2)), rng.normal(-1.0, 1.0, (2000, 2))
    pairs = rng.normal(1.0, 1.0, (100, 2))
    found = fit_tilt(pairs, np.concatenate([known, unknown]), num_groups=100)
    assert found.is_certain and 0.2 < found.share <= 0.45
    assert found.weights(known).mean() > 3 * found.weights(unknown).mean()


def test_without_scores_all_samples_count_alike():
    nothing = np.full((3, 2), NAN)
    for pairs, unlabeled in ((nothing, two_values(1, 2)), (two_values(1, 2), nothing)):
        found = fit_tilt(pairs, unlabeled, num_groups=3)
        assert not found.is_certain and found.weights(two_values(1, 2)).tolist() == [1.0, 1.0]


def test_nothing_weighs_less_than_a_twentieth_and_what_nobody_judged_weighs_the_mean():
    rng = np.random.default_rng(1)
    unlabeled = np.concatenate([rng.normal(0.0, 1.0, (900, 2)), np.full((100, 2), NAN)])
    found = fit_tilt(rng.normal(4.0, 1.0, (200, 2)), unlabeled, num_groups=200)
    weight_N = found.weights(unlabeled)
    assert weight_N.min() == LEAST_WEIGHT
    assert weight_N[-1] == found.usual == pytest.approx(weight_N[:900].mean())
    constant = np.full((900, 2), 3.0) + rng.normal(0.0, 6e-8, (900, 2))
    assert not fit_tilt(np.full((200, 2), 3.0000002), constant, num_groups=200).is_certain


def test_plain_data_make_the_same_tilt():
    found = fit_tilt(two_values(75, 100), two_values(50, 100), num_groups=100)
    assert Tilt.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(("ratio", "is_certain"), [(4.0, False), (4.5, True)])
def test_slopes_that_may_not_be_negative_are_certain_at_a_twentieth(ratio, is_certain):
    half, quarter = 0.5 * math.erfc(math.sqrt(ratio / 2)), 0.25 * math.exp(-ratio / 2)
    assert (half + quarter < 0.05) is is_certain
    assert Tilt((0.0,) * 2, (1.0,) * 2, (1.0,) * 2, 0.0, 0.2, ratio).is_certain is is_certain
