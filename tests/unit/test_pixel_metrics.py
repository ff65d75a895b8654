"""Mean IoU by hand and by torchmetrics, and scores of samples that resample as it does."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from mke_ray.errors import MkeRayError
from mke_ray.metrics import bootstrap_by_group
from mke_ray.pixel_metrics import PixelCounts


def _maps(num=60, num_classes=5, seed=0):
    """Truth in blocks, and answers that are right at a share of pixels that differs by sample."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, num_classes, (num, 3, 3)).repeat(4, 1).repeat(4, 2)
    share = generator.uniform(0.2, 0.9, (num, 1, 1))
    noise = generator.integers(0, num_classes, truth.shape)
    named = np.where(generator.uniform(size=truth.shape) < share, truth, noise)
    truth = np.where(generator.uniform(size=truth.shape) < 0.1, 255, truth)
    return named.astype(np.uint8), truth.astype(np.uint8)


def test_intersection_and_union_are_counted_by_hand():
    truth = np.array([[[0, 0, 1, 255]]], np.uint8)
    named = np.array([[[0, 1, 1, 1]]], np.uint8)
    counts = PixelCounts.of_maps(named, truth, 3)
    assert counts.intersection_NC.tolist() == [[1, 1, 0]]
    assert counts.union_NC.tolist() == [[2, 2, 0]]
    assert counts.miou() == pytest.approx(0.5)  # the third class neither occurs nor is named
    assert counts.pixel_accuracy() == pytest.approx(2 / 3)


def test_mean_iou_and_accuracy_are_those_of_torchmetrics():
    named, truth = _maps()
    counts = PixelCounts.of_maps(named, truth, 5)
    said, known = torch.from_numpy(named).long(), torch.from_numpy(truth).long()
    expected = multiclass_jaccard_index(said, known, num_classes=5, ignore_index=255)
    assert counts.miou() == pytest.approx(float(expected), abs=1e-6)
    right = multiclass_accuracy(said, known, num_classes=5, ignore_index=255, average="micro")
    assert counts.pixel_accuracy() == pytest.approx(float(right), abs=1e-6)


def test_a_sample_of_which_nothing_was_seen_is_wrong_at_every_pixel():
    truth = np.array([[[0, 1]], [[0, 1]]], np.uint8)
    named = np.array([[[0, 1]], [[255, 255]]], np.uint8)
    counts = PixelCounts.of_maps(named, truth, 2)
    assert counts.miou() == pytest.approx(0.5)
    assert counts.pixel_accuracy() == pytest.approx(0.5)


def test_the_mean_of_the_scores_is_the_mean_iou():
    named, truth = _maps()
    counts = PixelCounts.of_maps(named, truth, 7)  # two classes never occur
    assert counts.scores().mean() == pytest.approx(counts.miou(), abs=1e-12)


def test_the_interval_of_the_scores_is_that_of_a_bootstrap_of_the_mean_iou():
    named, truth = _maps(num=120)
    counts = PixelCounts.of_maps(named, truth, 5)
    generator = np.random.default_rng(1)
    values = []
    for _ in range(1500):
        drawn = generator.integers(120, size=120)
        inter, union = counts.intersection_NC[drawn].sum(0), counts.union_NC[drawn].sum(0)
        values.append((inter / union).mean())
    low, high = np.quantile(values, [0.025, 0.975])
    found = bootstrap_by_group(counts.scores(), np.arange(120))
    assert found.value == pytest.approx(counts.miou())
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def test_the_interval_of_a_paired_gain_is_that_of_its_bootstrap():
    named, truth = _maps(num=120)
    better, _ = _maps(num=120)
    better[:, :6] = np.where(truth[:, :6] == 255, better[:, :6], truth[:, :6])
    one, other = (PixelCounts.of_maps(each, truth, 5) for each in (better, named))
    generator = np.random.default_rng(1)
    values = []
    for _ in range(1500):
        drawn = generator.integers(120, size=120)
        iou = [c.intersection_NC[drawn].sum(0) / c.union_NC[drawn].sum(0) for c in (one, other)]
        values.append((iou[0] - iou[1]).mean())
    low, high = np.quantile(values, [0.025, 0.975])
    found = bootstrap_by_group(one.scores() - other.scores(), np.arange(120))
    assert found.value == pytest.approx(one.miou() - other.miou())
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def test_no_pixel_that_counts_is_an_error_that_says_so():
    nothing = np.full((2, 3, 3), 255, np.uint8)
    with pytest.raises(MkeRayError, match="no pixel with a known class"):
        PixelCounts.of_maps(np.zeros_like(nothing), nothing, 3).miou()
