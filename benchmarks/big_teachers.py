"""Teachers of the size of ViT-B/16 and AST with random weights, and tiny ones of the same form."""

# B samples, T frames, H height, W width, N sound samples, F spectrum frames, K bins, M mel bands,
# C classes.

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (  # pyright: ignore[reportMissingImports] - for this benchmark alone
    ASTConfig,
    ASTForAudioClassification,
    ViTConfig,
    ViTForImageClassification,
)

CLASSES = [f"class {number}" for number in range(10)]
RATE_HZ = 16_000
HOP, WINDOW = 160, 400  # 10 and 25 ms
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def decode_spec(kind: str, *, num_frames: int, is_tiny: bool) -> dict[str, Any]:
    """Return what is stored for a teacher.

    Args:
        kind: ``vit`` or ``ast``.
        num_frames: Frames per clip.
        is_tiny: For the tiny one.
    """
    side = 32 if is_tiny else 224
    if kind == "vit":
        video = {"kind": "video", "num_frames": num_frames, "height": side, "width": side}
        return {"video": video}
    seconds = 1.0 if is_tiny else 10.24
    return {"audio": {"kind": "audio", "sample_rate_hz": RATE_HZ, "seconds": seconds}}


class BigTeacher:
    """A transformer with random weights that are always the same.

    Args:
        kind: ``vit`` or ``ast``.
        device: Device to compute on.
        is_tiny: Whether it is small enough for a test on a CPU.
    """

    def __init__(self, kind: str, *, device: str = "cpu", is_tiny: bool = False) -> None:
        torch.manual_seed(0)
        self.modality = "video" if kind == "vit" else "audio"
        self.needs = {"kind": self.modality}
        self.network: nn.Module = _vit(is_tiny) if kind == "vit" else _ast(is_tiny)
        self.network.eval()
        self._name = f"{kind}-{'tiny' if is_tiny else 'base'}"
        self._device = torch.device(device)
        self._num_frames = 64 if is_tiny else 1024
        self._mel_KM = mel_bands(128)
        self._is_placed = False

    def predict(self, arrays_BX: np.ndarray | Tensor) -> np.ndarray:
        """Return float32 logits [B, C], for a video the mean over its frames."""
        if not self._is_placed:
            self.network.to(self._device)
            self._is_placed = True
        x_BX = torch.as_tensor(arrays_BX).to(self._device)
        logits_BC = self._of_frames(x_BX) if self.modality == "video" else self._of_sound(x_BX)
        return logits_BC.float().cpu().numpy()

    def fingerprint(self) -> str:
        """Return its name: the weights follow from it."""
        return self._name

    def _of_frames(self, x_BTHWc: Tensor) -> Tensor:
        num_frames = x_BTHWc.shape[1]
        x_BcHW = x_BTHWc.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return self.network(pixel_values=x_BcHW).logits.unflatten(0, (-1, num_frames)).mean(1)

    def _of_sound(self, x_BN: Tensor) -> Tensor:
        window = torch.hann_window(WINDOW, device=x_BN.device)
        spectrum_BKF = torch.stft(x_BN, WINDOW, HOP, window=window, return_complex=True)
        power_BFK = spectrum_BKF.abs().square().transpose(1, 2)
        mel_BFM = (power_BFK @ self._mel_KM.to(x_BN.device) + 1e-6).log()
        missing = max(self._num_frames - mel_BFM.shape[1], 0)
        mel_BFM = nn.functional.pad(mel_BFM, (0, 0, 0, missing))[:, : self._num_frames]
        return self.network(input_values=mel_BFM / 5.0).logits


def _vit(is_tiny: bool) -> nn.Module:
    more: dict[str, Any] = {**TINY, "image_size": 32} if is_tiny else {}
    more["num_labels"] = len(CLASSES)
    return ViTForImageClassification(ViTConfig(**more))


def _ast(is_tiny: bool) -> nn.Module:
    more: dict[str, Any] = {**TINY, "max_length": 64} if is_tiny else {}
    more["num_labels"] = len(CLASSES)
    return ASTForAudioClassification(ASTConfig(**more))


def mel_bands(num_bands: int) -> Tensor:
    """Return triangular bands on the mel scale [K, M]."""
    most_mel = 2595.0 * math.log10(1.0 + RATE_HZ / 2 / 700.0)
    edges_hz = 700.0 * (10.0 ** (torch.linspace(0.0, most_mel, num_bands + 2) / 2595.0) - 1.0)
    bins_hz = torch.linspace(0.0, RATE_HZ / 2, WINDOW // 2 + 1)[:, None]
    low, middle, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising, falling = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
    return torch.minimum(rising, falling).clamp(min=0.0)
