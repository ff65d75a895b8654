"""Mel filters place a tone in the band whose centre is nearest, and are librosa's where asked."""

import warnings

import librosa
import numpy as np
import pytest
import torch

from mke_ray.errors import ConfigError
from mke_ray.models.encoders import POWER_FLOOR, LogMelEncoder
from mke_ray.models.spectrum import mel_filters

OF_LIBROSA = [(scale, norm) for scale in ("htk", "slaney") for norm in ("slaney", "none")]


def of_librosa(function, **keys):
    """Return what librosa makes, without its warning of empty filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(**keys)


def sounds():
    """Return a sweep, noise, clicks in silence and a chord that fades, at 16 kHz."""
    time_N = np.arange(24_000) / 16_000
    generator = np.random.default_rng(0)
    clicks = np.zeros(24_000)
    clicks[::1777] = 0.9
    chord = sum(np.sin(2 * np.pi * hz * time_N) for hz in (220.0, 277.2, 329.6)) / 4
    sweep = 0.8 * np.sin(2 * np.pi * (50 * time_N + 2500 * time_N**2))
    noise = generator.normal(0, 0.2, 24_000)
    return np.stack([sweep, noise, clicks, chord * np.exp(-4 * time_N)]).astype(np.float32)


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


@pytest.mark.parametrize(("scale", "norm"), OF_LIBROSA)
@pytest.mark.parametrize(("rate_hz", "n_fft", "num_mels"), [(8000, 256, 40), (44_100, 2048, 128)])
def test_filters_of_both_scales_are_those_of_librosa(rate_hz, n_fft, num_mels, scale, norm):
    ends = {"low_hz": 20.0, "high_hz": 0.45 * rate_hz}
    found = mel_filters(
        rate_hz, n_fft=n_fft, num_mels=num_mels, mel_scale=scale, filter_norm=norm, **ends
    )
    expected = of_librosa(
        librosa.filters.mel,
        sr=rate_hz,
        n_fft=n_fft,
        n_mels=num_mels,
        fmin=ends["low_hz"],
        fmax=ends["high_hz"],
        htk=scale == "htk",
        norm="slaney" if norm == "slaney" else None,
    )
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() < 1e-6 * expected.max()


@pytest.mark.parametrize(("scale", "norm"), OF_LIBROSA)
def test_the_log_mel_spectrogram_is_that_of_librosa(scale, norm):
    encoder = LogMelEncoder(
        "audio",
        sample_rate_hz=16_000,
        num_mels=64,
        n_fft=512,
        hop=160,
        low_hz=0.0,
        mel_scale=scale,
        filter_norm=norm,
    )
    for sound_N in sounds():
        power_FT = of_librosa(
            librosa.feature.melspectrogram,
            y=sound_N,
            sr=16_000,
            n_fft=512,
            hop_length=160,
            n_mels=64,
            fmin=0.0,
            htk=scale == "htk",
            norm="slaney" if norm == "slaney" else None,
            pad_mode="constant",
        )
        found = encoder.raw(torch.from_numpy(sound_N)[None])[0, 0].numpy()
        expected = np.log(power_FT / 512 + POWER_FLOOR)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 2e-4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mel_scale": "bark"}, "mel_scale='bark'.*'slaney'"),
        ({"filter_norm": "max"}, "filter_norm='max'.*'mean'"),
        ({"low_hz": 4000.0}, "low_hz=4000 and high_hz=4000 need to ascend"),
        ({"high_hz": 5000.0}, "half of the sample rate, 4000"),
    ],
)
def test_filters_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        mel_filters(8000, n_fft=256, num_mels=20, **wrong)
