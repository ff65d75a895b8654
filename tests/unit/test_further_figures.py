"""Further figures: mAP, mAUC, d-prime and F1 against their definitions."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from mke_ray.evaluation.further import d_prime, further_figures

TRUTH_NC = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], bool)
LOGITS_NC = np.array([[2.0, -1, 1], [1, 3, -2], [0.5, -0.5, -1], [-3, 1, -0.5]])


def area(score_N, truth_N):
    """Return the share of pairs of which the sample of the class has the higher score."""
    pairs = [(p > n) + 0.5 * (p == n) for p in score_N[truth_N] for n in score_N[~truth_N]]
    return np.mean(pairs)


def test_areas_are_shares_of_pairs_in_order_and_d_prime_follows_from_their_mean():
    found = further_figures(LOGITS_NC, TRUTH_NC, is_multi=True)
    areas = [area(LOGITS_NC[:, c], TRUTH_NC[:, c]) for c in range(3)]
    assert found["mauc"] == pytest.approx(np.mean(areas))
    assert found["d_prime"] == pytest.approx(math.sqrt(2) * norm.ppf(np.mean(areas)))
    assert 0 < found["map"] <= 1


def test_an_area_of_one_half_is_no_distance_and_of_one_an_infinite_one():
    assert d_prime(0.5) == 0.0
    assert d_prime(1.0) == math.inf and d_prime(0.0) == -math.inf
    assert d_prime(0.96) == pytest.approx(2.476, abs=1e-3)


def test_f1_is_averaged_over_answers_classes_and_samples():
    found = further_figures(LOGITS_NC, TRUTH_NC, is_multi=True)
    named_NC = LOGITS_NC > 0
    right_NC = named_NC & TRUTH_NC

    def f1(axis=None):
        return 2 * right_NC.sum(axis) / (named_NC.sum(axis) + TRUTH_NC.sum(axis))

    assert found["f1_micro"] == pytest.approx(f1())
    assert found["f1_macro"] == pytest.approx(f1(0).mean())
    assert found["f1_weighted"] == pytest.approx(np.average(f1(0), weights=TRUTH_NC.sum(0)))
    assert found["f1_samples"] == pytest.approx(f1(1).mean())


def test_with_one_class_per_sample_scores_are_probabilities_and_a_shift_of_logits_is_nothing():
    truth_NC = np.eye(3, dtype=bool)[[0, 1, 2, 0]]
    shifted_NC = LOGITS_NC + np.array([[50.0], [-50.0], [0.0], [7.0]])
    found = further_figures(LOGITS_NC, truth_NC, is_multi=False)
    assert found == pytest.approx(further_figures(shifted_NC, truth_NC, is_multi=False))
    assert set(found) == {"map", "mauc", "d_prime", "f1_macro", "f1_weighted"}


def test_a_sample_that_was_not_answered_comes_last_and_names_no_class():
    blind_NC = LOGITS_NC.copy()
    blind_NC[2] = np.nan
    for is_multi in (True, False):
        truth_NC = TRUTH_NC if is_multi else np.eye(3, dtype=bool)[[0, 1, 2, 0]]
        seen = further_figures(LOGITS_NC, truth_NC, is_multi=is_multi)
        blind = further_figures(blind_NC, truth_NC, is_multi=is_multi)
        assert blind["f1_macro"] < seen["f1_macro"] or not is_multi
        assert np.isfinite([blind["map"], blind["mauc"]]).all()


def test_classes_of_no_sample_or_of_all_are_left_out_of_the_areas():
    truth_NC = np.column_stack([TRUTH_NC, np.ones(4, bool), np.zeros(4, bool)])
    logits_NC = np.column_stack([LOGITS_NC, np.zeros((4, 2))])
    found = further_figures(logits_NC, truth_NC, is_multi=True)
    plain = further_figures(LOGITS_NC, TRUTH_NC, is_multi=True)
    assert (found["map"], found["mauc"]) == pytest.approx((plain["map"], plain["mauc"]))
    assert "map" not in further_figures(logits_NC[:, 3:], truth_NC[:, 3:], is_multi=True)
