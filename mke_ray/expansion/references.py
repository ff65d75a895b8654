"""Which stores of a root the jobs refer to: a small file per set of stores, with its last use."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from mke_ray.evaluation.predictions import PREDICTIONS_FOLDER
from mke_ray.schema import fingerprint
from mke_ray.storage import Root

FOLDER = "references"
STORE_FOLDERS = ("samples", "labels", "fits", PREDICTIONS_FOLDER)

_SECONDS_BETWEEN_WRITES = 3600.0


@dataclass(frozen=True, slots=True)
class Reference:
    """Stores that jobs use together.

    Args:
        job: Name of the job that used them last.
        used_s: When, seconds since 1970.
        stores: Folders below the root, for example ``samples/1f0c...``.
    """

    job: str
    used_s: float
    stores: tuple[str, ...]


def refer(root: Root, job: str, stores: Iterable[str]) -> None:
    """Record that a job uses some stores, now.

    Stages do it before they work, so that what an interrupted one leaves is known too. A reference
    of the last hour that names them all is enough; those of the job that name fewer are replaced.

    Args:
        root: Root of the run.
        job: Name of the job.
        stores: Folders below the root.
    """
    now_s, wanted, known = time.time(), frozenset(stores), dict(references(root))
    if any(
        wanted.issubset(one.stores) and now_s - one.used_s < _SECONDS_BETWEEN_WRITES
        for one in known.values()
    ):
        return
    names = sorted(wanted)
    own_name = f"{FOLDER}/{fingerprint(names)}.json"
    content = json.dumps(asdict(Reference(job, now_s, tuple(names))), indent=1)
    root.write(own_name, content.encode())
    for name, one in known.items():
        if one.job == job and wanted.issuperset(one.stores) and name != own_name:
            root.delete(name)


def references(root: Root) -> Iterator[tuple[str, Reference]]:
    """Yield the references of a root with the names of their files."""
    for name in list(root.names(FOLDER)):
        plain = json.loads(root.read(name))
        yield name, Reference(plain["job"], plain["used_s"], tuple(plain["stores"]))
