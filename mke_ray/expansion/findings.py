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
    if (found := known(folder, made_of)) is not None:
        return found
    made = json.dumps({_LABELS: made_of[0], **make()})
    folder.create(f"{fingerprint(made_of)}.json", made.encode())
    return _read(folder, made_of)


def known(folder: Root, made_of: list[Any]) -> dict[str, Any] | None:
    """Return what was found before from the same things, None where nobody looked.

    Args:
        folder: Where it is kept.
        made_of: Plain data that it follows from, first the name of the label store.
    """
    return _read(folder, made_of) if folder.exists(f"{fingerprint(made_of)}.json") else None


def _read(folder: Root, made_of: list[Any]) -> dict[str, Any]:
    """Return what is kept."""
    found = json.loads(folder.read(f"{fingerprint(made_of)}.json"))
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
