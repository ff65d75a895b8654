"""A student's encoder that is a picture network of ``timm``."""

# B samples, T frames, H height, W width, D features, X any.

import os
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.normaliser import Normaliser
from mke_ray.models.tuning import ALL, NONE, frozen_parts, tune
from mke_ray.pretrained_folders import optional_library


class TimmEncoder(nn.Module):
    """A network of timm by its name, of video the mean over the frames.

    Args:
        modality: Name of the modality.
        name: Name of the network, ``vit_small_patch16_224``.
        weights: File of safetensors to start from, as timm saves them; None starts from random
            weights. A student that was saved finds its own weights and needs no file.
        stored: ``video`` or ``image``.
        size: Height and width that pictures are resized to; None takes that of the network.
        trainable: ``all``, ``none``, ``last_n`` (as ``last_2``) or ``lora``.
        lora: ``r``, ``lora_alpha``, ``lora_dropout``, ``target_modules``.
        num_features: Features D.

    Raises:
        ConfigError: timm cannot be imported or has no such network, or the weights do not fit.
    """

    def __init__(  # noqa: PLR0913
        self,
        modality: str,
        *,
        name: str,
        weights: str | None = None,
        stored: str = "video",
        size: tuple[int, int] | None = None,
        trainable: str = ALL,
        lora: Mapping[str, Any] | None = None,
        num_features: int = 64,
    ) -> None:
        super().__init__()
        key = f"student.encoders.{modality}"
        timm = optional_library("timm", "timm")
        if not timm.is_model(name):
            raise ConfigError(f"{key}.name={name} is no network of timm {timm.__version__}")
        if stored not in ("video", "image"):
            raise ConfigError(f"{key}.stored={stored}; choose video or image")
        self.modality = modality
        self.num_features = num_features
        self.needs: dict[str, Any] = {"kind": stored}
        self.normaliser = Normaliser(1, axis=1, enabled=False)
        self.network: Any = timm.create_model(name, pretrained=False, num_classes=0)
        if weights is not None:
            _load(self.network, weights, key)
        usual = timm.data.resolve_model_data_config(self.network)
        self._size = tuple(size or usual["input_size"][1:])
        self._mean, self._std = list(usual["mean"]), list(usual["std"])
        tune(self.network, trainable, lora=lora, key=key)
        self._is_frozen = trainable == NONE
        self._frozen = tuple(frozen_parts(self.network))
        width = int(self.network.num_features)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_features), nn.ReLU())

    def raw(self, x_BX: Tensor) -> Tensor:
        """Return pictures [B, (T,) 3, H, W] in [0, 1]."""
        lead = x_BX.shape[:-3]
        x_I3HW = x_BX.reshape(-1, *x_BX.shape[-3:]).permute(0, 3, 1, 2).to(torch.float32) / 255.0
        x_I3HW = nn.functional.interpolate(x_I3HW, self._size, mode="bilinear", antialias=True)
        return x_I3HW.reshape(*lead, *x_I3HW.shape[1:])

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the pictures standardised as the network was pretrained."""
        raw_BX = self.raw(x_BX)
        mean, std = raw_BX.new_tensor(self._mean), raw_BX.new_tensor(self._std)
        return (raw_BX - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    def forward(self, x_BX: Tensor) -> Tensor:
        """Return features [B, D] of a representation."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen):
            x_IX = x_BX.flatten(0, 1) if x_BX.dim() == 5 else x_BX
            pooled_BW = self.network(x_IX)
            if x_BX.dim() == 5:
                pooled_BW = pooled_BW.unflatten(0, x_BX.shape[:2]).mean(dim=1)
        return self.project(pooled_BW)

    def train(self, mode: bool = True) -> "TimmEncoder":
        """Set the mode; what is frozen stays in evaluation, without dropout."""
        super().train(mode)
        for one in self._frozen:
            one.eval()
        return self


def _load(network: nn.Module, weights: str, key: str) -> None:
    """Put pretrained weights into a network, all but those of its head."""
    if not os.path.isfile(weights):
        raise ConfigError(f"{key}.weights={weights} does not exist here; name a safetensors file")
    missing, _ = network.load_state_dict(safetensors.torch.load_file(weights), strict=False)
    if missing:
        raise ConfigError(f"{key}.weights={weights} lacks {missing[:5]}; take that of the network")
