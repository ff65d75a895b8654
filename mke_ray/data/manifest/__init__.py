"""The manifest of a run: one row per sample, cut into units that are worked on as a whole."""

from mke_ray.data.manifest.evenly import evenly
from mke_ray.data.manifest.files import META, UnitRef
from mke_ray.data.manifest.groups import (
    SharedGroups,
    count_groups,
    group_sizes,
    shared_groups,
)
from mke_ray.data.manifest.marks import REASONS, Mark
from mke_ray.data.manifest.parts import manifest_row
from mke_ray.data.manifest.reading import Manifest
from mke_ray.data.manifest.writing import write_manifest

__all__ = [
    "META",
    "REASONS",
    "Manifest",
    "Mark",
    "SharedGroups",
    "UnitRef",
    "count_groups",
    "evenly",
    "group_sizes",
    "manifest_row",
    "shared_groups",
    "write_manifest",
]
