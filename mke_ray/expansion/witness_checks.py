"""Whether our student can be trained as the configuration says, before anything starts."""

import math

from mke_ray.config_labels import ExpansionConfig
from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError

ALL_TEACHERS = "all"
FIRST_TEACHER = "first"

_FROM_ZERO = (
    "witness_alpha",
    "alpha",
    "labelled_share",
    "paired_weight",
    "witness_paired_weight",
    "fallback_alpha",
)


def check_expansion(job: JobConfig) -> None:
    """Check the section ``expansion``, where it is used.

    Args:
        job: The configuration.

    Raises:
        ConfigError: It names the key and the way out.
    """
    if not job.expansion.enabled:
        return
    _check_numbers(job.expansion)
    if job.expansion.teachers not in (ALL_TEACHERS, FIRST_TEACHER):
        raise ConfigError(
            f"expansion.teachers={job.expansion.teachers!r}; choose {ALL_TEACHERS}, by which "
            f"more_teachers take part in refining, or {FIRST_TEACHER}"
        )
    if not set(job.student.encoders) - {job.teacher.modality}:
        raise ConfigError(
            f"objective=expansion: the student reads {sorted(job.student.encoders)} and the "
            f"teacher {job.teacher.modality}, so there is nothing to judge its labels by; add a "
            "modality to student.encoders, or choose objective=mke"
        )


def _check_numbers(keys: ExpansionConfig) -> None:
    """Refuse numbers that make no sense."""
    least = {"rounds": 1, "folds": 2, "members": 1}
    for key, low in least.items():
        if getattr(keys, key) < low:
            raise ConfigError(f"expansion.{key}={getattr(keys, key)}; give {low} or more")
    for key in _FROM_ZERO:
        value = getattr(keys, key)
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise ConfigError(f"expansion.{key}={value}; give a number from 0 upwards")
    if keys.label_kind not in (None, "soft", "hard"):
        raise ConfigError(f"expansion.label_kind={keys.label_kind!r}; choose soft, hard or null")
    if not keys.witness_steps > 0:
        raise ConfigError(f"expansion.witness_steps={keys.witness_steps}; give a share above 0")
    if not 0 <= (keys.modality_dropout or 0) < 1:
        raise ConfigError(
            f"expansion.modality_dropout={keys.modality_dropout}; give a share from 0 to below 1"
        )
