"""Encoders turn stored arrays of any length and size into features."""

import math

import pytest
import torch

from mke_ray.errors import ConfigError
from mke_ray.models.encoders import (
    Encoder,
    FeatureEncoder,
    FrameEncoder,
    ImageEncoder,
    LogMelEncoder,
)


def _frames(num=3, *, num_frames=4, height=40, width=40):
    generator = torch.Generator().manual_seed(0)
    shape = (num, num_frames, height, width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _sound(num=3, num_samples=16_000):
    return torch.rand(num, num_samples, generator=torch.Generator().manual_seed(0)) - 0.5


def _encoders():
    return [
        (FrameEncoder("video", channels=[4, 8], num_features=6), _frames()),
        (LogMelEncoder("audio", sample_rate_hz=8000, channels=[4], num_features=6), _sound()),
        (FeatureEncoder("x", num_inputs=5, hidden=[7, 6]), torch.randn(3, 5)),
        (ImageEncoder("rgb", channels=[4, 8], num_features=6), _frames()[:, 0]),
    ]


@pytest.mark.parametrize("number", range(4))
def test_every_encoder_keeps_the_contract(number):
    encoder, x = _encoders()[number]
    assert isinstance(encoder, Encoder)
    represented = encoder.represent(x)
    assert represented.dtype == torch.float32 and not represented.requires_grad
    features = encoder(represented)
    assert features.shape == (3, encoder.num_features)
    features.sum().backward()
    assert all(one.grad is not None for one in encoder.parameters())


@pytest.mark.parametrize("number", range(4))
def test_a_sample_has_the_same_features_alone_and_in_a_batch(number):
    encoder, x = _encoders()[number]
    together = encoder(encoder.represent(x))
    alone = encoder(encoder.represent(x[1:2]))
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("number", range(4))
def test_the_observed_statistics_standardise_the_representation(number):
    encoder, x = _encoders()[number]
    encoder.normaliser.observe(encoder.raw(x))
    encoder.normaliser.freeze()
    axis = encoder.normaliser.axis
    flat = encoder.represent(x).transpose(0, axis).flatten(1)
    assert flat.mean(dim=1).abs().max() < 1e-3
    assert (flat.std(dim=1, correction=0) - 1).abs().max() < 1e-2


def test_frames_become_colour_planes_between_0_and_1():
    encoder = FrameEncoder("video", channels=[4], num_features=6)
    x = _frames(2)
    represented = encoder.represent(x)
    assert represented.shape == (2, 4, 3, 40, 40)
    assert float(represented[1, 2, 0, 5, 6]) == pytest.approx(int(x[1, 2, 5, 6, 0]) / 255)


def test_a_picture_becomes_colour_planes_between_0_and_1():
    encoder = ImageEncoder("rgb", channels=[4], num_features=6)
    x = _frames(2)[:, 0]
    represented = encoder.represent(x)
    assert represented.shape == (2, 3, 40, 40)
    assert float(represented[1, 2, 5, 6]) == pytest.approx(int(x[1, 5, 6, 2]) / 255)


@pytest.mark.parametrize("size", [(48, 40), (3, 5), (1, 1)])
def test_pictures_of_any_size_are_read_by_the_net_of_the_frames(size):
    torch.manual_seed(0)
    picture = ImageEncoder("rgb", channels=[4, 8], num_features=6)
    torch.manual_seed(0)
    frames = FrameEncoder("video", channels=[4, 8], num_features=6)
    x = _frames(2, num_frames=1, height=size[0], width=size[1])
    assert picture(picture.represent(x[:, 0])).shape == (2, 6)
    maps = picture.convolutions(picture.represent(x[:, 0]))
    assert torch.equal(maps, frames.convolutions(frames.represent(x)[:, 0]))


@pytest.mark.parametrize("size", [(8, 48, 48), (1, 40, 40), (4, 5, 3), (2, 1, 1)])
def test_frames_of_any_number_and_size_are_read(size):
    num_frames, height, width = size
    encoder = FrameEncoder("video", channels=[4, 8, 8], num_features=6)
    x = _frames(2, num_frames=num_frames, height=height, width=width)
    assert encoder(encoder.represent(x)).shape == (2, 6)


def test_the_order_of_frames_does_not_matter_but_every_frame_does():
    encoder = FrameEncoder("video", channels=[4, 8], num_features=6)
    x = encoder.represent(_frames(1))
    changed = x.clone()
    changed[:, 3] = 0
    assert torch.allclose(encoder(x), encoder(x.flip(1)), atol=1e-5)
    assert not torch.allclose(encoder(x), encoder(changed), atol=1e-5)


def test_the_spectrum_is_that_of_torch_away_from_the_ends():
    encoder = LogMelEncoder("audio", sample_rate_hz=8000, num_mels=20, n_fft=256, hop=100)
    x = _sound(2, 3000)
    window = torch.hann_window(256)
    complex_spectrum = torch.stft(
        x, 256, 100, window=window, pad_mode="constant", return_complex=True
    )
    power = complex_spectrum.abs().square() / 256
    expected = torch.log(encoder.filters @ power + 1e-6)
    found = encoder.represent(x)
    assert found.shape == (2, 1, 20, 31)
    assert torch.allclose(found[:, 0], expected, atol=1e-4)


def test_a_tone_stands_out_in_its_band_whenever_it_sounds():
    encoder = LogMelEncoder("audio", sample_rate_hz=8000)
    time_s = torch.arange(16_000) / 8000
    for tone_hz in (697.0, 1477.0):
        represented = encoder.represent(torch.sin(2 * math.pi * tone_hz * time_s)[None])
        loudest = represented[0, 0, :, 5:-5].argmax(dim=0)
        nearest = encoder.filters[:, round(tone_hz * 512 / 8000)].argmax()
        assert (loudest == nearest).all()


@pytest.mark.parametrize("num_samples", [1, 100, 512, 16_000, 24_321])
def test_sound_of_any_length_is_read(num_samples):
    encoder = LogMelEncoder("audio", sample_rate_hz=8000, channels=[4, 4], num_features=6)
    assert encoder(encoder.represent(_sound(2, num_samples))).shape == (2, 6)


def test_silence_has_a_finite_representation():
    encoder = LogMelEncoder("audio", sample_rate_hz=8000)
    represented = encoder.represent(torch.zeros(1, 16_000))
    assert torch.allclose(represented, torch.full_like(represented, math.log(1e-6)))


def test_the_pitch_of_a_sound_reaches_the_features():
    encoder = LogMelEncoder("audio", sample_rate_hz=8000)
    time_s = torch.arange(16_000) / 8000
    low, high = (torch.sin(2 * math.pi * hz * time_s)[None] for hz in (770.0, 852.0))
    features = [encoder(encoder.represent(one)) for one in (low, high)]
    assert (features[0] - features[1]).abs().max() > 1e-2


def test_windows_and_filters_are_recomputed_and_not_saved():
    names = LogMelEncoder("audio", sample_rate_hz=8000).state_dict()
    assert "window" not in names and "filters" not in names
    assert {"normaliser.mean", "normaliser.std"} <= set(names)


def test_features_without_hidden_layers_are_passed_on_as_they_are():
    encoder = FeatureEncoder("x", num_inputs=3)
    x = torch.randn(4, 3)
    assert encoder.num_features == 3
    assert torch.equal(encoder(encoder.represent(x)), x)
    assert list(encoder.parameters()) == []


def test_a_network_without_width_is_refused_by_its_key():
    with pytest.raises(ConfigError, match=r"student\.encoders\.video\.channels is \[\]"):
        FrameEncoder("video", channels=[])
    with pytest.raises(ConfigError, match=r"student\.encoders\.x\.num_inputs is \[0\]"):
        FeatureEncoder("x", num_inputs=0)
