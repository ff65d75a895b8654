"""Tests of the view of sound: what each change does, drawn from the key alone."""

import pytest
import torch

from mke_ray.data.sound_views import SoundView
from mke_ray.errors import ConfigError
from mke_ray.randomness import keys_for

IDS = torch.arange(100, 140, dtype=torch.int64)
NUM = 4000
EVERYTHING = SoundView(3000, gain_db=6, snr_db=(5, 20), shift=0.2, time_masks=2, frequency_masks=2)


def keys(epoch=0):
    return keys_for(IDS, seed=1, epoch=epoch, stream=0)


def sound():
    return torch.randn(len(IDS), NUM, generator=torch.Generator().manual_seed(0)) * 0.1


def test_a_view_depends_on_the_key_and_not_on_the_batch():
    x, key = sound(), keys()
    whole = EVERYTHING(x, key)
    assert whole.shape == (len(IDS), 3000) and whole.abs().max() <= 1
    alone = torch.cat([EVERYTHING(x[i : i + 1], key[i : i + 1]) for i in range(len(IDS))])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-6)
    turned = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(EVERYTHING(x[turned], key[turned]), whole[turned], rtol=0, atol=1e-6)
    assert (whole - EVERYTHING(x, keys(epoch=1))).abs().max() > 0.01


def test_a_view_that_changes_nothing_is_the_sound():
    assert torch.equal(SoundView(NUM)(sound(), keys()), sound())


def test_loudness_changes_by_at_most_the_gain():
    db = 20 * (SoundView(NUM, gain_db=6)(sound(), keys()) / sound()).mean(dim=1).log10()
    assert -6 <= db.min() < -4 and 4 < db.max() <= 6.01


def test_noise_lies_as_far_below_the_sound_as_it_says():
    x = sound()
    noise = SoundView(NUM, snr_db=(5, 20))(x, keys()) - x
    snr = 10 * (x.square().mean(dim=1) / noise.square().mean(dim=1)).log10()
    assert 4.5 < snr.min() < 8 and 17 < snr.max() < 20.5
    silent = torch.zeros(len(IDS), NUM)
    assert torch.equal(SoundView(NUM, snr_db=(5, 20))(silent, keys()), silent)


def test_a_shift_moves_the_sound_into_silence():
    x = torch.ones(len(IDS), NUM) * torch.linspace(0.1, 0.9, NUM)
    view = SoundView(NUM, shift=0.25)(x, keys())
    silent = (view == 0).sum(dim=1)
    assert silent.max() <= NUM // 4 and silent.float().std() > 100
    begins = (view[:, 0] == 0).float().mean()
    assert 0.2 < begins < 0.8


def test_a_time_mask_is_silence_in_one_place():
    view = SoundView(NUM, time_masks=1, time_share=0.4)(sound(), keys())
    silent = (view.abs() < 1e-6).float()
    share = silent.mean(dim=1)
    assert share.max() > 0.15 and share.max() <= 0.41 and share.min() < 0.05
    changed = ((view - sound()).abs() > 1e-5).float().mean(dim=1)
    assert (changed < share + 0.3).all()  # windows overlap at the edges


def test_a_frequency_mask_takes_a_band_away_and_leaves_the_others():
    x = sound()
    view = SoundView(NUM, frequency_masks=1, frequency_share=0.3)(x, keys())
    power = [torch.fft.rfft(one).abs().square() for one in (view, x)]
    bands = [one[:, :2000].reshape(len(IDS), 50, 40).mean(dim=2) for one in power]
    ratio = bands[0] / bands[1]
    gone = (ratio < 0.05).float().mean(dim=1)
    assert 0.2 < gone.max() <= 0.3 and gone.min() < 0.05
    kept = (ratio > 0.9).float().mean(dim=1)
    assert (kept + gone > 0.88).all()


@pytest.mark.parametrize(
    "wrong", [{"gain_db": -1}, {"shift": 1.1}, {"time_share": -0.1}, {"snr_db": (3,)}]
)
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SoundView(100, **wrong)


def test_a_view_longer_than_the_store_is_refused():
    with pytest.raises(ConfigError, match="num_samples=4001"):
        SoundView(NUM + 1)(sound(), keys())
