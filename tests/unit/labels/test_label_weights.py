"""Tests of the weights of decisions, against numbers computed by hand."""

from typing import Any

import numpy as np
import pytest

from mke_ray.errors import ConfigError
from mke_ray.labels.label_statistics import LabelStatistics
from mke_ray.labels.label_weights import (
    FixedThreshold,
    FreeMatch,
    LabelWeight,
    SoftMatch,
    TopFraction,
)

# Confidences .9 .6 .7 of the first class, .8 .55 of the second; mean .71.
FIVE = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]])[:, None]


def weights_of(weight: LabelWeight, probability_NKL: np.ndarray = FIVE) -> list[Any]:
    """Return the weights of the decisions that the statistics are of, by decision."""
    fitted = weight.fit(LabelStatistics.of(probability_NKL))
    found = weight.weights(probability_NKL, fitted)
    assert found.shape == probability_NKL.shape[:2]
    return found[:, 0].tolist() if found.shape[1] == 1 else found.tolist()


def test_a_fixed_threshold_keeps_what_reaches_it():
    assert weights_of(FixedThreshold(0.8)) == [1, 0, 0, 1, 0]


def test_a_top_fraction_keeps_the_surest_over_all_classes():
    assert weights_of(TopFraction(0.4)) == [1, 0, 0, 1, 0]
    assert weights_of(TopFraction(0.6)) == [1, 0, 1, 1, 0]


def test_a_class_balanced_fraction_keeps_the_surest_of_every_class():
    sure = np.array([[0.99, 0.01], [0.98, 0.02], [0.4, 0.6], [0.45, 0.55]])[:, None]
    assert weights_of(TopFraction(0.5), sure) == [1, 1, 0, 0]
    assert weights_of(TopFraction(0.5, per_class=True), sure) == [1, 0, 1, 0]


def test_freematch_asks_less_of_classes_that_are_rarely_seen():
    # mean probabilities .57 and .43, so that the thresholds are .71 and .71 * .43 / .57 = .5356
    fitted = FreeMatch().fit(LabelStatistics.of(FIVE))
    assert np.array(fitted["threshold"]) == pytest.approx(np.array([[0.71, 0.71 * 0.43 / 0.57]]))
    assert weights_of(FreeMatch()) == [1, 0, 0, 1, 1]


def test_freematch_keeps_decisions_that_are_all_as_sure():
    alike = np.tile(np.array([0.7, 0.3]), (7, 1, 1))
    assert weights_of(FreeMatch(), alike) == [1] * 7
    assert weights_of(SoftMatch(), alike) == [1] * 7


def test_softmatch_falls_off_below_the_mean_as_a_gaussian():
    # variance of .9 .6 .7 .8 .55 about .71: (.0361 + .0121 + .0001 + .0081 + .0256) / 4 = .0205
    found = weights_of(SoftMatch(num_sigmas=1.0))
    assert found[0] == found[3] == 1.0
    assert found[1] == pytest.approx(np.exp(-0.0121 / (2 * 0.0205)))
    assert found[4] == pytest.approx(np.exp(-0.0256 / (2 * 0.0205)))
    narrower = weights_of(SoftMatch(num_sigmas=2.0))
    assert narrower[1] == pytest.approx(np.exp(-0.0121 / (2 * 0.0205 / 4)))


@pytest.mark.parametrize(
    "weight", [FixedThreshold(0.8), TopFraction(0.5), FreeMatch(), SoftMatch(1.0)]
)
def test_each_decision_of_a_row_has_statistics_of_its_own(weight):
    other = np.array([[0.5, 0.5], [0.97, 0.03], [0.95, 0.05], [0.04, 0.96], [0.02, 0.98]])[:, None]
    both = weights_of(weight, np.concatenate([FIVE, other], axis=1))
    assert [row[0] for row in both] == pytest.approx(weights_of(weight, FIVE))
    assert [row[1] for row in both] == pytest.approx(weights_of(weight, other))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: FixedThreshold(1.5), r"labels\.weight\.threshold=1\.5"),
        (lambda: TopFraction(0.0), r"labels\.weight\.fraction=0\.0"),
        (lambda: SoftMatch(0.0), r"labels\.weight\.num_sigmas=0\.0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_with_their_key(make, key):
    with pytest.raises(ConfigError, match=key):
        make()
