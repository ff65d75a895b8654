"""Normalisation statistics are those of all that was observed, however it was batched."""

import pytest
import torch

from mke_ray.errors import TrainingError
from mke_ray.models.normaliser import Normaliser


def _observed(batches, *, axis, num_channels):
    normaliser = Normaliser(num_channels, axis=axis)
    for batch in batches:
        normaliser.observe(batch)
    normaliser.freeze()
    return normaliser


def test_it_is_the_identity_until_it_is_frozen():
    normaliser = Normaliser(2, axis=1)
    x = torch.randn(3, 2)
    normaliser.observe(x)
    assert torch.equal(normaliser(x), x)


@pytest.mark.parametrize("axis", [1, 2])
def test_batches_of_any_size_give_the_statistics_of_all_samples(axis):
    x = torch.randn(20, 3, 3, 7) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0, 1.0, 2.0]) + 50
    normaliser = _observed(x.split([1, 12, 7]), axis=axis, num_channels=3)
    flat = x.double().transpose(0, axis).flatten(1)
    assert torch.allclose(normaliser.mean.double(), flat.mean(dim=1), rtol=1e-6)
    assert torch.allclose(normaliser.std.double(), flat.std(dim=1, correction=0), rtol=1e-6)
    standard = normaliser(x).double().transpose(0, axis).flatten(1)
    assert standard.mean(dim=1).abs().max() < 1e-4
    assert (standard.std(dim=1, correction=0) - 1).abs().max() < 1e-4


def test_a_small_spread_about_a_large_mean_is_not_lost():
    x = 1e6 + torch.randn(10_000, 1, dtype=torch.float64)
    normaliser = _observed(x.split(100), axis=1, num_channels=1)
    assert float(normaliser.std) == pytest.approx(float(x.std(correction=0)), rel=1e-5)


def test_a_constant_channel_is_centred_and_not_scaled():
    x = torch.full((5, 1), 7.0)
    normaliser = _observed([x], axis=1, num_channels=1)
    assert torch.equal(normaliser(x + 2), torch.full((5, 1), 2.0))


def test_without_samples_it_stays_the_identity():
    normaliser = _observed([torch.zeros(0, 2)], axis=1, num_channels=2)
    x = torch.randn(3, 2)
    assert torch.equal(normaliser(x), x)


def test_a_disabled_normaliser_stays_the_identity():
    normaliser = Normaliser(1, axis=1, enabled=False)
    x = torch.randn(9, 1) + 5
    normaliser.observe(x)
    normaliser.freeze()
    assert torch.equal(normaliser(x), x)


def test_samples_that_are_not_finite_are_refused():
    normaliser = Normaliser(1, axis=1)
    normaliser.observe(torch.tensor([[1.0], [float("nan")]]))
    with pytest.raises(TrainingError, match="not finite"):
        normaliser.freeze()


def test_only_mean_and_deviation_are_saved_with_the_weights():
    assert set(Normaliser(2, axis=1).state_dict()) == {"mean", "std"}
