"""Which splits a run cannot do without."""

from collections.abc import Mapping

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError
from mke_ray.schema import Split


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
                f"{dict(counts)}. Give some rows that split, "
                "in the table or by folder"
            )
