"""The key teacher.average_views: the teacher of a run answers by the mean over some views."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from mke_ray.config_schema import TeacherConfig
from mke_ray.errors import ConfigError, StoreError
from mke_ray.models.averaged import (
    FLIP,
    IDENTITY,
    SPATIAL_CROPS,
    TEMPORAL_CROPS,
    Views,
    needs_of,
    parsed_views,
)
from mke_ray.models.teachers import Teacher, check_needs
from mke_ray.schema import DecodeSpec, LabelKind

KEY = "teacher.average_views"
AVERAGED = "mke_ray.models.averaged.ViewAveragedTeacher"


def averaged(config: TeacherConfig, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the teacher of a run is built from: one that averages, where that is asked for.

    Args:
        config: The section ``teacher``.
        spec: What the teacher itself is built from.
    """
    if not config.average_views:
        return dict(spec)
    views = [IDENTITY, *config.average_views]
    return {"_target_": AVERAGED, "teacher": dict(spec), "views": views}


def views_of(config: TeacherConfig, needs: Mapping[str, Any]) -> tuple[Views, ...]:
    """Return the views that are averaged, the stored array itself among them.

    Args:
        config: The section ``teacher``.
        needs: What the teacher needs.

    Raises:
        ConfigError: One is unknown, or not one of what the teacher reads.
    """
    try:
        return parsed_views([IDENTITY, *config.average_views], needs)
    except ConfigError as error:
        raise ConfigError(f"{KEY}={config.average_views}: {error}") from None


def check_average_views(
    config: TeacherConfig, needs: Mapping[str, Any], decode: DecodeSpec, kind: str
) -> None:
    """Refuse views that do not fit what the teacher reads, or its labels.

    Args:
        config: The section ``teacher``.
        needs: What the teacher needs.
        decode: What is stored of every modality.
        kind: Kind of labels.

    Raises:
        ConfigError: It names the key and the way out.
    """
    if not config.average_views:
        return
    views = views_of(config, needs)
    found = [one.type for one in views]
    if found.count(IDENTITY) > 1:
        raise ConfigError(f"{KEY}: {IDENTITY} is always among the views; leave it out")
    if kind == LabelKind.DENSE and {SPATIAL_CROPS, TEMPORAL_CROPS} & set(found):
        raise ConfigError(f"{KEY}={config.average_views}: labels of pixels allow {FLIP} alone")
    if config.train and config.flip_average and FLIP in found:
        raise ConfigError(
            f"{KEY}={config.average_views}: teacher.flip_average=true averages the mirror already; "
            "leave one of them out"
        )
    wanted = SimpleNamespace(modality=config.modality, needs=needs_of(views, needs))
    try:
        check_needs(cast(Teacher, wanted), decode)
    except StoreError as error:
        raise ConfigError(f"{KEY}={config.average_views}: {error}") from None
