"""Which splits a run cannot do without."""

from collections.abc import Mapping
from typing import Any

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError
from mke_ray.schema import Split

_SHARES = ("splits", *(f"{before}{one.value}" for one in Split for before in ("", "num_")))


def check_needed_splits(job: JobConfig, counts: Mapping[str, int]) -> None:
    """Refuse data that the last stages could do nothing with.

    Args:
        job: The configuration.
        counts: Samples by split.

    Raises:
        ConfigError: A split is missing.
    """
    needed = [Split.UNLABELED, Split.TEST]
    needed += [Split.LABELLED] if job.teacher.train else []
    for split in needed:
        if not counts.get(split):
            raise ConfigError(
                f"source: there are no rows with split={split}; the source has "
                f"{dict(counts)}. {_way_out(job.source)}"
            )


def _way_out(source: Mapping[str, Any]) -> str:
    """Say where rows get another split: by keys of the source where it draws them, else in it."""
    drawn = [f"source.{one}={source[one]}" for one in _SHARES if source.get(one) is not None]
    if not drawn:
        return "Give some rows that split, in the table or by folder"
    return f"The splits are drawn by {', '.join(drawn)}: change these so that it gets some rows"
