"""What a configuration of dense labels needs: true classes, one size, views that move alike."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mke_ray.data.views import IdentityView, View
from mke_ray.errors import ConfigError
from mke_ray.labels.dense import dense_size
from mke_ray.schema import MASK, DecodeSpec, DepthSpec, LabelKind

if TYPE_CHECKING:
    from mke_ray.expansion.run import Run

_GEOMETRY = ("stream", "height", "width", "flip", "scale")


def check_dense(run: "Run") -> None:
    """Refuse dense labels that do not lie on one another.

    Raises:
        ConfigError: It names the key.
    """
    job = run.job
    if run.source.label_space.kind != LabelKind.DENSE:
        return
    if MASK not in run.decode:
        raise ConfigError(
            f"decode.{MASK} is missing, and the source's labels are dense; add decode.{MASK}="
            "{kind: mask, height: H, width: W} with the height and width of the pictures"
        )
    for modality in (job.teacher.modality, *job.student.encoders):
        dense_size(run.decode, modality)


def check_alike(
    key: str, views: Mapping[str, View], modalities: Sequence[str], decode: DecodeSpec
) -> None:
    """Refuse views that would move pictures and class maps of a sample apart.

    Args:
        key: Where the views stand in the configuration.
        views: View of every modality that has one.
        modalities: What the networks read.
        decode: What is stored of every modality.

    Raises:
        ConfigError: Some modality moves otherwise than the class map, or by a view without stream;
            or a mirror leaves the sign of a normal as it is.
    """
    wanted = [*modalities, MASK]
    moves = {name: _geometry(views.get(name)) for name in wanted}
    if any(one != moves[MASK] for one in moves.values()):
        raise ConfigError(
            f"{key}: pictures and class maps of a sample have to be mirrored and cropped alike, "
            f"and they move by {moves}; give {key} of all of {wanted} one stream, with the same "
            f"{', '.join(_GEOMETRY[1:])}"
        )
    for name in modalities:
        view, spec = views.get(name), decode[name]
        if isinstance(spec, DepthSpec) and getattr(view, "flip", False):
            found = tuple(getattr(view, "mirrored", ()))
            if found != spec.mirrored:
                raise ConfigError(
                    f"{key}.{name}.mirrored={list(found)}: a mirror changes the sign of the "
                    f"channels {list(spec.mirrored)} of decode.{name}.channels={spec.channels}; "
                    "name these"
                )


def _geometry(view: View | None) -> dict[str, Any] | str | None:
    """Return how a view moves what it shows; its class where that cannot be told."""
    if view is None or isinstance(view, IdentityView):
        return None
    if getattr(view, "stream", None) is None:
        return type(view).__name__
    found = {name: getattr(view, name, None) for name in _GEOMETRY}
    scale = found["scale"]
    return {**found, "scale": None if scale is None else [float(one) for one in scale]}
