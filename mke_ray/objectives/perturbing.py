"""What is done to a student as it learns: samples mixed, noise added, gradients scaled."""

# B samples, D features, X any.

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mke_ray.objectives.balance import Modulation
from mke_ray.objectives.mixing import Mixing
from mke_ray.randomness import batch_keys, gaussian_like
from mke_ray.schema import Batch


@dataclass(frozen=True, slots=True)
class Perturbation:
    """Representations are mixed, then get noise; gradients of encoders are modulated.

    Samples are mixed as floats, behind a student's normalisation, where every modality has the same
    scale, and before the noise, which is of the mixed sample.

    Args:
        mixing: With whom samples are mixed, None to mix nothing.
        noise: Noise, None for none.
        modulation: Scale of gradients, None to leave them.
    """

    mixing: Mixing | None = None
    noise: "Noise | None" = None
    modulation: Modulation | None = None

    def input(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the representation of a modality, mixed and with noise."""
        if self.mixing is not None:
            x_BX = self.mixing.input(modality, x_BX)
        return x_BX if self.noise is None else self.noise.input(modality, x_BX)

    def features(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the output of an encoder, with its gradient modulated."""
        return x_BX if self.modulation is None else self.modulation.features(modality, x_BX)

    def hidden(self, x_BD: Tensor) -> Tensor:
        """Return the hidden layer, or the coarsest fused map, with noise."""
        return x_BD if self.noise is None else self.noise.hidden(x_BD)


@dataclass(frozen=True, slots=True)
class Noise:
    """Gaussian noise on representations and on the first hidden layer, drawn per sample.

    Args:
        batch: Batch whose samples are perturbed.
        present: Per modality whether the sample has it [B], bool.
        alpha: Strength on the input, one number or one per modality (0 where not named).
        beta: Strength on the hidden layer.
    """

    batch: Batch
    present: Mapping[str, Tensor]
    alpha: float | Mapping[str, float]
    beta: float

    def input(self, modality: str, x_BX: Tensor) -> Tensor:
        """Return the representation of a modality with noise; ids of tokens get none."""
        alpha = self.alpha.get(modality, 0.0) if isinstance(self.alpha, Mapping) else self.alpha
        if alpha == 0 or not x_BX.is_floating_point():  # between ids there is nothing
            return x_BX
        scale = alpha * _mean_magnitude(x_BX, self.present[modality])
        return x_BX + scale * gaussian_like(x_BX, batch_keys(self.batch, f"noise/{modality}"))

    def hidden(self, x_BD: Tensor) -> Tensor:
        """Return the hidden layer, or the coarsest fused map, with noise."""
        if self.beta == 0:
            return x_BD
        noise_BD = gaussian_like(x_BD, batch_keys(self.batch, "noise of the hidden layer"))
        return x_BD + self.beta * x_BD.detach().abs().mean() * noise_BD


def _mean_magnitude(x_BX: Tensor, present_B: Tensor) -> Tensor:
    """Return the mean absolute value over the samples that are there; 0 when none is."""
    magnitude_B = x_BX.detach().abs().flatten(1).mean(dim=1)
    weight_B = present_B.to(magnitude_B.dtype)
    return (magnitude_B * weight_B).sum() / weight_B.sum().clamp(min=1.0)
