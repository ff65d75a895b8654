"""Signatures: small hashes of decoded content by which copies of a sample are found."""

# T frames, H height, W width, K frames hashed, N sound samples, F windows, B bands, S words,
# D features.

import hashlib
from functools import lru_cache

import numpy as np
import scipy.fft

from mke_ray.schema import AudioSpec, DepthSpec, FeatureSpec, MaskSpec, ModalitySpec, TokenSpec

DIGEST_BYTES = 8
NUM_FRAMES = 8
WORD_TYPES = {
    "video": "<u8",
    "image": "<u8",
    "audio": "<u4",
    "features": None,
    "tokens": None,
    "depth": None,
    "mask": None,
}

_GREY = np.array([0.299, 0.587, 0.114], np.float32)
# A picture whose brightness deviates less than this (of 255) says nothing.
_FLAT = 3.0
_NUM_FREQUENCIES = 8

_WINDOW_S = 0.128
HOP_S = 0.064
_NUM_SMOOTHED = 4
_MAX_SOUND_S = 8.0
_NUM_BANDS = 33
_BAND_HZ = (300.0, 2000.0)
# Sound whose mean square is below -60 dB of full scale is silence.
_SILENCE = 1e-6
# A steady hum changes less than this share of its energy from window to window.
_STEADY = 0.03
_MIN_WORDS = 8

_MIN_FEATURES = 8


def signature(array: np.ndarray, spec: ModalitySpec) -> bytes:
    """Return the signature of one modality of one sample.

    It begins with a digest of the exact content, 8 bytes; for pictures and sound, hashes follow
    that change little when a file is encoded again. Of a video 8 frames count, of sound the first
    8 seconds. Signatures of one specification are equally long. Depth, features and tokens are told
    by their exact content alone, and a true class map, which is a label, has none.

    Args:
        array: As it was decoded, before it is encoded for the store.
        spec: Its specification.

    Returns:
        ``b""`` where there is nothing to tell samples apart by: pictures of one colour, silence,
        a steady hum, a row of features or tokens, or a depth map, with few values of its own. It is
        like no other.
    """
    if isinstance(spec, MaskSpec):
        return b""
    if isinstance(spec, FeatureSpec | TokenSpec | DepthSpec):
        return _digest(array) if _has_values(array.ravel()) else b""
    if isinstance(spec, AudioSpec):
        kept = array[: round(_MAX_SOUND_S * spec.sample_rate_hz)]
        words = sound_words(kept, spec.sample_rate_hz)
        has_content = int(np.count_nonzero(words)) >= _MIN_WORDS
    else:
        kept = _some_frames(array if array.ndim == 4 else array[None])
        words = frame_words(kept)
        has_content = 2 * int(np.count_nonzero(words)) > len(words)
    return _digest(kept) + words.tobytes() if has_content else b""


def frame_words(frames_KHWC: np.ndarray) -> np.ndarray:
    """Return the perceptual hash of every frame, uint64 [K]; 0 for a flat one.

    The bits say which of the 64 lowest frequencies of the cosine transform, without the constant
    ones, are above their median.

    Source:
        Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, 3.2.1.
    """
    grey_KHW = frames_KHWC @ _GREY
    rows_FH, columns_FW = _cosines(grey_KHW.shape[1]), _cosines(grey_KHW.shape[2])
    low_KM = (rows_FH @ grey_KHW @ columns_FW.T).reshape(len(grey_KHW), -1)
    bits_KM = low_KM > np.median(low_KM, axis=1, keepdims=True)
    words_K = np.packbits(bits_KM, axis=1).view("<u8")[:, 0]
    return np.where(grey_KHW.std(axis=(1, 2)) < _FLAT, np.uint64(0), words_K).astype("<u8")


def sound_words(sound_N: np.ndarray, rate_hz: int) -> np.ndarray:
    """Return one hash per 64 ms of sound, uint32 [S]; 0 where nothing happens.

    The bits say whether the difference between neighbouring bands of 300 to 2000 Hz grows.

    Source:
        Haitsma, Kalker, A Highly Robust Audio Fingerprinting System, ISMIR 2002, section 4.2.
    """
    window_N, edges = _bands(rate_hz)
    hop, num = round(HOP_S * rate_hz), len(window_N)
    if len(sound_N) < num + (_NUM_SMOOTHED + 1) * hop:
        return np.zeros(0, "<u4")
    windows_FN = np.lib.stride_tricks.sliding_window_view(sound_N, num)[::hop]
    spectrum = np.asarray(scipy.fft.rfft(windows_FN * window_N, axis=1))
    power = np.square(np.abs(spectrum))
    energy_FB = np.add.reduceat(power, edges, axis=1)[:, :_NUM_BANDS]
    energy_FB = np.lib.stride_tricks.sliding_window_view(energy_FB, _NUM_SMOOTHED, axis=0).mean(-1)
    slope_FM = energy_FB[:, :-1] - energy_FB[:, 1:]
    growth_SM = slope_FM[1:] - slope_FM[:-1]
    words_S = np.packbits(growth_SM > 0, axis=1).view("<u4")[:, 0]
    total_S = energy_FB[1:].sum(axis=1)
    silence = _SILENCE * num * float(np.square(window_N).sum()) / 2
    is_heard_S = total_S > silence
    is_heard_S &= np.abs(growth_SM).sum(axis=1) > _STEADY * total_S
    return np.where(is_heard_S, np.maximum(words_S, 1), 0).astype("<u4")


def _some_frames(frames_THWC: np.ndarray) -> np.ndarray:
    """Return a few frames at uniform distances [K, H, W, 3]."""
    num_kept = min(len(frames_THWC), NUM_FRAMES)
    return frames_THWC[((np.arange(num_kept) + 0.5) * len(frames_THWC) / num_kept).astype(np.int64)]


@lru_cache(maxsize=16)
def _cosines(num: int) -> np.ndarray:
    """Return the lowest cosines without the constant one [F, num]."""
    frequency_F = np.arange(1, _NUM_FREQUENCIES + 1)
    return np.cos(np.pi / num * np.outer(frequency_F, np.arange(num) + 0.5)).astype(np.float32)


@lru_cache(maxsize=16)
def _bands(rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the window, and the first bin of every band and of what lies above [B + 1]."""
    num = round(_WINDOW_S * rate_hz)
    high_hz = min(_BAND_HZ[1], 0.45 * rate_hz)
    edges_hz = np.geomspace(_BAND_HZ[0], high_hz, _NUM_BANDS + 1)
    return np.hanning(num).astype(np.float32), np.round(edges_hz * num / rate_hz).astype(np.int64)


def _digest(array: np.ndarray) -> bytes:
    """Return a digest of exact content."""
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=DIGEST_BYTES).digest()


def _has_values(array_D: np.ndarray) -> bool:
    """Return whether a row has enough values besides its most frequent one to be known by."""
    _, times = np.unique(array_D, return_counts=True)
    return len(array_D) - int(times.max(initial=0)) >= _MIN_FEATURES
