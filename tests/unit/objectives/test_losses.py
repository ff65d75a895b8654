"""Losses by hand: soft and hard labels, many classes, one class per pixel."""

import math

import pytest
import torch
from torch.nn import functional

from mke_ray.objectives.losses import (
    consistency,
    dense_cross_entropy,
    pseudo_label_loss,
    soft_binary_cross_entropy,
    soft_cross_entropy,
)


def test_soft_cross_entropy_is_the_weighted_mean_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    target = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    first = -(0.5 * math.log(0.25) + 0.5 * math.log(0.75))
    expected = (3 * first + 1 * math.log(2)) / 4
    loss = soft_cross_entropy(logits, target, torch.tensor([3.0, 1.0]))
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_soft_cross_entropy_of_hard_labels_is_that_of_torch():
    logits, labels = torch.randn(9, 4), torch.randint(0, 4, (9,))
    loss = soft_cross_entropy(logits, functional.one_hot(labels, 4).float(), torch.ones(9))
    assert torch.allclose(loss, functional.cross_entropy(logits, labels))


def test_binary_cross_entropy_averages_classes_and_weighted_samples():
    logits, target = torch.randn(5, 4), torch.rand(5, 4)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0])
    rows = [0, 2, 2, 4]
    expected = functional.binary_cross_entropy_with_logits(logits[rows], target[rows])
    assert torch.allclose(soft_binary_cross_entropy(logits, target, weight), expected)


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_divergence_is_that_of_torch(kind):
    logits, clean = torch.randn(5, 4), torch.randn(5, 4)
    found = consistency(logits, clean, weight_B=torch.ones(5), kind=kind)
    if kind == "single":
        prediction = torch.distributions.Categorical(logits=logits)
        target = torch.distributions.Categorical(logits=clean)
    else:
        prediction = torch.distributions.Bernoulli(logits=logits)
        target = torch.distributions.Bernoulli(logits=clean)
    assert torch.allclose(found, torch.distributions.kl_divergence(target, prediction).mean())


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_no_gradient_passes_through_the_clean_prediction(kind):
    logits = torch.randn(3, 4, requires_grad=True)
    clean = torch.randn(3, 4, requires_grad=True)
    consistency(logits, clean, weight_B=torch.ones(3), kind=kind).backward()
    assert logits.grad is not None and clean.grad is None


def test_half_precision_logits_are_computed_in_float32():
    logits = torch.tensor([[60_000.0, -60_000.0]], dtype=torch.float16)
    loss = soft_cross_entropy(logits, torch.tensor([[0.0, 1.0]]), torch.ones(1))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(119_936, rel=1e-3)


def test_samples_without_a_label_count_for_nothing():
    logits, target = torch.randn(4, 3), torch.softmax(torch.randn(4, 3), dim=1)
    target[1] = 0
    found = pseudo_label_loss(logits, target, weight_B=torch.ones(4))
    kept = [0, 2, 3]
    assert torch.allclose(found, soft_cross_entropy(logits[kept], target[kept], torch.ones(3)))


def _pixels(num=2, num_classes=3, height=2, width=3):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(num, num_classes, height, width, generator=generator)
    target = torch.randint(0, num_classes, (num, height, width), generator=generator)
    return logits, target.to(torch.uint8)


def test_dense_cross_entropy_is_the_mean_over_all_pixels_by_hand_ignored_ones_are_0():
    logits = torch.log(torch.tensor([[[[0.5, 0.25, 0.9]], [[0.5, 0.75, 0.1]]]]))
    target = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    loss = dense_cross_entropy(logits, target, torch.ones(1))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 3)


def test_dense_cross_entropy_with_ignored_pixels_and_class_weights_is_that_of_torch():
    logits, target = _pixels()
    target[0, 0, 1] = target[1, 1, 2] = 255
    weights = [0.5, 2.0, 1.0]
    expected = functional.cross_entropy(
        logits, target.long(), weight=torch.tensor(weights), ignore_index=255, reduction="sum"
    )
    expected = expected / target.numel()
    loss = dense_cross_entropy(logits, target, torch.ones(2), class_weights=weights)
    assert torch.allclose(loss, expected)


def test_soft_pixels_that_are_one_hot_give_the_loss_of_hard_ones():
    logits, target = _pixels()
    target[0, 1, 1] = 255
    soft = functional.one_hot(target.long().clamp(max=3), 4)[..., :3].permute(0, 3, 1, 2).float()
    for class_weights in (None, [0.5, 2.0, 1.0]):
        hard_loss = dense_cross_entropy(logits, target, torch.ones(2), class_weights=class_weights)
        soft_loss = dense_cross_entropy(logits, soft, torch.ones(2), class_weights=class_weights)
        assert torch.allclose(hard_loss, soft_loss)


def test_dense_cross_entropy_of_a_batch_is_the_weighted_mean_of_those_of_its_parts():
    logits, target = _pixels(num=3)
    target[0, :, 1:] = 255  # one rank would have few labelled pixels
    weight = torch.tensor([1.0, 0.5, 2.0])
    whole = dense_cross_entropy(logits, target, weight, class_weights=[0.5, 2.0, 1.0])
    parts = [
        dense_cross_entropy(logits[one], target[one], weight[one], class_weights=[0.5, 2.0, 1.0])
        for one in (slice(0, 1), slice(1, 3))
    ]
    assert torch.allclose(whole, (1.0 * parts[0] + 2.5 * parts[1]) / 3.5)


def test_a_sample_of_weight_zero_does_not_count_among_dense_ones():
    logits, target = _pixels()
    alone = dense_cross_entropy(logits[:1], target[:1], torch.ones(1))
    assert torch.allclose(dense_cross_entropy(logits, target, torch.tensor([1.0, 0.0])), alone)


def test_pixels_that_are_all_ignored_give_a_loss_of_zero_with_a_gradient_of_zero():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    nothing = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    loss = pseudo_label_loss(logits, nothing, weight_B=torch.ones(1), kind="dense")
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None and not logits.grad.any()


def test_divergence_of_pixels_is_the_mean_over_all_of_them():
    logits, _ = _pixels()
    clean = logits.flip(0)
    per_pixel = functional.kl_div(
        torch.log_softmax(logits, 1), torch.softmax(clean, 1), reduction="none"
    ).sum(1)
    loss = consistency(logits, clean, weight_B=torch.tensor([1.0, 3.0]), kind="dense")
    expected = (per_pixel[0].mean() + 3 * per_pixel[1].mean()) / 4
    assert torch.allclose(loss, expected)
