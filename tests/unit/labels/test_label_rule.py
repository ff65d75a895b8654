"""Tests of targets and weights made of logits and of stored pixels."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from mke_ray.labels.dense import DenseForm
from mke_ray.labels.label_rule import LabelRule, aligned, alignment_ratio, hardened, sharpened
from mke_ray.labels.label_weights import FixedThreshold

FORM = DenseForm(3, 2, 2, 2)


def test_sharpening_is_the_power_of_one_over_the_temperature():
    found = sharpened(np.array([[[0.6, 0.3, 0.1]]]), 0.5)
    assert found[0, 0] == pytest.approx(np.array([0.36, 0.09, 0.01]) / 0.46)
    assert sharpened(np.array([[[1.0, 0.0]]]), 0.01)[0, 0].tolist() == [1.0, 0.0]
    one = np.array([[[0.6, 0.3, 0.1]]])
    assert sharpened(one, 1.0) == pytest.approx(one)
    assert hardened(one)[0, 0].tolist() == [1, 0, 0]


def test_alignment_moves_the_mean_towards_the_prior():
    probability_NKL = np.array([[[0.8, 0.2]], [[0.6, 0.4]]])
    ratio_KL = alignment_ratio(probability_NKL.mean(axis=0), [[0.5, 0.5]])
    assert ratio_KL == pytest.approx(np.array([[0.5 / 0.7, 0.5 / 0.3]]))
    found = aligned(probability_NKL, ratio_KL)
    # .8 * 5/7 : .2 * 5/3 = 12 : 7, and .6 * 5/7 : .4 * 5/3 = 9 : 14
    assert found[:, 0] == pytest.approx(np.array([[12 / 19, 7 / 19], [9 / 23, 14 / 23]]))
    assert aligned(probability_NKL, None) is probability_NKL


def test_a_class_that_is_never_named_is_not_divided_by_zero():
    ratio_KL = alignment_ratio(np.array([[1.0, 0.0]]), [[0.5, 0.5]])
    assert aligned(np.array([[[1.0, 0.0]]]), ratio_KL)[0, 0].tolist() == [1.0, 0.0]


def test_targets_of_one_class_are_aligned_before_they_are_hard():
    logits_RC = np.log(np.array([[0.6, 0.4], [0.9, 0.1]]))
    rule = LabelRule("hard", ratio_KL=np.array([[0.5, 1.5]]))
    assert rule.targets(logits_RC, "single").tolist() == [[0, 1], [1, 0]]
    assert rule.changes_targets and not LabelRule("soft", weight=FixedThreshold()).changes_targets


def test_weights_of_one_class_follow_the_aligned_probabilities():
    logits_RC = np.log(np.array([[0.6, 0.4], [0.9, 0.1]]))
    plain = LabelRule("hard", weight=FixedThreshold(0.8))
    assert plain.weights(logits_RC, "single").tolist() == [0, 1]
    moved = LabelRule("hard", ratio_KL=np.array([[0.1, 1.9]]), weight=FixedThreshold(0.8))
    assert moved.weights(logits_RC, "single").tolist() == [1, 0]  # .93 of the second; .68


def test_temperature_comes_before_the_weight():
    logits_RC = np.log(np.array([[0.9, 0.1]]))
    rule = LabelRule("soft", 2.0, weight=FixedThreshold(0.8))
    assert rule.weights(logits_RC, "single").tolist() == [0]  # 3 : 1


def test_many_classes_have_a_target_and_a_weight_each():
    logits_RC = np.array([[3.0, 0.5, -4.0]])
    rule = LabelRule("sharpened", sharpening=0.5, weight=FixedThreshold(0.9))
    p_RC = expit(logits_RC)
    expected = p_RC**2 / (p_RC**2 + (1 - p_RC) ** 2)
    assert rule.targets(logits_RC, "multi") == pytest.approx(expected, abs=1e-6)
    assert rule.weights(logits_RC, "multi").tolist() == [[1, 0, 1]]
    hard = LabelRule("hard", ratio_KL=np.array([[1.0, 1.0], [9.0, 1.0], [1.0, 1.0]]))
    assert hard.targets(logits_RC, "multi").tolist() == [[1, 0, 0]]


def test_pixels_have_a_target_and_a_weight_each():
    logits_CHW = np.array([[[4.0, 0.0], [0, 0]], [[0, 0.2], [5, 0]], [[0, 0], [0, 0.1]]])
    packed = FORM.pack(logits_CHW)
    rule = LabelRule("sharpened", sharpening=0.5, weight=FixedThreshold(0.9))
    soft_CHW = FORM.soft(packed)
    assert soft_CHW[:, 0, 0] == pytest.approx(softmax([4.0, 0, 0]), abs=1e-3)
    expected = soft_CHW**2 / (soft_CHW**2).sum(axis=0)
    assert rule.targets_of_pixels(packed, FORM) == pytest.approx(expected, abs=1e-6)
    assert rule.weights_of_pixels(packed, FORM).tolist() == [[1, 0], [1, 0]]
    hard = LabelRule("hard", ratio_KL=np.array([[1.0, 1.0, 1.4]]))
    assert hard.targets_of_pixels(packed, FORM).argmax(axis=0).tolist() == [[0, 2], [1, 2]]
