"""What a student starts from that another fit has learnt."""

from collections.abc import Mapping

from torch import Tensor

from mke_ray.errors import ConfigError
from mke_ray.models.dense import DenseStudent
from mke_ray.models.student import Network
from mke_ray.models.witness import WitnessBank
from mke_ray.storage import Root
from mke_ray.train.fits import FitSpec, FitStore


def start_from(student: Network, spec: FitSpec, root: Root) -> None:
    """Copy the encoders that the fit to start from shares with the student, and a decoder.

    The decoder of a dense student is copied with the last layer behind it.

    Raises:
        StoreError: That fit is not finished.
        ConfigError: Its parts have other shapes, or no encoder is shared.
    """
    if spec.init_from is None:
        return
    if isinstance(student, WitnessBank):
        raise ConfigError(f"fit {spec.name}: witnesses start from no other fit")
    weights = FitStore(root).weights(spec.init_from)
    shared = [name for name in student.modalities if _part(weights, f"encoders.{name}.")]
    if not shared:
        raise ConfigError(
            f"fit {spec.name}: init_from={spec.init_from} shares no modality with the student's "
            f"{list(student.modalities)}"
        )
    parts = {f"encoders.{name}": student.encoders[name] for name in shared}
    if isinstance(student, DenseStudent):
        parts |= {"decoder": student.decoder, "output": student.output}
    for name, part in parts.items():
        try:
            part.load_state_dict(_part(weights, f"{name}."))
        except RuntimeError as error:
            raise ConfigError(
                f"fit {spec.name}: student.{name} differs from that of "
                f"init_from={spec.init_from}: {error}"
            ) from error


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights below a prefix, by the rest of their name."""
    return {k.removeprefix(prefix): one for k, one in weights.items() if k.startswith(prefix)}
