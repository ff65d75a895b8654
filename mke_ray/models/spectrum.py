"""Mel filters: triangles, evenly spaced on a mel scale, that sum a power spectrum into bands."""

# F bands, K bins of the spectrum.

import math

import torch
from torch import Tensor

from mke_ray.errors import ConfigError

MEL_SCALES = ("htk", "slaney")
FILTER_NORMS = ("mean", "slaney", "none")

_SLANEY_STEP_HZ = 200.0 / 3.0
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_LOG_STEP = math.log(6.4) / 27.0


def mel_filters(
    sample_rate_hz: int,
    *,
    n_fft: int,
    num_mels: int,
    low_hz: float = 60.0,
    high_hz: float | None = None,
    mel_scale: str = "htk",
    filter_norm: str = "mean",
) -> Tensor:
    """Return triangular filters from a power spectrum to mel bands.

    A triangle narrower than a step of the spectrum misses every bin, so that low bands are empty.
    With ``filter_norm=mean`` each is widened to reach at least one bin to either side of its
    centre, and no band is empty; the other two are the filters of librosa, where they may be.

    Args:
        sample_rate_hz: Sample rate.
        n_fft: Window of the Fourier transform in samples.
        num_mels: Number of bands F.
        low_hz: Where the first band begins.
        high_hz: Where the last band ends; None is half of the sample rate.
        mel_scale: ``htk`` or ``slaney``, which is linear below 1 kHz.
        filter_norm: ``mean`` (each row sums to 1, so that a band is a mean power), ``slaney``
            (each triangle has area 1 over hertz) or ``none`` (each triangle has height 1).

    Returns:
        float32 [F, n_fft // 2 + 1].

    Raises:
        ConfigError: There are more bands than bins, no room between the ends, or an unknown name.

    Source:
        O'Shaughnessy, Speech Communication: Human and Machine, 1987, p. 150 (the HTK mel scale);
        Slaney, Auditory Toolbox, Technical Report 1998-010, Interval Research (the other one).
    """
    top_hz = sample_rate_hz / 2 if high_hz is None else high_hz
    _check_choice("mel_scale", mel_scale, MEL_SCALES)
    _check_choice("filter_norm", filter_norm, FILTER_NORMS)
    if not 1 <= num_mels < n_fft // 2 + 1:
        raise ConfigError(f"num_mels={num_mels} needs to be from 1 to n_fft // 2 = {n_fft // 2}")
    if not 0 <= low_hz < top_hz <= sample_rate_hz / 2:
        raise ConfigError(
            f"low_hz={low_hz:g} and high_hz={top_hz:g} need to ascend between 0 and half of the "
            f"sample rate, {sample_rate_hz / 2:g}"
        )
    corner_hz = _corners_hz(low_hz, top_hz, num_mels=num_mels, mel_scale=mel_scale)
    bin_hz = torch.linspace(0.0, sample_rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64)
    if filter_norm == "mean":
        filters_FK = _triangles(bin_hz, corner_hz, narrowest_hz=sample_rate_hz / n_fft)
        filters_FK = filters_FK / filters_FK.sum(dim=1, keepdim=True)
    else:
        filters_FK = _triangles(bin_hz, corner_hz)
    if filter_norm == "slaney":
        filters_FK = filters_FK * (2.0 / (corner_hz[2:] - corner_hz[:-2]))[:, None]
    return filters_FK.to(torch.float32)


def _corners_hz(low_hz: float, high_hz: float, *, num_mels: int, mel_scale: str) -> Tensor:
    """Return where the triangles begin, peak and end: F + 2 frequencies, even in mel."""
    ends_hz = torch.tensor([low_hz, high_hz], dtype=torch.float64)
    low_mel, high_mel = (_htk_mel(ends_hz) if mel_scale == "htk" else _slaney_mel(ends_hz)).tolist()
    corner_mel = torch.linspace(low_mel, high_mel, num_mels + 2, dtype=torch.float64)
    if mel_scale == "htk":
        return 700.0 * (10.0 ** (corner_mel / 2595.0) - 1.0)
    break_mel = _SLANEY_BREAK_HZ / _SLANEY_STEP_HZ
    above_hz = _SLANEY_BREAK_HZ * torch.exp(_SLANEY_LOG_STEP * (corner_mel - break_mel))
    return torch.where(corner_mel < break_mel, _SLANEY_STEP_HZ * corner_mel, above_hz)


def _triangles(bin_hz: Tensor, corner_hz: Tensor, *, narrowest_hz: float = 0.0) -> Tensor:
    """Return triangles of height 1 [F, K], each side at least so wide."""
    rise_hz = (corner_hz[1:-1] - corner_hz[:-2]).clamp(min=narrowest_hz)[:, None]
    fall_hz = (corner_hz[2:] - corner_hz[1:-1]).clamp(min=narrowest_hz)[:, None]
    offset_hz = bin_hz[None] - corner_hz[1:-1, None]
    triangles = 1.0 - torch.where(offset_hz < 0, -offset_hz / rise_hz, offset_hz / fall_hz)
    return triangles.clamp(min=0.0)


def _htk_mel(frequency_hz: Tensor) -> Tensor:
    return 2595.0 * torch.log10(1.0 + frequency_hz / 700.0)


def _slaney_mel(frequency_hz: Tensor) -> Tensor:
    above = torch.log(frequency_hz.clamp(min=_SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ)
    linear = frequency_hz.clamp(max=_SLANEY_BREAK_HZ) / _SLANEY_STEP_HZ
    return linear + above / _SLANEY_LOG_STEP


def _check_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{key}={value!r}; choose one of {list(known)}")
