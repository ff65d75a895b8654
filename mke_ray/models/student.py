"""The student: encoders, a fusion and a head, built from plain data of a closed vocabulary."""

# B samples, C classes, D features, X any.

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from mke_ray.errors import ConfigError
from mke_ray.models.encoders import (
    Encoder,
    FeatureEncoder,
    FrameEncoder,
    ImageEncoder,
    LogMelEncoder,
)
from mke_ray.models.fusion import AttentionFusion, ConcatFusion, FilmFusion, Fusion, GatedFusion

ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "frames": FrameEncoder,
    "image": ImageEncoder,
    "log_mel": LogMelEncoder,
    "features": FeatureEncoder,
}
FUSIONS: dict[str, Callable[..., nn.Module]] = {
    "concat": ConcatFusion,
    "gated": GatedFusion,
    "attention": AttentionFusion,
    "film": FilmFusion,
}
STUDENT_KEYS = ("encoders", "fusion", "head_hidden", "dropout")

Build = Callable[..., object]


class Perturb(Protocol):
    """A stochastic transformation of the student, applied while it computes."""

    def input(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the perturbed representation of one modality."""
        ...

    def hidden(self, x_BD: Tensor) -> Tensor:
        """Return the perturbed first hidden layer of the head."""
        ...


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

    @torch.no_grad()
    def observe(self, arrays: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> None:
        """Add the samples that have a modality to its normalisation statistics."""
        for name in self.modalities:
            if name in arrays:
                seen_BX = arrays[name][present[name]]
                encoder = self.encoder(name)
                if seen_BX.shape[0]:
                    encoder.normaliser.observe(encoder.raw(seen_BX))

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
        given = [name for name in self.modalities if name in arrays]
        if not given:
            raise ConfigError(
                f"the student reads {list(self.modalities)} but was given {sorted(arrays)}; "
                "give at least one of its modalities"
            )
        like = present[given[0]]
        features, has = {}, {}
        for name in self.modalities:
            encoder = self.encoder(name)
            if name not in arrays:
                has[name] = torch.zeros_like(like)
                features[name] = self.output.weight.new_zeros(len(like), encoder.num_features)
                continue
            has[name] = present[name]
            x_BX = _represent(encoder, arrays[name], has[name])
            features[name] = encoder(perturb.input(name, x_BX) if perturb else x_BX)
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


def build_student(
    spec: Mapping[str, Any], num_classes: int, *, build: Build | None = None
) -> Student:
    """Build a student with random weights from plain data.

    Args:
        spec: ``{"encoders": {modality: {"type": ..., ...}}, "fusion": {"type": ..., ...},
            "head_hidden": [...], "dropout": 0.0}``; the types are those of ``ENCODERS`` and
            ``FUSIONS``, or ``{"_target_": "package.Class", ...}`` for a class of the user's.
        num_classes: Number of classes C.
        build: Builds a ``_target_``: ``build(spec, **extra)``, with ``modality`` as the extra
            argument of an encoder and ``num_features_in`` as that of a fusion.

    Raises:
        ConfigError: A type, key or value is not in the vocabulary.
    """
    _check_keys("student", spec, STUDENT_KEYS)
    encoder_specs = spec.get("encoders") or {}
    if not encoder_specs:
        raise ConfigError("student.encoders is empty; name at least one modality and its encoder")
    encoders = {}
    for modality, one in sorted(encoder_specs.items()):
        _check_modality(modality)
        key = f"student.encoders.{modality}"
        encoders[modality] = _build_part(key, one, ENCODERS, build, {"modality": modality})
    num_features_in = {name: cast(Encoder, one).num_features for name, one in encoders.items()}
    extra = {"num_features_in": num_features_in}
    fusion = _build_part("student.fusion", spec.get("fusion"), FUSIONS, build, extra)
    dropout = spec.get("dropout", 0.0)
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"student.dropout is {dropout}; give a share from 0 to below 1")
    head_hidden = list(spec.get("head_hidden") or [])
    return Student(
        encoders, fusion, num_classes=num_classes, head_hidden=head_hidden, dropout=dropout
    )


def _represent(encoder: Encoder, x_BX: Tensor, present_B: Tensor) -> Tensor:
    """Return the representation of an array, as if rows that lack the modality were zeros."""
    shape = [-1] + [1] * (x_BX.dim() - 1)
    with torch.autocast(x_BX.device.type, enabled=False):  # spectra need float32
        return encoder.represent(x_BX.masked_fill(~present_B.view(shape), 0))


def _build_part(
    key: str,
    spec: Mapping[str, Any] | None,
    vocabulary: Mapping[str, Callable[..., nn.Module]],
    build: Build | None,
    extra: dict[str, Any],
) -> nn.Module:
    """Build an encoder or a fusion from its own part of the specification."""
    spec = spec or {}
    if "_target_" in spec:
        return _build_target(key, spec, build, extra)
    kind = str(spec.get("type"))
    if kind not in vocabulary:
        raise ConfigError(f"{key}.type is {kind!r}; choose one of {sorted(vocabulary)}")
    settings = {name: value for name, value in spec.items() if name != "type"}
    parameters = inspect.signature(vocabulary[kind]).parameters
    _check_keys(key, settings, [name for name in parameters if name not in extra])
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in {*settings, *extra}:
            raise ConfigError(f"{key}.{name} is missing; type {kind!r} needs it")
    return vocabulary[kind](**extra, **settings)


def _build_target(
    key: str, spec: Mapping[str, Any], build: Build | None, extra: dict[str, Any]
) -> nn.Module:
    """Build a part that is a class of the user's."""
    if build is None:
        raise ConfigError(
            f"{key} is the class {spec['_target_']!r}, which is not part of mke_ray; pass it, for "
            f"example load_student(path, classes={{{spec['_target_']!r}: TheClass}})"
        )
    part = build(spec, **extra)
    if not isinstance(part, nn.Module):
        raise ConfigError(f"{key}._target_={spec['_target_']!r} is not a torch.nn.Module")
    return part


def _check_keys(key: str, spec: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise when a key is not in the vocabulary."""
    for name in spec:
        if name not in known:
            raise ConfigError(f"{key}.{name} is no such key; choose from {sorted(known)}")


def _check_modality(modality: str) -> None:
    """Raise when a modality cannot name a part of a network."""
    if not modality.isidentifier() or hasattr(nn.ModuleDict, modality):
        raise ConfigError(
            f"student.encoders.{modality}: a modality is named by letters, digits and "
            "underscores, and not like a method of torch.nn.ModuleDict; choose another name"
        )
