"""Groups that lie in several splits, looked for once per content of the manifest."""

import json
from typing import Any

from mke_ray import __version__
from mke_ray.data.manifest import Manifest, shared_groups
from mke_ray.schema import Split, fingerprint
from mke_ray.storage import Root

GROUPS_NAME = "report/groups.json"


def known_shared_groups(root: Root, manifest: Manifest) -> list[str]:
    """Return, for a person, which splits have groups in common.

    The rows are read only where others are in use than when somebody looked last.

    Args:
        root: Root of the run, where the answer is kept with the report.
        manifest: Its manifest.
    """
    rows = fingerprint([__version__, manifest.digest(Split)])
    known = _read(root)
    if known.get("rows") != rows:
        known = {"rows": rows, "shared": [str(one) for one in shared_groups(manifest)]}
        root.write(GROUPS_NAME, json.dumps(known).encode())
    return known["shared"]


def _read(root: Root) -> dict[str, Any]:
    """Return the last answer, nothing where there is none."""
    try:
        return json.loads(root.read(GROUPS_NAME))
    except FileNotFoundError:
        return {}
