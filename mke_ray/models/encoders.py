"""Encoders: one network per modality, from the array as it is stored to a vector of features."""

# B samples, T frames, H height, W width, N sound samples, F bands, D features, K channels, X any.

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.normaliser import Normaliser
from mke_ray.models.spectrum import mel_filters

POWER_FLOOR = 1e-6


@runtime_checkable
class Encoder(Protocol):
    """What a student needs of an encoder, which is also a ``torch.nn.Module``.

    Attributes:
        modality: Name of the modality it reads.
        num_features: Features that it returns, D.
        needs: What the stored array must hold, for example ``{"kind": "audio", ...}``.
        normaliser: Statistics of the representation, saved with the weights.
    """

    modality: str
    num_features: int
    needs: dict[str, Any]
    normaliser: Normaliser

    def raw(self, x_BX: Tensor) -> Tensor:
        """Return the float representation of a stored array, before normalisation."""
        ...

    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the normalised representation, which is what noise is added to; no gradient."""
        ...

    def __call__(self, x_BX: Tensor) -> Tensor:
        """Return features [B, D] of a representation."""
        ...


class FrameEncoder(nn.Module):
    """A few frames of a video: a small convolutional net per frame, then pooling over time.

    Pooling is over all positions and all frames, so any number and size of frames will do.

    Args:
        modality: Name of the modality.
        channels: Channels of each convolution; each halves height and width.
        num_features: Features D.
        normalise: Whether colour channels are standardised by statistics of the training set.
    """

    def __init__(
        self,
        modality: str,
        *,
        channels: Sequence[int] = (16, 32, 64),
        num_features: int = 64,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.modality = modality
        self.num_features = num_features
        self.needs: dict[str, Any] = {"kind": "video"}
        self.normaliser = Normaliser(3, axis=2, enabled=normalise)
        self.convolutions, self.project = _picture_layers(
            modality, channels, num_features, num_pools=4
        )

    def raw(self, x_BTHW3: Tensor) -> Tensor:
        """Return [B, T, 3, H, W] in [0, 1] of uint8 frames [B, T, H, W, 3]."""
        return x_BTHW3.permute(0, 1, 4, 2, 3).to(torch.float32) / 255.0

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the frames standardised by channel."""
        return self.normaliser(self.raw(x_BX))

    def forward(self, x_BT3HW: Tensor) -> Tensor:
        """Return features [B, D] of represented frames [B, T, 3, H, W]."""
        num_samples, num_frames = x_BT3HW.shape[:2]
        pooled = _pooled_maps(self.convolutions, x_BT3HW.flatten(0, 1))
        pooled_BTK = pooled.reshape(num_samples, num_frames, -1)
        return self.project(torch.cat([pooled_BTK.mean(dim=1), pooled_BTK.amax(dim=1)], dim=1))


