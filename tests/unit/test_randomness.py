"""Random numbers depend on the key alone, and look like what they claim to be."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mke_ray.randomness import gaussian, gaussian_like, keys_for, uniform
from mke_ray.seeds import mix_integers

NUM = 50_000
KEY = 4883643645316020624
UNIFORM = [0.02032226, 0.22755009]
GAUSSIAN = [2.402071, -1.422016]


def _keys(num=1, *, seed=0, epoch=0, stream=0, start=0):
    return keys_for(torch.arange(start, start + num), seed=seed, epoch=epoch, stream=stream)


def _reference_mix(x):
    """MurmurHash3's finalizer in unsigned numpy integers."""
    x = x ^ (x >> np.uint64(33))
    x = x * np.uint64(0xFF51AFD7ED558CCD)
    x = x ^ (x >> np.uint64(33))
    x = x * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


def test_keys_are_the_finalizer_of_murmurhash3():
    ids = np.array([0, 1, -1, 2**62, -(2**63), 2**63 - 1], dtype=np.int64)
    seed = np.uint64(mix_integers(3, 5, 7))
    expected = _reference_mix(_reference_mix(ids.astype(np.uint64)) + seed).astype(np.int64)
    found = keys_for(torch.from_numpy(ids), seed=3, epoch=5, stream=7)
    assert np.array_equal(found.numpy(), expected)


def test_uniform_numbers_are_the_top_bits_of_the_mixed_counter():
    key = _keys(2)
    counter = np.arange(1, 5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = _reference_mix(key.numpy().astype(np.uint64)[:, None] + counter)
    expected = (bits >> np.uint64(40)).astype(np.float64) / 2**24
    assert np.array_equal(uniform(key, 4).numpy(), expected.astype(np.float32))


def test_uniform_numbers_are_uniform_within_and_across_samples():
    within = uniform(_keys(1), NUM)[0].numpy()
    across = uniform(_keys(NUM), 1)[:, 0].numpy()
    for numbers in (within, across):
        assert numbers.min() >= 0 and numbers.max() < 1
        assert stats.kstest(numbers, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("part", ["first half", "second half", "across samples"])
def test_gaussian_numbers_are_standard_normal(part):
    if part == "across samples":
        numbers = gaussian(_keys(NUM), 2)[:, 1].numpy()
    else:
        both = gaussian(_keys(1), 2 * NUM)[0].numpy()
        numbers = both[:NUM] if part == "first half" else both[NUM:]
    assert stats.kstest(numbers, "norm").pvalue > 1e-3
    assert abs(numbers.mean()) < 4 / NUM**0.5
    assert abs(numbers.std() - 1) < 4 / (2 * NUM) ** 0.5
    assert abs(stats.kurtosis(numbers)) < 0.15
    assert 3.5 < np.abs(numbers).max() < 6.6


def test_the_two_halves_of_gaussian_numbers_are_independent():
    both = gaussian(_keys(1), 2 * NUM)[0].numpy()
    first, second = both[:NUM], both[NUM:]
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / NUM**0.5
    assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 4 / NUM**0.5


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"epoch": 1}, {"stream": 1}, {"start": 1}],
    ids=["seed", "epoch", "stream", "sample"],
)
def test_numbers_of_another_key_are_independent(other):
    here = gaussian(_keys(), NUM)[0].numpy()
    there = gaussian(_keys(**other), NUM)[0].numpy()
    assert abs(np.corrcoef(here, there)[0, 1]) < 4 / NUM**0.5
    for lag in (1, 2):
        assert abs(np.corrcoef(here[lag:], there[:-lag])[0, 1]) < 4 / NUM**0.5


def test_neighbouring_numbers_of_one_sample_are_independent():
    numbers = gaussian(_keys(), NUM)[0].numpy()
    for lag in (1, 2, 3):
        assert abs(np.corrcoef(numbers[lag:], numbers[:-lag])[0, 1]) < 4 / NUM**0.5


@settings(max_examples=30, deadline=None)
@given(
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=9, unique=True),
    num=st.integers(1, 70),
    data=st.data(),
)
def test_a_sample_draws_the_same_numbers_in_every_batch(ids, num, data):
    ids = torch.tensor(ids)
    chosen = data.draw(st.lists(st.sampled_from(range(len(ids))), min_size=1, max_size=9))
    whole = keys_for(ids, seed=1, epoch=2, stream=3)
    part = keys_for(ids[chosen], seed=1, epoch=2, stream=3)
    assert torch.equal(whole[chosen], part)
    assert torch.equal(uniform(whole, num)[chosen], uniform(part, num))
    assert torch.equal(gaussian(whole, num)[chosen], gaussian(part, num))


def test_a_large_sample_draws_the_same_numbers_alone_and_in_a_batch():
    whole, alone = _keys(5), _keys(1, start=3)
    assert torch.equal(gaussian(whole, 19_201)[3:4], gaussian(alone, 19_201))


def test_keys_leave_the_sample_ids_as_they_were():
    ids = torch.arange(4)
    key = keys_for(ids, seed=0, epoch=0, stream=0)
    before = key.clone()
    uniform(key, 3), gaussian(key, 3)
    assert torch.equal(ids, torch.arange(4))
    assert torch.equal(key, before)


def test_noise_like_a_batch_has_its_shape_and_type():
    x = torch.zeros(2, 3, 5, dtype=torch.float64)
    noise = gaussian_like(x, _keys(2))
    assert noise.shape == x.shape and noise.dtype == x.dtype
    assert torch.equal(noise.flatten(1).float(), gaussian(_keys(2), 15))


def test_keys_of_many_samples_epochs_and_streams_never_collide():
    keys = torch.cat(
        [_keys(500, epoch=epoch, stream=stream) for epoch in range(8) for stream in range(8)]
    )
    assert len(torch.unique(keys)) == len(keys)


@given(st.lists(st.integers(-(2**70), 2**70), max_size=5))
def test_mixed_integers_are_seeds_of_63_bits(numbers):
    assert 0 <= mix_integers(*numbers) < 2**63


def test_mixed_integers_depend_on_every_number_and_on_order():
    seeds = [mix_integers(*one) for one in [(1, 2), (2, 1), (1, 3), (0, 2), (1, 2, 0), (1,)]]
    assert len(set(seeds)) == len(seeds)


def test_numbers_are_those_of_the_first_release():
    key = keys_for(torch.tensor([123456789]), seed=7, epoch=3, stream=11)
    assert key.tolist() == [KEY]
    assert uniform(key, 2)[0].tolist() == pytest.approx(UNIFORM, abs=1e-7)
    assert gaussian(key, 2)[0].tolist() == pytest.approx(GAUSSIAN, abs=1e-5)
