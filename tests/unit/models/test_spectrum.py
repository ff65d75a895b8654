"""Mel filters place a tone in the band whose centre is nearest."""

import pytest
import torch

from mke_ray.errors import ConfigError
from mke_ray.models.spectrum import mel_filters


def test_a_thousand_hertz_are_a_thousand_mel():
    filters = mel_filters(8000, n_fft=8192, num_mels=9, low_hz=0.0)
    peak_hz = filters.argmax(dim=1) * 8000 / 8192
    mel = 2595 * torch.log10(1 + peak_hz / 700)
    top = 2595 * torch.log10(torch.tensor(1 + 4000 / 700))
    assert torch.allclose(mel, torch.arange(1, 10) * top / 10, atol=1.0)
    assert float(2595 * torch.log10(torch.tensor(1 + 1000 / 700))) == pytest.approx(1000, abs=0.1)


def test_every_band_is_a_mean_over_bins_and_none_is_empty():
    filters = mel_filters(8000, n_fft=256, num_mels=120)
    assert filters.shape == (120, 129)
    assert filters.min() >= 0
    assert torch.allclose(filters.sum(dim=1), torch.ones(120), atol=1e-6)


def test_telephone_tones_fall_into_different_bands():
    tones_hz = torch.tensor([697, 770, 852, 941, 1209, 1336, 1477], dtype=torch.float32)
    filters = mel_filters(8000, n_fft=512, num_mels=64)
    bins = torch.round(tones_hz * 512 / 8000).long()
    assert len(set(filters[:, bins].argmax(dim=0).tolist())) == 7


@pytest.mark.parametrize("num_mels", [0, 129])
def test_more_bands_than_bins_are_refused(num_mels):
    with pytest.raises(ConfigError, match=f"num_mels={num_mels}"):
        mel_filters(8000, n_fft=256, num_mels=num_mels)
