"""Noise on stored samples: as strong as asked, and the same whatever the batch."""

import pytest
import torch

from mke_ray.evaluation.noise import Spread, can_be_noisy, noisy
from mke_ray.schema import AudioSpec, FeatureSpec, TokenSpec


def test_noise_depends_on_the_sample_and_the_modality_and_not_on_the_batch():
    array = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    whole = noisy(array, 1.0, modality="a", sample_ids=[5, 6, 7])
    alone = noisy(array[1:2], 1.0, modality="a", sample_ids=[6])
    assert torch.equal(whole[1:2], alone)
    assert not torch.equal(alone, noisy(array[1:2], 1.0, modality="b", sample_ids=[6]))
    assert not torch.equal(alone, noisy(array[1:2], 1.0, modality="a", sample_ids=[8]))


@pytest.mark.parametrize("level", [0.5, 4.0])
def test_a_level_is_a_multiple_of_the_spread_of_the_sample(level):
    array = 3.0 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
    added = noisy(array, level, modality="a", sample_ids=[1, 2]) - array
    assert added.std().item() == pytest.approx(3.0 * level, rel=0.03)
    assert added.mean().item() == pytest.approx(0.0, abs=0.1 * level)


def test_pixels_stay_pixels():
    array = torch.randint(0, 256, (2, 8, 8, 3)).to(torch.uint8)
    made = noisy(array, 4.0, modality="video", sample_ids=[1, 2])
    assert made.dtype == torch.uint8 and (made == 0).any() and (made == 255).any()


def test_a_sample_without_any_spread_stays_as_it_is():
    array = torch.zeros(1, 10)
    assert torch.equal(noisy(array, 2.0, modality="a", sample_ids=[1]), array)


def test_tokens_are_left_alone():
    decode = {"text": TokenSpec(8), "sound": AudioSpec(8000, 1.0), "x": FeatureSpec(3)}
    assert [name for name in decode if can_be_noisy(decode, name)] == ["sound", "x"]


def test_noise_on_features_is_measured_by_the_spread_of_each_over_samples():
    scale_D = torch.tensor([1.0, 100.0])
    array_BD = 5.0 + scale_D * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    measured = Spread()
    measured.add(array_BD[:1000])
    measured.add(array_BD[1000:])
    spread = measured.value()
    assert spread == pytest.approx(array_BD.std(dim=0, correction=0).tolist())
    made_BD = noisy(array_BD, 2.0, modality="x", sample_ids=range(4000), spread=spread)
    assert (made_BD - array_BD).std(dim=0).tolist() == pytest.approx([2.0, 200.0], rel=0.05)
    one = noisy(array_BD[:1, :1], 1.0, modality="x", sample_ids=[0], spread=spread[:1])
    assert one.item() != array_BD[0, 0].item()  # a single value has no spread of its own
    assert Spread().value() == []
