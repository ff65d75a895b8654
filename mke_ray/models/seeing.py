"""What every student does with the arrays that it is given, before its own layers see them."""

# B samples, D features, X any.

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mke_ray.errors import ConfigError


class Perturb(Protocol):
    """A stochastic transformation of the student, applied while it computes."""

    def input(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the perturbed representation of one modality."""
        ...

    def hidden(self, x_BD: Tensor) -> Tensor:
        """Return the perturbed hidden layer: the first of the head, or the coarsest fused map."""
        ...


@runtime_checkable
class PerturbFeatures(Protocol):
    """A ``Perturb`` that transforms what encoders say, too."""

    def features(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the perturbed output of an encoder: features, or a map of a dense student."""
        ...


def given_modalities(modalities: Sequence[str], arrays: Mapping[str, Tensor]) -> list[str]:
    """Return the modalities of a student of which there are arrays.

    Raises:
        ConfigError: There is none.
    """
    given = [name for name in modalities if name in arrays]
    if not given:
        raise ConfigError(
            f"the student reads {list(modalities)} but was given {sorted(arrays)}; "
            "give at least one of its modalities"
        )
    return given


def represented(encoder: Any, x_BX: Tensor, present_B: Tensor) -> Tensor:
    """Return the representation of an array, as if rows that lack the modality were empty.

    That is zeros, and for an encoder that says what is ``empty`` to it (padding of a text) that.
    """
    shape = [-1] + [1] * (x_BX.dim() - 1)
    empty: int = getattr(encoder, "empty", 0)
    with _in_full_precision(x_BX.device.type):  # spectra need float32
        return encoder.represent(x_BX.masked_fill(~present_B.view(shape), empty))


def _in_full_precision(device: str) -> contextlib.AbstractContextManager[object]:
    """Return what ends autocast for a block, where it is on.

    A program of torch.export with a region of it can be written, and not be loaded again.
    """
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def encoded(encoder: Any, modality: str, x_BX: Tensor, perturb: Perturb | None) -> Any:
    """Return what an encoder says of a representation: features, or maps of several scales."""
    if perturb is None:
        return encoder(x_BX)
    said = encoder(perturb.input(modality, x_BX))
    if not isinstance(perturb, PerturbFeatures):
        return said
    if isinstance(said, Tensor):
        return perturb.features(modality, said)
    return [perturb.features(modality, map_BKhw) for map_BKhw in said]


@torch.no_grad()
def observe(
    encoders: Mapping[str, Any], arrays: Mapping[str, Tensor], present: Mapping[str, Tensor]
) -> None:
    """Add the samples that have a modality to the statistics of its normaliser."""
    for name, encoder in encoders.items():
        if name in arrays:
            seen_BX = arrays[name][present[name]]
            if seen_BX.shape[0]:
                encoder.normaliser.observe(encoder.raw(seen_BX))
