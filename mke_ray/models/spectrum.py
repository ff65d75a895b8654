"""Mel filters: triangles, evenly spaced on the mel scale, that sum a power spectrum into bands."""

import torch
from torch import Tensor

from mke_ray.errors import ConfigError


def mel_filters(sample_rate_hz: int, *, n_fft: int, num_mels: int, low_hz: float = 60.0) -> Tensor:
    """Return triangular filters from a power spectrum to mel bands.

    A triangle narrower than a step of the spectrum would miss every bin, so that low bands would
    be empty: each is widened to reach at least one bin to either side of its centre.

    Args:
        sample_rate_hz: Sample rate; the last band ends at half of it.
        n_fft: Window of the Fourier transform in samples.
        num_mels: Number of bands F.
        low_hz: Where the first band begins.

    Returns:
        float32 [F, n_fft // 2 + 1]; each row sums to 1, so that a band is a mean power.

    Raises:
        ConfigError: There are more bands than bins of the spectrum.

    Source:
        O'Shaughnessy, Speech Communication: Human and Machine, 1987, p. 150 (the HTK mel scale).
    """
    num_bins = n_fft // 2 + 1
    if not 1 <= num_mels < num_bins:
        raise ConfigError(f"num_mels={num_mels} needs to be from 1 to n_fft // 2 = {n_fft // 2}")
    bin_hz = torch.linspace(0.0, sample_rate_hz / 2, num_bins, dtype=torch.float64)
    ends_mel = _mel(torch.tensor([low_hz, sample_rate_hz / 2], dtype=torch.float64))
    corner_mel = torch.linspace(
        float(ends_mel[0]), float(ends_mel[1]), num_mels + 2, dtype=torch.float64
    )
    corner_hz = 700.0 * (10.0 ** (corner_mel / 2595.0) - 1.0)
    step_hz = sample_rate_hz / n_fft
    centre_hz = corner_hz[1:-1, None]
    rise_hz = (corner_hz[1:-1] - corner_hz[:-2]).clamp(min=step_hz)[:, None]
    fall_hz = (corner_hz[2:] - corner_hz[1:-1]).clamp(min=step_hz)[:, None]
    offset_hz = bin_hz[None] - centre_hz
    triangles = 1.0 - torch.where(offset_hz < 0, -offset_hz / rise_hz, offset_hz / fall_hz)
    triangles = triangles.clamp(min=0.0)
    return (triangles / triangles.sum(dim=1, keepdim=True)).to(torch.float32)


def _mel(frequency_hz: Tensor) -> Tensor:
    """Return the mel of a frequency."""
    return 2595.0 * torch.log10(1.0 + frequency_hz / 700.0)
