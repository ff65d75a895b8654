"""The student: encoders, a fusion and a head, built from plain data of a closed vocabulary."""

# B samples, C classes, D features, X any.

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from mke_ray.models.backbones import BackboneEncoder
from mke_ray.models.building import (
    Build,
    build_encoders,
    build_part,
    check_keys,
    checked_dropout,
)
from mke_ray.models.dense import DenseStudent, build_dense_student
from mke_ray.models.encoders import (
    Encoder,
    FeatureEncoder,
    FrameEncoder,
    ImageEncoder,
    LogMelEncoder,
)
from mke_ray.models.fusion import AttentionFusion, ConcatFusion, FilmFusion, Fusion, GatedFusion
from mke_ray.models.seeing import Perturb, encoded, given_modalities, observe, represented
from mke_ray.models.timm_encoder import TimmEncoder
from mke_ray.models.witness import WitnessBank

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "frames": FrameEncoder,
    "image": ImageEncoder,
    "log_mel": LogMelEncoder,
    "features": FeatureEncoder,
    "transformers": BackboneEncoder,
    "timm": TimmEncoder,
}
FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "attention": AttentionFusion,
    "film": FilmFusion,
}
STUDENT_KEYS = ("encoders", "fusion", "head_hidden", "dropout")


class Student(nn.Module):
    """Arrays of some modalities, and which each sample has, to logits.

    Modalities are kept in order of name. One without an encoder is ignored, one whose array is
    not given counts as missing, and the array of a row that lacks it never matters.

    Args:
        encoders: Per modality an ``Encoder``.
        fusion: A ``Fusion`` of the encoders' features.
        num_classes: Number of classes C.
        head_hidden: Width of each hidden layer of the head.
        dropout: Share of each hidden layer of the head that is dropped in training.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        *,
        num_classes: int,
        head_hidden: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.modalities = tuple(sorted(encoders))
        self.encoders = nn.ModuleDict({name: encoders[name] for name in self.modalities})
        self.fusion = fusion
        widths = [cast(Fusion, fusion).num_features, *head_hidden]
        self.hidden = nn.ModuleList(
            nn.Sequential(nn.Linear(width_in, width), nn.ReLU())
            for width_in, width in pairwise(widths)
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(widths[-1], num_classes)

    def encoder(self, modality: str) -> Encoder:
        """Return the encoder of a modality."""
        return cast(Encoder, self.encoders[modality])

    def forward(
        self,
        arrays: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        perturb: Perturb | None = None,
    ) -> Tensor:
        """Return logits [B, C].

        Args:
            arrays: Per modality the array [B, ...] as it is stored.
            present: Per modality whether the sample has it [B], bool.
            perturb: Transformation of the representations and of the first hidden layer.

        Raises:
            ConfigError: No array belongs to a modality of this student.
        """
        fused_BD = self._fuse(arrays, present, perturb)
        return self._classify(fused_BD, perturb)

    def observe(self, arrays: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        """Add the samples that have a modality to its normalisation statistics."""
        observe(dict(self.encoders.items()), arrays, present)

    def freeze_normalisation(self) -> None:
        """Set every normaliser to the statistics that were observed."""
        for name in self.modalities:
            self.encoder(name).normaliser.freeze()

    def _fuse(
        self,
        arrays: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        perturb: Perturb | None,
    ) -> Tensor:
        """Return the fused features [B, D]."""
        given = given_modalities(self.modalities, arrays)
        like = present[given[0]]
        features, has = {}, {}
        for name in self.modalities:
            encoder = self.encoder(name)
            if name not in arrays:
                has[name] = torch.zeros_like(like)
                features[name] = self.output.weight.new_zeros(len(like), encoder.num_features)
                continue
            has[name] = present[name]
            x_BX = represented(encoder, arrays[name], has[name])
            features[name] = encoded(encoder, name, x_BX, perturb)
        return self.fusion(features, has)

    def _classify(self, x_BD: Tensor, perturb: Perturb | None) -> Tensor:
        """Return logits [B, C] of fused features."""
        if not self.hidden and perturb:
            x_BD = perturb.hidden(x_BD)
        for number, layer in enumerate(self.hidden):
            x_BD = layer(x_BD)
            if number == 0 and perturb:
                x_BD = perturb.hidden(x_BD)
            x_BD = self.dropout(x_BD)
        return self.output(x_BD)


Network: TypeAlias = Student | DenseStudent | WitnessBank


def build_student(
    spec: Mapping[str, Any], num_classes: int, *, build: Build | None = None
) -> Network:
    """Build a student with random weights from plain data.

    Args:
        spec: ``{"encoders": {modality: {"type": ..., ...}}, "fusion": {"type": ..., ...},
            "head_hidden": [...], "dropout": 0.0}``; the types are those of ``ENCODERS`` and
            ``FUSIONS``, or ``{"_target_": "package.Class", ...}`` for a class of the user's.
            With a ``decoder`` it is that of ``build_dense_student``, with ``num_folds`` a
            ``WitnessBank`` with as many unimodal networks, dense ones too, of each of the encoders.
        num_classes: Number of classes C.
        build: Builds a ``_target_``: ``build(spec, **extra)``, with ``modality`` as the extra
            argument of an encoder and ``num_features_in`` as that of a fusion.

    Raises:
        ConfigError: A type, key or value is not in the vocabulary.
    """
    if "num_folds" in spec:
        return _build_witnesses(spec, num_classes, build)
    if spec.get("decoder"):
        return build_dense_student(spec, num_classes, build=build)
    check_keys("student", spec, STUDENT_KEYS)
    encoders = build_encoders(spec.get("encoders"), ENCODERS, build)
    num_features_in = {name: cast(Encoder, one).num_features for name, one in encoders.items()}
    extra = {"num_features_in": num_features_in}
    fusion = build_part("student.fusion", spec.get("fusion"), FUSIONS, build, extra)
    return Student(
        encoders,
        fusion,
        num_classes=num_classes,
        head_hidden=list(spec.get("head_hidden") or []),
        dropout=checked_dropout(spec),
    )


def _build_witnesses(spec: Mapping[str, Any], num_classes: int, build: Build | None) -> WitnessBank:
    """Build the witnesses of all folds."""
    shared = {name: value for name, value in spec.items() if name != "num_folds"}
    fusion = {"type": "add" if spec.get("decoder") else "concat"}
    nets: dict[str, list[Student | DenseStudent]] = {}
    for modality, encoder in shared.pop("encoders").items():
        alone = {**shared, "encoders": {modality: encoder}, "fusion": fusion}
        built = [build_student(alone, num_classes, build=build) for _ in range(spec["num_folds"])]
        nets[modality] = cast("list[Student | DenseStudent]", built)
    return WitnessBank(nets)
