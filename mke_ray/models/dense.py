"""The dense student: pyramid encoders, a fusion at every scale, a decoder back to every pixel."""

# B samples, C classes, H height, W width, K channels, h height and w width of a map, X any.

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mke_ray.errors import ConfigError
from mke_ray.models.building import (
    Build,
    build_encoders,
    build_part,
    check_keys,
    checked_dropout,
)
from mke_ray.models.dense_backbones import DenseBackboneEncoder
from mke_ray.models.dense_fusion import AddFusion, AttentionFusion, DenseFusion, GatedFusion
from mke_ray.models.pyramid import DenseEncoder, PyramidEncoder, convolution
from mke_ray.models.seeing import Perturb, encoded, given_modalities, observe, represented

DENSE_ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "pyramid": PyramidEncoder,
    "transformers": DenseBackboneEncoder,
}
DENSE_FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "add": AddFusion,
    "gated": GatedFusion,
    "attention": AttentionFusion,
}
DENSE_KEYS = ("encoders", "fusion", "decoder", "dropout", "flip_average")


class Decoder(nn.Module):
    """From the coarsest map back to the finest, each time joined with the map of that scale.

    Args:
        widths: Channels of the fused maps, the finest first.
        channels: Channels after each step, the first step first; one fewer than there are maps.

    Source:
        Ronneberger, Fischer, Brox, U-Net, MICCAI 2015.
    """

    def __init__(self, widths: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        if len(channels) != len(widths) - 1 or any(one < 1 for one in channels):
            raise ConfigError(
                f"student.decoder.channels is {list(channels)}; give {len(widths) - 1} positive "
                "numbers, one fewer than the encoders have levels"
            )
        below = [widths[-1], *channels]
        beside = list(reversed(widths[:-1]))
        self.steps = nn.ModuleList(
            convolution(coarse + fine, width)
            for coarse, fine, width in zip(below, beside, channels, strict=False)
        )
        self.num_features = below[-1]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the joined map [B, K, h, w] at the finest scale.

        Args:
            maps: Fused maps, the finest first.
        """
        joined = maps[-1]
        for step, beside in zip(self.steps, reversed(maps[:-1]), strict=True):
            wide = functional.interpolate(joined, size=beside.shape[-2:], mode="nearest")
            joined = step(torch.cat([wide, beside], dim=1))
        return joined


class DenseStudent(nn.Module):
    """Pictures and depth maps of some modalities, and which each sample has, to logits per pixel.

    Modalities are kept in order of name. One without an encoder is ignored, one whose array is
    not given counts as missing, and the array of a row that lacks it never matters. All arrays
    have one height and width, whatever they are.

    Args:
        encoders: Per modality a ``DenseEncoder``.
        fusion: A ``DenseFusion`` of the encoders' maps.
        decoder: What leads the fused maps back.
        num_classes: Number of classes C.
        dropout: Share of the channels before the last layer that is dropped in training.
        flip_average: Whether, in evaluation mode, logits are the mean of the pictures as they are
            and mirrored.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        decoder: Decoder,
        *,
        num_classes: int,
        dropout: float = 0.0,
        flip_average: bool = False,
    ) -> None:
        super().__init__()
        self.modalities = tuple(sorted(encoders))
        self.encoders = nn.ModuleDict({name: encoders[name] for name in self.modalities})
        self.fusion = fusion
        self.decoder = decoder
        self.dropout = nn.Dropout2d(dropout)
        self.output = nn.Conv2d(decoder.num_features, num_classes, 1)
        self.flip_average = flip_average

    def encoder(self, modality: str) -> DenseEncoder:
        """Return the encoder of a modality."""
        return cast(DenseEncoder, self.encoders[modality])

    def forward(
        self,
        arrays: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        perturb: Perturb | None = None,
    ) -> Tensor:
        """Return logits [B, C, H, W] of the height and width of the arrays.

        Args:
            arrays: Per modality the array [B, H, W, ...] as it is stored, or a view of it.
            present: Per modality whether the sample has it [B], bool.
            perturb: Transformation of the representations and of the coarsest fused map.

        Raises:
            ConfigError: No array belongs to a modality of this student, or they differ in size.
        """
        logits_BCHW = self._logits(arrays, present, perturb)
        if not self.flip_average or self.training:
            return logits_BCHW
        mirrored = {
            name: _mirrored(arrays[name], self.encoder(name).mirrored)
            for name in self.modalities
            if name in arrays
        }
        return (logits_BCHW + self._logits(mirrored, present, perturb).flip(3)) / 2

    def observe(self, arrays: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        """Add the samples that have a modality to its normalisation statistics."""
        observe(dict(self.encoders.items()), arrays, present)

    def freeze_normalisation(self) -> None:
        """Set every normaliser to the statistics that were observed."""
        for name in self.modalities:
            self.encoder(name).normaliser.freeze()

    def _logits(
        self,
        arrays: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        perturb: Perturb | None,
    ) -> Tensor:
        """Return logits [B, C, H, W] without their mean over a mirror."""
        given = given_modalities(self.modalities, arrays)
        size = _common_size({name: arrays[name] for name in given})
        maps = list(self._fused(arrays, present, perturb, given))
        if perturb:
            maps[-1] = perturb.hidden(maps[-1])
        logits_BChw = self.output(self.dropout(self.decoder(maps)))
        return functional.interpolate(logits_BChw, size=size, mode="bilinear", align_corners=False)

    def _fused(
        self,
        arrays: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        perturb: Perturb | None,
        given: Sequence[str],
    ) -> list[Tensor]:
        """Return the fused maps of every scale."""
        maps: dict[str, list[Tensor]] = {}
        for name in given:
            encoder = self.encoder(name)
            x_BKHW = represented(encoder, arrays[name], present[name])
            maps[name] = encoded(encoder, name, x_BKHW, perturb)
        has = {name: present[name] for name in given}
        like = maps[given[0]]
        for name in self.modalities:
            if name not in maps:
                has[name] = torch.zeros_like(present[given[0]])
                maps[name] = _zeros(self.encoder(name).widths, like)
        return cast(DenseFusion, self.fusion)(maps, has)


def build_dense_student(
    spec: Mapping[str, Any], num_classes: int, *, build: Build | None = None
) -> DenseStudent:
    """Build a dense student with random weights from plain data.

    Args:
        spec: ``{"encoders": {modality: {"type": "pyramid", ...}}, "fusion": {"type": ..., ...},
            "decoder": {"channels": [...]}, "dropout": 0.0, "flip_average": False}``; the types
            are those of ``DENSE_ENCODERS`` and ``DENSE_FUSIONS``, or ``{"_target_": ...}`` for a
            class of the user's.
        num_classes: Number of classes C.
        build: Builds a ``_target_``: ``build(spec, **extra)``, with ``modality`` as the extra
            argument of an encoder and ``widths_in`` as that of a fusion.

    Raises:
        ConfigError: A type, key or value is not in the vocabulary.
    """
    check_keys("student", spec, DENSE_KEYS)
    encoders = build_encoders(spec.get("encoders"), DENSE_ENCODERS, build)
    widths_in = {name: cast(DenseEncoder, one).widths for name, one in encoders.items()}
    extra = {"widths_in": widths_in}
    fusion = build_part("student.fusion", spec.get("fusion"), DENSE_FUSIONS, build, extra)
    decoder = dict(spec["decoder"])
    check_keys("student.decoder", decoder, ("channels",))
    widths = cast(DenseFusion, fusion).widths
    return DenseStudent(
        encoders,
        fusion,
        Decoder(widths, list(decoder.get("channels") or [])),
        num_classes=num_classes,
        dropout=checked_dropout(spec),
        flip_average=bool(spec.get("flip_average", False)),
    )


def _common_size(arrays: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return height and width of the arrays.

    Raises:
        ConfigError: They differ.
    """
    sizes = {name: (int(array.shape[1]), int(array.shape[2])) for name, array in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise ConfigError(
            f"the modalities have different heights and widths, {sizes}; store them alike "
            "(decode.*.height, decode.*.width) and give their views one size"
        )
    return next(iter(sizes.values()))


def _mirrored(x_BHWK: Tensor, changing: Sequence[int]) -> Tensor:
    """Return an array mirrored left and right, with the sign of some channels changed."""
    flipped_BHWK = x_BHWK.flip(2)
    for channel in changing:
        flipped_BHWK[..., channel] *= -1
    return flipped_BHWK


def _zeros(widths: Sequence[int], like: Sequence[Tensor]) -> list[Tensor]:
    """Return maps of zeros for a modality of which nothing was given."""
    return [
        one.new_zeros(one.shape[0], width, *one.shape[2:])
        for width, one in zip(widths, like, strict=True)
    ]
