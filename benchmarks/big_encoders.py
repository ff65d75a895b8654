"""Encoders of the size of ViT-B/16 and AST with random weights, and tiny ones of the same form."""

# B samples, T frames, H height, W width, N sound samples, F spectrum frames, K bins, M mel bands,
# D features, X any.

from typing import Any

import torch
from big_teachers import HOP, RATE_HZ, TINY, WINDOW, mel_bands
from torch import Tensor, nn
from transformers import (  # pyright: ignore[reportMissingImports] - for this benchmark alone
    ASTConfig,
    ASTModel,
    ViTConfig,
    ViTModel,
)

from mke_ray.models.normaliser import Normaliser

_NUM_BANDS = 128


class BigFrameEncoder(nn.Module):
    """ViT-B/16 over each frame, and the mean over frames of its first token.

    Args:
        modality: Name of the modality.
        is_tiny: Whether it is small enough for a CPU.
    """

    def __init__(self, modality: str, *, is_tiny: bool = False) -> None:
        super().__init__()
        more: dict[str, Any] = {**TINY, "image_size": 32} if is_tiny else {}
        config = ViTConfig(**more)
        self.modality = modality
        self.num_features = config.hidden_size
        self.needs: dict[str, Any] = {"kind": "video"}
        self.normaliser = Normaliser(3, axis=2)
        self.network = ViTModel(config, add_pooling_layer=False)

    def raw(self, x_BTHW3: Tensor) -> Tensor:
        """Return [B, T, 3, H, W] in [0, 1] of uint8 frames."""
        return x_BTHW3.permute(0, 1, 4, 2, 3).to(torch.float32) / 255.0

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the frames standardised by channel."""
        return self.normaliser(self.raw(x_BX))

    def forward(self, x_BT3HW: Tensor) -> Tensor:
        """Return features [B, D] of represented frames."""
        tokens = self.network(pixel_values=x_BT3HW.flatten(0, 1)).last_hidden_state
        return tokens[:, 0].unflatten(0, x_BT3HW.shape[:2]).mean(1)


class BigSoundEncoder(nn.Module):
    """AST-base over the log-mel spectrum of a sound.

    Args:
        modality: Name of the modality.
        is_tiny: Whether it is small enough for a CPU.
    """

    def __init__(self, modality: str, *, is_tiny: bool = False) -> None:
        super().__init__()
        more: dict[str, Any] = {**TINY, "max_length": 64} if is_tiny else {}
        config = ASTConfig(**more)
        self.modality = modality
        self.num_features = config.hidden_size
        self.needs: dict[str, Any] = {"kind": "audio", "sample_rate_hz": RATE_HZ}
        self.normaliser = Normaliser(_NUM_BANDS, axis=2)
        self.network = ASTModel(config)
        self._num_frames = config.max_length
        self.register_buffer("window_K", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("mel_KM", mel_bands(_NUM_BANDS), persistent=False)

    def raw(self, x_BN: Tensor) -> Tensor:
        """Return log-mel spectra [B, F, M] of sounds."""
        window_K = self.get_buffer("window_K").float()
        spectrum_BKF = torch.stft(x_BN.float(), WINDOW, HOP, window=window_K, return_complex=True)
        power_BFK = spectrum_BKF.abs().square().transpose(1, 2)
        mel_BFM = (power_BFK @ self.get_buffer("mel_KM").float() + 1e-6).log()
        missing = max(self._num_frames - mel_BFM.shape[1], 0)
        return nn.functional.pad(mel_BFM, (0, 0, 0, missing))[:, : self._num_frames]

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the spectra standardised by band."""
        return self.normaliser(self.raw(x_BX))

    def forward(self, x_BFM: Tensor) -> Tensor:
        """Return features [B, D] of represented spectra."""
        return self.network(input_values=x_BFM).pooler_output
