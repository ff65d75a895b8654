"""What sources share that make their own files: the settings of a folder, and a count of files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mke_ray.data.sources import Progress
from mke_ray.errors import ConfigError
from mke_ray.storage import Root


def claim(root: Root, identity: Mapping[str, Any], *, settings: str, key: str) -> None:
    """Write the settings of a made data set into its folder, or check those that are there.

    Args:
        root: The folder.
        identity: What determines every file.
        settings: Name of the file of settings.
        key: Configuration key of the folder, for the error.

    Raises:
        ConfigError: The folder holds a set with other settings.
    """
    content = json.dumps(identity, indent=1, sort_keys=True).encode()
    if root.create(settings, content) or root.read(settings) == content:
        return
    raise ConfigError(
        f"{key}={root.uri} holds a {identity['source']} with other settings ({settings} there); "
        f"choose another {key} or the same settings"
    )


@dataclass(slots=True)
class FileCounter:
    """Counts what is done for a progress bar.

    Args:
        num_done: Files that are there.
        num_total: Files in all.
        progress: Called with both; None is told nothing.
    """

    num_done: int
    num_total: int
    progress: Progress | None

    def add(self, number: int) -> None:
        """Count some more files."""
        self.num_done += number
        if self.progress is not None:
            self.progress(self.num_done, self.num_total)
