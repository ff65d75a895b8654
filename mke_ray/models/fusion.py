"""Fusion: features of each modality, and which modalities each sample has, to one vector."""

# B samples, M modalities, D features.

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError


@runtime_checkable
class Fusion(Protocol):
    """What a student needs of a fusion, which is also a ``torch.nn.Module``.

    A row that lacks a modality must not depend on that modality's features, whatever they hold.

    Attributes:
        num_features: Features that it returns, D.
    """

    num_features: int

    def __call__(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Return fused features [B, D].

        Args:
            features: Per modality the features [B, D_m].
            present: Per modality whether the sample has it [B], bool.
        """
        ...


class ConcatFusion(nn.Module):
    """Concatenation; a learned placeholder stands for a missing modality.

    Args:
        num_features_in: Features D_m of each modality.
        num_features: Features of a layer with ReLU after the concatenation; None for no layer.
    """

    def __init__(
        self, num_features_in: Mapping[str, int], *, num_features: int | None = None
    ) -> None:
        super().__init__()
        num_joined = sum(num_features_in.values())
        self.num_features = num_joined if num_features is None else num_features
        self.fill = _Placeholders(num_features_in)
        self.project = (
            nn.Identity()
            if num_features is None
            else nn.Sequential(nn.Linear(num_joined, num_features), nn.ReLU())
        )

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Return fused features [B, D]."""
        filled = self.fill(features, present)
        return self.project(torch.cat(list(filled.values()), dim=1))


class GatedFusion(nn.Module):
    """A weighted mean of the modalities whose weights depend on the sample; missing ones weigh 0.

    Args:
        num_features_in: Features D_m of each modality.
        num_features: Fused features D.

    Source:
        After Arevalo et al., Gated Multimodal Units for Information Fusion, ICLR workshop 2017.
    """

    def __init__(self, num_features_in: Mapping[str, int], *, num_features: int = 64) -> None:
        super().__init__()
        self.num_features = num_features
        self.fill = _Placeholders(num_features_in)
        self.project = _layer_per_modality(num_features_in, num_features)
        self.gate = nn.Linear(sum(num_features_in.values()), len(num_features_in))

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Return fused features [B, D]."""
        filled = self.fill(features, present)
        value_BMD = torch.stack(
            [torch.relu(self.project[name](one)) for name, one in filled.items()], dim=1
        )
        present_BM = torch.stack([present[name] for name in filled], dim=1)
        score_BM = self.gate(torch.cat(list(filled.values()), dim=1))
        lowest = torch.finfo(score_BM.dtype).min  # not -inf: a row may have no modality at all
        gate_BM = torch.softmax(score_BM.masked_fill(~present_BM, lowest), dim=1)
        return (gate_BM[:, :, None] * value_BMD).sum(dim=1)


class AttentionFusion(nn.Module):
    """One transformer layer over a summary token and a token per modality that is there.

    Args:
        num_features_in: Features D_m of each modality.
        num_features: Fused features D, the width of a token.
        num_heads: Attention heads; they divide the features among them.

    Source:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017.
    """

    def __init__(
        self, num_features_in: Mapping[str, int], *, num_features: int = 64, num_heads: int = 4
    ) -> None:
        super().__init__()
        if num_features % num_heads:
            raise ConfigError(
                f"student.fusion.num_heads={num_heads} does not divide "
                f"num_features={num_features}; choose a divisor"
            )
        self.num_features = num_features
        self.project = _layer_per_modality(num_features_in, num_features)
        self.summary_D = nn.Parameter(torch.randn(num_features) * 0.02)
        self.layer = nn.TransformerEncoderLayer(
            num_features,
            num_heads,
            dim_feedforward=2 * num_features,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
        )
        self.norm = nn.LayerNorm(num_features)

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Return fused features [B, D]."""
        tokens, masks = [], []
        for name, layer in self.project.items():
            known_B1 = present[name][:, None]
            tokens.append(layer(features[name].masked_fill(~known_B1, 0.0)))
            masks.append(~present[name])
        summary_BD = self.summary_D.expand_as(tokens[0])
        tokens_BMD = torch.stack([summary_BD, *tokens], dim=1)
        masked_BM = torch.stack([torch.zeros_like(masks[0]), *masks], dim=1)
        return self.norm(self.layer(tokens_BMD, src_key_padding_mask=masked_BM)[:, 0])


class FilmFusion(nn.Module):
    """One modality scales and shifts the features of the others.

    Args:
        num_features_in: Features D_m of each modality.
        num_features: Fused features D.
        condition: The modality that conditions the others; the first by name by default.

    Source:
        Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018.
    """

    def __init__(
        self,
        num_features_in: Mapping[str, int],
        *,
        num_features: int = 64,
        condition: str | None = None,
    ) -> None:
        super().__init__()
        self.condition = condition or min(num_features_in)
        if self.condition not in num_features_in:
            raise ConfigError(
                f"student.fusion.condition={condition!r} is no modality of the student; "
                f"choose one of {sorted(num_features_in)}"
            )
        self.num_features = num_features
        self.fill = _Placeholders(num_features_in)
        self.project = _layer_per_modality(num_features_in, num_features)
        num_condition = num_features_in[self.condition]
        others = [name for name in num_features_in if name != self.condition]
        self.modulate = nn.ModuleDict(
            {name: nn.Linear(num_condition, 2 * num_features) for name in others}
        )

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """Return fused features [B, D]."""
        filled = self.fill(features, present)
        condition_BD = filled[self.condition]
        total_BD = self.project[self.condition](condition_BD)
        for name, modulate in self.modulate.items():
            scale_BD, shift_BD = modulate(condition_BD).chunk(2, dim=1)
            total_BD = total_BD + (1.0 + scale_BD) * self.project[name](filled[name]) + shift_BD
        return torch.relu(total_BD)


class _Placeholders(nn.Module):
    """Replace the features of missing modalities by learned ones; modalities in order of name."""

    def __init__(self, num_features_in: Mapping[str, int]) -> None:
        super().__init__()
        self.placeholder = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(width)) for name, width in num_features_in.items()}
        )

    def forward(self, features: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return features of every modality, always in the same order."""
        return {
            name: torch.where(present[name][:, None], features[name], self.placeholder[name])
            for name in sorted(self.placeholder.keys())
        }


def _layer_per_modality(num_features_in: Mapping[str, int], num_features: int) -> nn.ModuleDict:
    """Return one linear layer to the fused width per modality."""
    return nn.ModuleDict(
        {name: nn.Linear(width, num_features) for name, width in num_features_in.items()}
    )
