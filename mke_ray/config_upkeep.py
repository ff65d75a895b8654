"""The keys of jobs on finished runs: samples forgotten, stores collected, pages made again."""

from dataclasses import dataclass, field
from typing import Any

from mke_ray.config_schema import StorageConfig


@dataclass
class ForgetConfig:
    """What ``jobs/forget.py`` can be told.

    Args:
        root: Root of the run.
        uri: Key of a sample as the manifest has it (a path below the source's root, or a full
            URI), or a list of keys; all spans of it are forgotten.
        sample_ids: Samples by their ids.
        dry_run: Say what would be removed, and remove nothing.
        verbose: Log more.
        storage: How the stores are reached.
    """

    root: str = "???"
    uri: Any = field(default_factory=list)
    sample_ids: list[int] = field(default_factory=list)
    dry_run: bool = False
    verbose: bool = False
    storage: StorageConfig = field(default_factory=StorageConfig)


@dataclass
class CollectConfig:
    """What ``jobs/collect.py`` can be told.

    Args:
        root: Root of the run.
        ttl_days: Days for which a store of samples, labels, fits or predictions is kept after it
            was last used or written; the stores of the newest job are kept for ever.
        accept_unknown: Delete old stores that no job ever referred to as well; roots of versions
            that left no references hold no others.
        dry_run: Say what would be deleted, and delete nothing.
        verbose: Log more.
        storage: How the stores are reached.
    """

    root: str = "???"
    ttl_days: float = 30.0
    accept_unknown: bool = False
    dry_run: bool = False
    verbose: bool = False
    storage: StorageConfig = field(default_factory=StorageConfig)


@dataclass
class ReportConfig:
    """What ``jobs/report.py`` can be told.

    Args:
        roots: Root of a finished run, or a list of several; of one its page is made again, several
            are compared with the first. One that holds draws of the data (``data_seeds``) stands
            for all of them.
        out: Folder of a comparison.
        dry_run: Say what comes out, and write nothing.
        verbose: Log more.
        storage: How the stores are reached.
    """

    roots: Any = field(default_factory=list)
    out: str = "outputs/compared"
    dry_run: bool = False
    verbose: bool = False
    storage: StorageConfig = field(default_factory=StorageConfig)
