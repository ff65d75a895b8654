"""Losses for noisy labels by hand: hard and soft, one class, many classes, one class per pixel."""

import math

import pytest
import torch
from torch.distributions import Categorical, kl_divergence
from torch.nn import functional

from mke_ray.errors import ConfigError
from mke_ray.objectives.losses import dense_cross_entropy, pseudo_label_loss, soft_cross_entropy
from mke_ray.objectives.robust_losses import (
    GeneralizedCrossEntropy,
    SymmetricCrossEntropy,
    criterion_of,
)

QUARTER = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4 and 3/4
CRITERIA = [GeneralizedCrossEntropy(0.7), SymmetricCrossEntropy(0.3, 2.0)]


def _loss(criterion, logits, target, weight=None, **settings):
    weight = torch.ones(len(logits)) if weight is None else weight
    return float(
        pseudo_label_loss(logits, target, weight_B=weight, criterion=criterion, **settings)
    )


def test_generalized_cross_entropy_by_hand():
    hard = _loss(GeneralizedCrossEntropy(0.5), QUARTER, torch.tensor([[1.0, 0.0]]))
    assert hard == pytest.approx((1 - 0.5) / 0.5)
    soft = _loss(GeneralizedCrossEntropy(0.5), QUARTER, torch.tensor([[0.4, 0.6]]))
    assert soft == pytest.approx(0.4 * 1.0 + 0.6 * (1 - math.sqrt(0.75)) / 0.5)


def test_generalized_cross_entropy_lies_between_cross_entropy_and_the_absolute_error():
    torch.manual_seed(0)
    logits, target = torch.randn(9, 4), torch.softmax(torch.randn(9, 4), dim=1)
    near_zero = _loss(GeneralizedCrossEntropy(1e-6), logits, target)
    assert near_zero == pytest.approx(
        float(soft_cross_entropy(logits, target, torch.ones(9))), rel=1e-4
    )
    labels = functional.one_hot(torch.randint(0, 4, (9,)), 4).float()
    absolute = functional.l1_loss(logits.softmax(dim=1), labels, reduction="sum") / 9
    assert _loss(GeneralizedCrossEntropy(1.0), logits, labels) == pytest.approx(float(absolute) / 2)


def test_a_label_that_the_student_finds_unlikely_pulls_less_than_with_cross_entropy():
    logits = QUARTER.clone().requires_grad_()
    target = torch.tensor([[1.0, 0.0]])
    pseudo_label_loss(
        logits, target, weight_B=torch.ones(1), criterion=GeneralizedCrossEntropy(0.5)
    ).backward()
    cross_entropy = torch.tensor([[0.25 - 1.0, 0.75]])
    assert torch.allclose(logits.grad, 0.25**0.5 * cross_entropy)


def test_symmetric_cross_entropy_by_hand():
    criterion = SymmetricCrossEntropy(alpha=0.5, beta=2.0, log_zero=-3.0)
    hard = _loss(criterion, QUARTER, torch.tensor([[1.0, 0.0]]))
    assert hard == pytest.approx(0.5 * math.log(4) + 2.0 * 3.0 * 0.75)
    soft = _loss(criterion, QUARTER, torch.tensor([[0.4, 0.6]]))
    forward = -(0.4 * math.log(0.25) + 0.6 * math.log(0.75))
    reverse = -(0.25 * math.log(0.4) + 0.75 * math.log(0.6))
    assert soft == pytest.approx(0.5 * forward + 2.0 * reverse)


