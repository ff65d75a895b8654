"""Sound of any rate comes out at the stored rate: exact in length, place and passband."""

import io
from math import gcd

import numpy as np
import pytest
from scipy import signal
from scipy.io import wavfile

from mke_ray.data.media import decode_clip
from mke_ray.schema import AudioSpec

RATES_HZ = (8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)
STORED_HZ = 16_000

# Up to here, as a share of the lower of both Nyquist frequencies, nothing may change.
PASSBAND = 0.8


def decode(sound_N, rate_hz, *, seconds, start_s=None, end_s=None):
    """Return what is stored of a sound, and how much of it the file has."""
    file = io.BytesIO()
    wavfile.write(file, rate_hz, sound_N.astype(np.float32))
    spec = {"audio": AudioSpec(STORED_HZ, seconds)}
    decoded = decode_clip(file.getvalue(), spec, start_s=start_s, end_s=end_s)
    return decoded.arrays["audio"], decoded.num_valid["audio"]


def sweep(rate_hz, seconds, *, highest_hz):
    time_N = np.arange(round(rate_hz * seconds)) / rate_hz
    return 0.5 * signal.chirp(time_N, 20.0, seconds, highest_hz, phi=30)


def passband_hz(rate_hz):
    return PASSBAND * min(rate_hz, STORED_HZ) / 2


def resample_poly(sound_N, rate_hz):
    """Resample by scipy, with a filter so long that its own error does not count."""
    up, down = STORED_HZ // gcd(STORED_HZ, rate_hz), rate_hz // gcd(STORED_HZ, rate_hz)
    most = max(up, down)
    if most == 1:
        return sound_N
    taps = signal.firwin(2 * 64 * most + 1, 1 / most, window=("kaiser", 12.0))
    return signal.resample_poly(sound_N, up, down, window=taps)


def level_db(sound_N, reference_N):
    return 20 * np.log10(np.sqrt(np.mean(sound_N**2) / np.mean(reference_N**2)) + 1e-12)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("seconds", [0.25, 1.0])
def test_the_length_is_exact_and_the_padding_is_declared_and_silent(rate_hz, seconds):
    sound_N, num_valid = decode(np.full(int(rate_hz * seconds), 0.5), rate_hz, seconds=1.5)
    assert len(sound_N) == 24_000
    length = int(rate_hz * seconds) * STORED_HZ / rate_hz
    assert length <= num_valid < length + 1
    assert not sound_N[num_valid:].any()
    assert np.abs(sound_N[100 : num_valid - 100] - 0.5).max() < 1e-4


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_sound_longer_than_what_is_stored_is_cut_without_padding(rate_hz):
    sound_N, num_valid = decode(np.full(2 * rate_hz, 0.5), rate_hz, seconds=1.0)
    assert len(sound_N) == num_valid == STORED_HZ
    assert np.abs(sound_N[100:] - 0.5).max() < 1e-4


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_an_impulse_stays_where_it_is(rate_hz):
    for time_s in (0.0, 0.1, 0.5, 1.0, 1.9):
        place = round(time_s * rate_hz)
        impulse_N = np.zeros(2 * rate_hz)
        impulse_N[place] = 0.8
        sound_N, _ = decode(impulse_N, rate_hz, seconds=2.0)
        assert abs(np.abs(sound_N).argmax() - place * STORED_HZ / rate_hz) < 1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_an_impulse_stays_where_it_is_in_a_span(rate_hz):
    impulse_N = np.zeros(4 * rate_hz)
    impulse_N[3 * rate_hz] = 0.8
    for start_s in (1.5, 2.3, 2.999):
        sound_N, _ = decode(impulse_N, rate_hz, seconds=2.0, start_s=start_s, end_s=4.0)
        assert abs(np.abs(sound_N).argmax() - (3.0 - start_s) * STORED_HZ) < 1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_sweep_through_the_passband_is_that_of_scipy_and_of_mathematics(rate_hz):
    highest_hz = passband_hz(rate_hz)
    made_N = sweep(rate_hz, 2.0, highest_hz=highest_hz)
    sound_N, _ = decode(made_N, rate_hz, seconds=2.0)
    inner = slice(1600, -1600)  # at its ends a sweep has all frequencies
    by_scipy_N = resample_poly(made_N, rate_hz)[: len(sound_N)]
    exact_N = sweep(STORED_HZ, 2.0, highest_hz=highest_hz)
    for expected_N in (by_scipy_N, exact_N):
        error_N = sound_N[inner] - expected_N[inner]
        assert level_db(error_N, expected_N[inner]) < -60


@pytest.mark.parametrize("rate_hz", [one for one in RATES_HZ if one > STORED_HZ])
def test_what_is_above_the_stored_band_does_not_come_back_below_it(rate_hz):
    time_N = np.arange(rate_hz) / rate_hz
    for tone_hz in (1.25 * STORED_HZ / 2, 0.45 * rate_hz):
        tone_N = 0.5 * np.sin(2 * np.pi * tone_hz * time_N)
        sound_N, _ = decode(tone_N, rate_hz, seconds=1.0)
        assert level_db(sound_N[1600:-1600], tone_N) < -60
