"""Small findings about a label store, found once for a root and kept as long as that store is."""

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

from mke_ray.schema import fingerprint
from mke_ray.storage import Root

STATISTICS_FOLDER = "label_statistics"
REFINE_FOLDER = "refine"
FINDINGS_FOLDERS = (STATISTICS_FOLDER, REFINE_FOLDER)

_LABELS = "of_labels"


def kept(folder: Root, made_of: list[Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was found before from the same things, or find it and keep it.

    Args:
        folder: Where it is kept.
        made_of: Plain data that it follows from, first the name of the label store.
        make: Finds it.
    """
    name = f"{fingerprint(made_of)}.json"
    if not folder.exists(name):
        folder.create(name, json.dumps({_LABELS: made_of[0], **make()}).encode())
    found = json.loads(folder.read(name))
    found.pop(_LABELS, None)
    return found


def orphaned_findings(root: Root, labels: Collection[str]) -> Iterator[str]:
    """Yield the files of findings about label stores that are not there any more.

    What an earlier version kept does not say of which store it is, and is left out.

    Args:
        root: Root of the run.
        labels: Names of the label stores that stay.
    """
    for folder in FINDINGS_FOLDERS:
        for name in list(root.names(folder)):
            if json.loads(root.read(name)).get(_LABELS, None) not in (None, *labels):
                yield name
