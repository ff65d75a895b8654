"""The log-mel spectrograms of whole recordings, as rows of features."""

# N recordings, S sound samples, T windows, F bands, K bins.

from collections.abc import Sequence

import numpy as np

RATE_HZ = 8000
SECONDS = 1.0

_WINDOW, _HOP = 512, 256
_NUM_BANDS = 28
_LOW_HZ = 60.0
_FLOOR = 1e-6


def log_mels(sounds: Sequence[np.ndarray]) -> np.ndarray:
    """Return the log-mel spectrogram of the first second of each recording, float32 [N, T * F].

    Args:
        sounds: Recordings at 8 kHz, float32 [S] each; shorter ones are followed by silence.
    """
    num = round(RATE_HZ * SECONDS)
    padded_NS = np.zeros((len(sounds), num + _WINDOW), np.float32)
    for row_S, sound_S in zip(padded_NS, sounds, strict=True):
        kept_S = sound_S[:num]
        row_S[_WINDOW // 2 : _WINDOW // 2 + len(kept_S)] = kept_S
    windows_NTS = np.lib.stride_tricks.sliding_window_view(padded_NS, _WINDOW, axis=1)[:, ::_HOP]
    filters_KF = _mel_filters()
    mels = []
    for windows_TS in windows_NTS:
        spectrum_TK = np.fft.rfft(windows_TS * np.hanning(_WINDOW))
        mels.append((np.abs(spectrum_TK) ** 2 / _WINDOW) @ filters_KF)
    return np.log(np.stack(mels) + _FLOOR).reshape(len(sounds), -1).astype(np.float32)


def _mel_filters() -> np.ndarray:
    """Return triangles on the mel scale whose weights sum to 1 [K, F]."""
    low_mel, high_mel = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (_LOW_HZ, RATE_HZ / 2))
    corner_mels = np.linspace(low_mel, high_mel, _NUM_BANDS + 2)
    corners_hz = 700.0 * (10.0 ** (corner_mels / 2595.0) - 1.0)
    bins_hz = np.fft.rfftfreq(_WINDOW, 1.0 / RATE_HZ)[:, None]
    low, middle, high = corners_hz[:-2], corners_hz[1:-1], corners_hz[2:]
    rising, falling = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
    filters_KF = np.clip(np.minimum(rising, falling), 0.0, None)
    return filters_KF / np.maximum(filters_KF.sum(axis=0), 1e-9)
