"""What a network of transformers wants of sound, computed for a batch on the device."""

# B samples, N sound samples, T frames in time, F bands.

import importlib
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.picture_input import DEVICE, OWN, PREPARATIONS

_WINDOW, _HOP, _FFT = 400, 160, 512  # 25 ms and 10 ms at 16 kHz, as Kaldi has them
_PREEMPHASIS = 0.97
_FLOOR = 1.192092955078125e-07
_MOST_APART = 2e-3  # of a log-mel that was standardised

Made = dict[str, Tensor]


class SoundInput:
    """Sound as stored to the input of a network, as its own feature extractor makes it.

    Waveforms (Wav2Vec2, HuBERT, WavLM) and the filter banks of AST are computed on the device for
    the whole batch; every other extractor is called itself. The first sample is given to the
    extractor too, and what it makes of it must be the same but for rounding.

    Args:
        extractor: A feature extractor of transformers.
        preparation: ``device``, or ``own`` for the extractor itself, on the CPU.

    Raises:
        ConfigError: The preparation is unknown.
    """

    def __init__(self, extractor: Any, preparation: str = DEVICE) -> None:
        if preparation not in PREPARATIONS:
            raise ConfigError(f"preparation={preparation}; choose one of {list(PREPARATIONS)}")
        self._extractor = extractor
        self._is_proven = False
        kinds = {"ASTFeatureExtractor": self._banks, "Wav2Vec2FeatureExtractor": self._waves}
        self._made = kinds.get(type(extractor).__name__) if preparation == DEVICE else None

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the sound."""
        return int(self._extractor.sampling_rate)

    def __call__(self, x_BN: Tensor) -> Made:
        """Return the named inputs of the network for sound [B, N] in [-1, 1], on its device.

        Raises:
            ConfigError: The extractor does something else than its settings say.
        """
        if self._made is None or not len(x_BN):
            return self.own(x_BN)
        found = self._made(x_BN)
        if not self._is_proven:
            self._prove(found, self.own(x_BN[:1])["input_values"])
        return {"input_values": found}

    def own(self, x_BN: Tensor) -> Made:
        """Return what the extractor itself makes of the sound."""
        sound = list(x_BN.cpu().numpy().astype(np.float32))
        made = self._extractor(sound, sampling_rate=self.sample_rate_hz, return_tensors="np")
        return {
            name: torch.from_numpy(np.ascontiguousarray(one)).to(x_BN.device)
            for name, one in made.items()
        }

    def _waves(self, x_BN: Tensor) -> Tensor:
        """Return waveforms, standardised where the extractor does so."""
        return standardised_waves(x_BN) if self._extractor.do_normalize else x_BN

    def _banks(self, x_BN: Tensor) -> Tensor:
        """Return filter banks [B, T, F], standardised where the extractor does so."""
        extractor = self._extractor
        banks_BTF = filter_banks(
            x_BN,
            sample_rate_hz=extractor.sampling_rate,
            num_mel_bins=extractor.num_mel_bins,
            max_length=extractor.max_length,
        )
        if extractor.do_normalize:
            banks_BTF = (banks_BTF - extractor.mean) / (2 * extractor.std)
        return banks_BTF

    def _prove(self, found: Tensor, wanted: Tensor) -> None:
        """Compare what was made of the first sample with what the extractor makes of it."""
        one = found[:1].float()
        if one.shape != wanted.shape or bool((one - wanted).abs().max() > _MOST_APART):
            raise ConfigError(
                f"{type(self._extractor).__name__} makes {tuple(wanted.shape)} of a sample, and "
                f"its settings say {tuple(one.shape)} with other values; set preparation={OWN}, "
                "which uses the extractor itself"
            )
        self._is_proven = True


def standardised_waves(x_BN: Tensor) -> Tensor:
    """Return waveforms of mean 0 and variance 1, as Wav2Vec2 wants them."""
    mean_B1 = x_BN.mean(dim=1, keepdim=True)
    variance_B1 = x_BN.var(dim=1, keepdim=True, unbiased=False)
    return (x_BN - mean_B1) / (variance_B1 + 1e-7).sqrt()


def filter_banks(
    x_BN: Tensor, *, sample_rate_hz: int, num_mel_bins: int, max_length: int
) -> Tensor:
    """Return log-mel filter banks [B, T, F] of Kaldi's kind, padded with zeros or cut to a length.

    Args:
        x_BN: Sound in [-1, 1].
        sample_rate_hz: Its sample rate; windows are of 400 samples, as at 16 kHz.
        num_mel_bins: Bands F.
        max_length: Frames T.
    """
    frames_BTN = x_BN.to(torch.float64).unfold(1, _WINDOW, _HOP)
    frames_BTN = frames_BTN - frames_BTN.mean(dim=2, keepdim=True)
    before_BTN = torch.cat([frames_BTN[..., :1], frames_BTN[..., :-1]], dim=2)
    window = torch.hann_window(_WINDOW, periodic=False, dtype=torch.float64)
    emphasised = (frames_BTN - _PREEMPHASIS * before_BTN) * window.to(x_BN.device)
    power_BTF = torch.fft.rfft(emphasised, n=_FFT).abs().square()
    filters = torch.from_numpy(_kaldi_filters(sample_rate_hz, num_mel_bins)).to(power_BTF)
    banks_BTF = (power_BTF @ filters).clamp(min=_FLOOR).log().to(torch.float32)
    lacking = max(max_length - banks_BTF.shape[1], 0)
    return nn.functional.pad(banks_BTF, (0, 0, 0, lacking))[:, :max_length]


@lru_cache
def _kaldi_filters(sample_rate_hz: int, num_mel_bins: int) -> np.ndarray:
    """Return mel filters [257, F]."""
    filters = importlib.import_module("transformers.audio_utils").mel_filter_bank(
        num_frequency_bins=_FFT // 2 + 1,
        num_mel_filters=num_mel_bins,
        min_frequency=20,
        max_frequency=sample_rate_hz // 2,
        sampling_rate=sample_rate_hz,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return np.asarray(filters)