class ImageEncoder(nn.Module):
    """A picture: the small convolutional net of the frames, pooled over all positions.

    Args:
        modality: Name of the modality.
        channels: Channels of each convolution; each halves height and width.
        num_features: Features D.
        normalise: Whether colour channels are standardised by statistics of the training set.
    """

    def __init__(
        self,
        modality: str,
        *,
        channels: Sequence[int] = (16, 32, 64),
        num_features: int = 64,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        self.modality = modality
        self.num_features = num_features
        self.needs: dict[str, Any] = {"kind": "image"}
        self.normaliser = Normaliser(3, axis=1, enabled=normalise)
        self.convolutions, self.project = _picture_layers(
            modality, channels, num_features, num_pools=2
        )

    def raw(self, x_BHW3: Tensor) -> Tensor:
        """Return [B, 3, H, W] in [0, 1] of uint8 pictures [B, H, W, 3]."""
        return x_BHW3.permute(0, 3, 1, 2).to(torch.float32) / 255.0

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the pictures standardised by channel."""
        return self.normaliser(self.raw(x_BX))

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Return features [B, D] of represented pictures [B, 3, H, W]."""
        return self.project(_pooled_maps(self.convolutions, x_B3HW))


class LogMelEncoder(nn.Module):
    """Mono sound: log-mel spectrogram, convolutions over time with the bands as channels, pooling.

    The bands are channels, so that pitch counts (telephone tones, notes, vowels); time is pooled,
    so that any duration will do.

    Args:
        modality: Name of the modality.
        sample_rate_hz: Sample rate of the stored sound.
        num_mels: Mel bands F.
        n_fft: Window of the Fourier transform in samples; it sets the resolution in frequency.
        hop: Step of the window in samples.
        low_hz: Where the first band begins.
        high_hz: Where the last band ends; None is half of the sample rate.
        mel_scale: ``htk`` or ``slaney``.
        filter_norm: ``mean``, ``slaney`` or ``none``, see ``mel_filters``.
        channels: Channels of each convolution over time; each steps by 2.
        num_features: Features D.
        normalise: Whether bands are standardised by statistics of the training set.
    """

    def __init__(  # noqa: PLR0913
        self,
        modality: str,
        *,
        sample_rate_hz: int,
        num_mels: int = 64,
        n_fft: int = 512,
        hop: int = 256,
        low_hz: float = 60.0,
        high_hz: float | None = None,
        mel_scale: str = "htk",
        filter_norm: str = "mean",
        channels: Sequence[int] = (64, 64),
        num_features: int = 64,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "num_features": [num_features], "hop": [hop]}
        _check_sizes(modality, sizes | {"sample_rate_hz": [sample_rate_hz]})
        self.modality = modality
        self.num_features = num_features
        self.needs: dict[str, Any] = {"kind": "audio", "sample_rate_hz": sample_rate_hz}
        self.n_fft = n_fft
        self.hop = hop
        filters = mel_filters(
            sample_rate_hz,
            n_fft=n_fft,
            num_mels=num_mels,
            low_hz=low_hz,
            high_hz=high_hz,
            mel_scale=mel_scale,
            filter_norm=filter_norm,
        )
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.normaliser = Normaliser(num_mels, axis=2, enabled=normalise)
        self.convolutions = _sound_convolutions(num_mels, channels)
        self.project = _project(2 * channels[-1], num_features)

    def raw(self, x_BN: Tensor) -> Tensor:
        """Return the log-mel spectrogram [B, 1, F, T] of sound [B, N] in [-1, 1]."""
        half = self.n_fft // 2
        x_BN = nn.functional.pad(x_BN.to(torch.float32), (half, half))
        windows_BTN = x_BN.unfold(1, self.n_fft, self.hop) * self.get_buffer("window")
        spectrum = torch.fft.rfft(windows_BTN)
        power = (spectrum.real.square() + spectrum.imag.square()) / self.n_fft
        mels_BTF = power @ self.get_buffer("filters").T
        return torch.log(mels_BTF + POWER_FLOOR).transpose(1, 2).unsqueeze(1)

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the log-mel spectrogram standardised by band."""
        return self.normaliser(self.raw(x_BX))

    def forward(self, x_B1FT: Tensor) -> Tensor:
        """Return features [B, D] of a represented spectrogram [B, 1, F, T]."""
        maps_BKT = self.convolutions(x_B1FT.squeeze(1))
        return self.project(torch.cat([maps_BKT.mean(dim=2), maps_BKT.amax(dim=2)], dim=1))


class FeatureEncoder(nn.Module):
    """A row of features: hidden layers with ReLU, or the features themselves.

    Args:
        modality: Name of the modality.
        num_inputs: Features stored per sample.
        hidden: Width of each hidden layer; none returns the normalised features.
        normalise: Whether columns are standardised by statistics of the training set.
    """

    def __init__(
        self,
        modality: str,
        *,
        num_inputs: int,
        hidden: Sequence[int] = (),
        normalise: bool = True,
    ) -> None:
        super().__init__()
        _check_sizes(modality, {"num_inputs": [num_inputs]})
        self.modality = modality
        self.num_features = hidden[-1] if hidden else num_inputs
        self.needs: dict[str, Any] = {"kind": "features", "num_features": num_inputs}
        self.normaliser = Normaliser(num_inputs, axis=1, enabled=normalise)
        layers: list[nn.Module] = []
        for width_in, width in pairwise([num_inputs, *hidden]):
            layers += [nn.Linear(width_in, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def raw(self, x_BD: Tensor) -> Tensor:
        """Return the features as float32 [B, D]."""
        return x_BD.to(torch.float32)

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the features standardised by column."""
        return self.normaliser(self.raw(x_BX))

    def forward(self, x_BD: Tensor) -> Tensor:
        """Return features [B, D] of represented features."""
        return self.layers(x_BD)


def _picture_layers(
    modality: str, channels: Sequence[int], num_features: int, *, num_pools: int
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the convolutions over one picture, the first over 5 pixels, and the layer after them.

    Args:
        modality: Name of the modality.
        channels: Channels of each convolution.
        num_features: Features D.
        num_pools: How many pooled values of each of the last channels the last layer sees.
    """
    _check_sizes(modality, {"channels": channels, "num_features": [num_features]})
    layers: list[nn.Module] = []
    for width_in, width in pairwise([3, *channels]):
        size = 3 if layers else 5
        layers += [nn.Conv2d(width_in, width, size, stride=2, padding=size // 2), nn.ReLU()]
    return nn.Sequential(*layers), _project(num_pools * channels[-1], num_features)


def _pooled_maps(convolutions: nn.Module, x_B3HW: Tensor) -> Tensor:
    """Return mean and maximum over all positions [B, 2 K] of the maps of some pictures."""
    pictures = x_B3HW.contiguous(memory_format=torch.channels_last)
    maps_BKX = convolutions(pictures).flatten(2)
    return torch.cat([maps_BKX.mean(dim=2), maps_BKX.amax(dim=2)], dim=1)


def _sound_convolutions(num_mels: int, channels: Sequence[int]) -> nn.Sequential:
    """Return the convolutions over time."""
    layers: list[nn.Module] = []
    for width_in, width in pairwise([num_mels, *channels]):
        layers += [nn.Conv1d(width_in, width, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def _project(num_pooled: int, num_features: int) -> nn.Sequential:
    """Return the layer from pooled maps to features; LayerNorm needs no batch statistics."""
    return nn.Sequential(nn.LayerNorm(num_pooled), nn.Linear(num_pooled, num_features), nn.ReLU())


def _check_sizes(modality: str, sizes: Mapping[str, Sequence[int]]) -> None:
    """Raise unless every key holds at least one number and all are positive."""
    for key, numbers in sizes.items():
        if not numbers or min(numbers) < 1:
            raise ConfigError(
                f"student.encoders.{modality}.{key} is {list(numbers)}; give positive numbers"
            )
