"""A training view of sound: shifted, louder or softer, with noise, times and pitches masked."""

# B samples, N sound samples, F frequencies, T windows of the spectrogram.

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mke_ray.data.views import AudioView
from mke_ray.errors import ConfigError
from mke_ray.randomness import gaussian, uniform

_WINDOW = 512
_HOP = _WINDOW // 4
_SILENCE = 1e-8  # mean square below which there is nothing to compare noise with


@dataclass(frozen=True, slots=True)
class SoundView:
    """A random crop of the sound, changed as the sample's key says; each change is off by default.

    Masks are cut out of the spectrogram and the sound is made from what is left, so that any
    encoder can read it: there is silence where the published masks have the mean.

    Args:
        num_samples: Length of the view in sound samples.
        gain_db: Loudness changes by at most so many decibels.
        snr_db: Least and largest ratio of signal to added white noise in decibels; empty adds none.
        shift: The sound moves by at most this share of the view, into silence.
        time_masks: Spans of time that are cut out.
        time_share: Longest of these, as a share of the view.
        frequency_masks: Bands of frequency that are cut out.
        frequency_share: Widest of these, as a share of all frequencies.

    Raises:
        ConfigError: A number makes no sense.

    Source:
        Masks: Park et al., SpecAugment, Interspeech 2019, section 2, with the adaptive size of
        SpecAugment on Large Scale Datasets, ICASSP 2020. Noise and shifts: Salamon and Bello, Deep
        Convolutional Neural Networks and Data Augmentation for Environmental Sound Classification,
        IEEE Signal Processing Letters 24, 2017.
    """

    num_samples: int
    gain_db: float = 0.0
    snr_db: Sequence[float] = ()
    shift: float = 0.0
    time_masks: int = 0
    time_share: float = 0.1
    frequency_masks: int = 0
    frequency_share: float = 0.2

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.gain_db < 0 or min(self.time_masks, self.frequency_masks) < 0:
            raise ConfigError(
                f"gain_db={self.gain_db}, time_masks={self.time_masks}, "
                f"frequency_masks={self.frequency_masks}; give numbers from 0"
            )
        for key in ("shift", "time_share", "frequency_share"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"{key}={getattr(self, key)}; give a share from 0 to 1")
        if self.snr_db and (len(self.snr_db) != 2 or self.snr_db[0] > self.snr_db[1]):
            raise ConfigError(f"snr_db={list(self.snr_db)}; give the least and the largest, or []")

    def __call__(self, x_BN: Tensor, key_B: Tensor) -> Tensor:
        """Return float32 [B, num_samples] in [-1, 1] of stored sound [B, N].

        Args:
            x_BN: Sound as it is stored.
            key_B: Keys [B]; the same key draws the same view.

        Raises:
            ConfigError: The view is longer than what is stored.
        """
        x_BN = AudioView(self.num_samples)(x_BN, key_B)
        draw_B3 = uniform(key_B + 1, 3)
        if self.shift:
            x_BN = _shifted(x_BN, (2.0 * draw_B3[:, 0] - 1.0) * self.shift)
        if self.time_masks or self.frequency_masks:
            x_BN = self._masked(x_BN, key_B + 2)
        if self.snr_db:
            x_BN = x_BN + self._noise(x_BN, draw_B3[:, 1], key_B + 3)
        if self.gain_db:
            gain_B = 10.0 ** ((2.0 * draw_B3[:, 2] - 1.0) * self.gain_db / 20.0)
            x_BN = x_BN * gain_B[:, None]
        return x_BN.clamp(-1.0, 1.0)

    def _masked(self, x_BN: Tensor, key_B: Tensor) -> Tensor:
        """Return sound without some spans of time and bands of frequency."""
        window_N = torch.hann_window(_WINDOW, device=x_BN.device)
        settings = {"n_fft": _WINDOW, "hop_length": _HOP, "window": window_N}
        spectrum_BFT = torch.stft(x_BN, **settings, pad_mode="constant", return_complex=True)
        num_masks = self.time_masks + self.frequency_masks
        draw_BM2 = uniform(key_B, 2 * num_masks).reshape(-1, num_masks, 2)
        of_time, of_frequency = draw_BM2.split([self.time_masks, self.frequency_masks], dim=1)
        kept_BT = _outside(spectrum_BFT.shape[2], of_time, self.time_share)
        kept_BF = _outside(spectrum_BFT.shape[1], of_frequency, self.frequency_share)
        kept_BFT = spectrum_BFT * (kept_BF[:, :, None] & kept_BT[:, None, :])
        return torch.istft(kept_BFT, **settings, length=x_BN.shape[1])

    def _noise(self, x_BN: Tensor, draw_B: Tensor, key_B: Tensor) -> Tensor:
        """Return white noise [B, N] at a drawn distance below the sound."""
        snr_B = self.snr_db[0] + (self.snr_db[1] - self.snr_db[0]) * draw_B
        power_B = x_BN.square().mean(dim=1)
        power_B = torch.where(power_B > _SILENCE, power_B, torch.zeros_like(power_B))
        scale_B = (power_B * 10.0 ** (-snr_B / 10.0)).sqrt()
        return gaussian(key_B, x_BN.shape[1]) * scale_B[:, None]


def _shifted(x_BN: Tensor, share_B: Tensor) -> Tensor:
    """Return sound moved by a share of its length; what comes in is silent."""
    length = x_BN.shape[1]
    steps_B = (share_B * length).round().to(torch.int64)
    from_BN = torch.arange(length, device=x_BN.device) - steps_B[:, None]
    is_inside_BN = (from_BN >= 0) & (from_BN < length)
    return x_BN.gather(1, from_BN.clamp(0, length - 1)) * is_inside_BN


def _outside(size: int, draw_BM2: Tensor, most_share: float) -> Tensor:
    """Return which places are in none of the drawn spans, bool [B, size].

    Args:
        size: Number of places.
        draw_BM2: Draws of the length and of the begin of each span [B, M, 2].
        most_share: Longest span, as a share of the places.
    """
    length_BM = (draw_BM2[:, :, 0] * (most_share * size + 1)).floor().clamp(max=size)
    begin_BM = (draw_BM2[:, :, 1] * (size - length_BM + 1)).floor()
    place_N = torch.arange(size, device=draw_BM2.device)
    after_BMN = place_N >= begin_BM[:, :, None]
    is_inside_BMN = after_BMN & (place_N < (begin_BM + length_BM)[:, :, None])
    return ~is_inside_BMN.any(dim=1)
