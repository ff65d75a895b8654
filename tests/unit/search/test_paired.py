"""How far finalists lead, by sample."""

import math

import numpy as np
import pytest

from mke_ray.search.paired import lead_of, sample_quality

LOGITS_NC = np.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [np.nan, np.nan]])
TRUTH_NC = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], dtype=bool)


def test_an_answer_is_right_or_wrong_and_none_is_unknown() -> None:
    quality_N = sample_quality(LOGITS_NC, TRUTH_NC, "metric", is_multi=False)
    np.testing.assert_array_equal(quality_N, [1.0, 1.0, 0.0, np.nan])


def test_likelihoods_are_those_at_the_likeliest_temperature() -> None:
    quality_N = sample_quality(LOGITS_NC, TRUTH_NC, "log_likelihood", is_multi=False)
    at_one_N = np.array(
        [-math.log1p(math.exp(-2)), -math.log1p(math.exp(-1)), -math.log1p(math.exp(0.5))]
    )
    assert quality_N[:3].sum() > at_one_N.sum() and math.isnan(quality_N[3])
    scaled_N = sample_quality(2 * LOGITS_NC, TRUTH_NC, "log_likelihood", is_multi=False)
    np.testing.assert_allclose(scaled_N, quality_N, rtol=1e-3)


def test_of_many_classes_the_metric_is_the_average_precision_of_the_sample() -> None:
    truth_NC = np.array([[1, 0, 1]], dtype=bool)
    logits_NC = np.array([[3.0, 2.0, 1.0]])
    quality_N = sample_quality(logits_NC, truth_NC, "metric", is_multi=True)
    assert quality_N[0] == pytest.approx((1 + 2 / 3) / 2)


def test_a_lead_is_as_sure_as_its_groups_are_many() -> None:
    lead_N = np.array([0.4, -0.1] * 20)
    by_sample, by_pair = np.arange(40), np.repeat([0, 1], 20)
    many = lead_of(lead_N, by_sample, confidence=0.8413)
    assert many.value == pytest.approx(0.15)
    error = np.std(lead_N, ddof=1) / math.sqrt(40)
    assert many.bound == pytest.approx(0.15 - error, abs=0.01)
    assert lead_of(np.repeat([0.4, -0.1], 20), by_pair, confidence=0.8413).bound < 0 < many.bound