def test_the_reverse_part_is_that_of_torch():
    torch.manual_seed(0)
    student, label = Categorical(logits=torch.randn(9, 4)), Categorical(logits=torch.randn(9, 4))
    expected = (kl_divergence(student, label) + student.entropy()).mean()
    found = _loss(SymmetricCrossEntropy(0.0, 1.0, -1e3), student.logits, label.probs)
    assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_many_classes_are_as_many_decisions_between_two(criterion):
    torch.manual_seed(0)
    logits, target = torch.randn(5, 3), torch.rand(5, 3)
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0])
    pairs = torch.stack([logits, torch.zeros(5, 3)], dim=2).flatten(0, 1)
    labels = torch.stack([target, 1 - target], dim=2).flatten(0, 1)
    expected = _loss(criterion, pairs, labels, weight.repeat_interleave(3))
    assert _loss(criterion, logits, target, weight, kind="multi") == pytest.approx(expected)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_pixels_are_samples_and_those_without_a_label_add_nothing(criterion):
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5)).to(torch.uint8)
    target[0, :, :2] = 255
    flat, named = logits.permute(0, 2, 3, 1).reshape(-1, 3), target.flatten()
    counts = named != 255
    one_hot = functional.one_hot(named[counts].long(), 3).float()
    expected = _loss(criterion, flat[counts], one_hot) * float(counts.sum()) / counts.numel()
    assert _loss(criterion, logits, target, kind="dense") == pytest.approx(expected, rel=1e-5)
    soft = functional.one_hot(target.long().clamp(max=3), 4)[..., :3].permute(0, 3, 1, 2).float()
    assert _loss(criterion, logits, soft, kind="dense") == pytest.approx(expected, rel=1e-5)


def test_classes_of_pixels_weigh_as_in_cross_entropy():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    target[1, 0] = 255
    weights = [0.5, 2.0, 0.0]
    found = _loss(
        GeneralizedCrossEntropy(1e-6), logits, target, kind="dense", class_weights=weights
    )
    expected = dense_cross_entropy(logits, target, torch.ones(2), class_weights=weights)
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_weights_of_classes_and_pixels_weigh_the_mean():
    criterion = GeneralizedCrossEntropy(1.0)
    logits = torch.tensor([[0.0, math.log(3.0)]])
    target, weight = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 3.0]])
    many = _loss(criterion, logits, target, kind="multi", label_weight=weight)
    assert many == pytest.approx((1 * 0.5 + 3 * 0.25) / 4)
    pixels = logits[:, :, None, None].expand(1, 2, 1, 2)
    named, weight = torch.tensor([[[0, 1]]]), torch.tensor([[[1.0, 3.0]]])
    dense = _loss(criterion, pixels, named, kind="dense", label_weight=weight)
    assert dense == pytest.approx((1 * 0.75 + 3 * 0.25) / 4)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_samples_without_a_label_and_without_weight_count_for_nothing(criterion):
    torch.manual_seed(0)
    logits, target = torch.randn(3, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    some = _loss(criterion, logits, target, torch.tensor([1.0, 1.0, 0.0]))
    assert some == pytest.approx(_loss(criterion, logits[:1], target[:1]))
    assert _loss(criterion, logits, target, torch.zeros(3)) == 0.0


@pytest.mark.parametrize("criterion", CRITERIA)
def test_gradients_are_finite_however_wrong_the_student_is(criterion):
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    pseudo_label_loss(logits, target, weight_B=torch.ones(2), criterion=criterion).backward()
    assert torch.isfinite(logits.grad).all()


def test_a_criterion_is_named_by_its_type():
    assert criterion_of(None) is None and criterion_of({"type": "cross_entropy"}) is None
    assert criterion_of({"type": "generalized", "q": 0.3}) == GeneralizedCrossEntropy(0.3)
    found = criterion_of({"type": "symmetric", "alpha": 6, "beta": 0.1})
    assert found == SymmetricCrossEntropy(6, 0.1, -4.0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "focal"}, r"objective\.loss\.type is 'focal'"),
        ({"type": "generalized", "q": 0.0}, r"objective\.loss\.q is 0\.0"),
        ({"type": "generalized", "q": 1.5}, r"objective\.loss\.q is 1\.5"),
        ({"type": "generalized", "alpha": 1.0}, r"objective\.loss\.alpha is no key of generalized"),
        ({"type": "cross_entropy", "q": 0.5}, r"objective\.loss\.q is no key of cross_entropy"),
        ({"type": "symmetric", "beta": -1.0}, r"objective\.loss\.beta is -1\.0"),
        ({"type": "symmetric", "log_zero": 0.0}, r"objective\.loss\.log_zero is 0\.0"),
    ],
)
def test_a_loss_that_makes_no_sense_is_named(spec, message):
    with pytest.raises(ConfigError, match=message):
        criterion_of(spec)
