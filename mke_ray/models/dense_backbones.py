"""A dense student's encoder of pictures that is a backbone of ``transformers``."""

# B samples, K channels, H height, W width, h height and w width of a map.

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.backbone_spec import MAPS, resolved
from mke_ray.models.normaliser import Normaliser
from mke_ray.models.pretrained import load_whole
from mke_ray.models.tuning import ALL, NONE, blocks_in, frozen_parts, tune
from mke_ray.pretrained_folders import transformers_library

_STEM = "stem"
# The norm after the last stage is for classifiers: here it would get no gradient.
_UNREAD = re.compile(r"(\w+\.)?layernorm\.\w+")
_BEGIN_EVEN = ("hidden_states_norms.",)  # norms that classifiers lack; they begin as the identity


class DenseBackboneEncoder(nn.Module):
    """The maps of all stages of a backbone (ConvNeXt, Swin, ...), each brought to its level.

    The first stage gives the finest level, of half the height and width, and the one after it;
    every further stage one more, so that there is one level more than there are stages.

    Args:
        modality: Name of the modality.
        path: Folder of ``save_pretrained`` or ``owner/name`` of the Hub; None for random weights.
        revision: Commit of the Hub.
        digest: SHA-256 that the files of ``path`` must have; a run fills it in.
        config: Configuration with ``model_type``; a run fills in that of the path.
        reads: ``maps``; a run fills it in.
        input: ``mean`` and ``std`` of the pictures from 0 to 1; of the path where it is given.
        trainable: ``all``, ``none``, ``last_n`` (as ``last_2``) or ``lora``.
        lora: ``r``, ``lora_alpha``, ``lora_dropout``, ``target_modules``.
        channels: Channels of each level, the finest first; those of a pyramid beside it.

    Raises:
        ConfigError: There is no such backbone, or it has another number of stages.
    """

    def __init__(  # noqa: PLR0913
        self,
        modality: str,
        *,
        path: str | None = None,
        revision: str | None = None,
        digest: str | None = None,
        config: Mapping[str, Any] | None = None,
        reads: str = MAPS,
        input: Mapping[str, Any] | None = None,
        trainable: str = ALL,
        lora: Mapping[str, Any] | None = None,
        channels: Sequence[int] = (32, 64, 96, 128, 160),
    ) -> None:
        super().__init__()
        key = f"student.encoders.{modality}"
        given = {"path": path, "revision": revision, "digest": digest, "config": config}
        whole, found = resolved({**given, "reads": reads, "input": input}, key)
        self.modality = modality
        self.needs: dict[str, Any] = {"kind": "image"}
        self.mirrored = ()
        self.normaliser = Normaliser(1, axis=1, enabled=False)
        self._input: Mapping[str, Any] = whole["input"]
        self.network: Any = _backbone(whole["config"], found, key)
        tune(self.network, trainable, lora=lora, key=key)
        for name, weight in self.network.named_parameters():
            if _UNREAD.fullmatch(name):
                weight.requires_grad = False
        self._is_frozen = trainable == NONE
        self._frozen = tuple(frozen_parts(self.network))
        widths = list(self.network.channels)
        if len(channels) != len(widths) + 1:
            raise ConfigError(
                f"{key}.channels is {list(channels)}; {whole['config']['model_type']} has "
                f"{len(widths)} stages: give {len(widths) + 1} levels, and pyramids as many"
            )
        self.widths = tuple(channels)
        self.levels = nn.ModuleList(
            nn.Conv2d(width_in, width, 1)
            for width_in, width in zip([widths[0], *widths], channels, strict=True)
        )

    def raw(self, x_BHW3: Tensor) -> Tensor:
        """Return pictures [B, 3, H, W] from 0 to 1."""
        return x_BHW3.permute(0, 3, 1, 2).to(torch.float32) / 255.0

    @torch.no_grad()
    def represent(self, x_BX: Tensor) -> Tensor:
        """Return the pictures standardised as the backbone was pretrained."""
        raw_B3HW = self.raw(x_BX)
        mean = raw_B3HW.new_tensor(self._input["mean"]).view(3, 1, 1)
        return (raw_B3HW - mean) / raw_B3HW.new_tensor(self._input["std"]).view(3, 1, 1)

    def forward(self, x_B3HW: Tensor) -> list[Tensor]:
        """Return the maps [B, K, h, w] of every level, the finest first."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen):
            stages = self.network(x_B3HW).feature_maps
        height, width, maps = x_B3HW.shape[2], x_B3HW.shape[3], []
        for level, map_BKhw in zip(self.levels, [stages[0], *stages], strict=True):
            height, width = -(-height // 2), -(-width // 2)
            made_BKhw = level(map_BKhw)
            if made_BKhw.shape[2:] != (height, width):
                made_BKhw = nn.functional.interpolate(made_BKhw, (height, width), mode="bilinear")
            maps.append(made_BKhw)
        return maps

    def train(self, mode: bool = True) -> "DenseBackboneEncoder":
        """Set the mode; what is frozen stays in evaluation, without dropout."""
        super().train(mode)
        for one in self._frozen:
            one.eval()
        return self

    def recomputed_blocks(self) -> list[nn.Module]:
        """Return the stages that may be computed again in the backward pass."""
        return [] if self._is_frozen else blocks_in(self.network)


def _backbone(plain: Mapping[str, Any], found: Any, key: str) -> nn.Module:
    """Return a backbone that gives the maps of all its stages."""
    library = transformers_library()
    settings = {name: value for name, value in plain.items() if name != "model_type"}
    for name in ("out_features", "out_indices", "stage_names"):
        settings.pop(name, None)
    try:
        config = library.AutoConfig.for_model(plain["model_type"], **settings)
        names = [one for one in getattr(config, "stage_names", ()) if one != _STEM]
        if not names:
            raise ConfigError(f"{key}: {plain['model_type']} has no stages; take a backbone")
        config.out_features = names
        network = library.AutoBackbone.from_config(config)
        if found is None:
            return network
        return load_whole(found, type(network), unread=_BEGIN_EVEN, config=config)
    except (ValueError, KeyError, TypeError, ImportError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"{key}.config: {said}") from error
