"""Deletes the stores of a root that nobody refers to any more, and what killed workers left."""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mke_ray.config_upkeep import CollectConfig
from mke_ray.data.manifest import META
from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion.findings import orphaned_findings
from mke_ray.expansion.references import STORE_FOLDERS, Reference, references
from mke_ray.labels.file_names import ATTEMPTS, SPEC_FILE, unit_of_file
from mke_ray.labels.indexing import outdated_indexes, survey
from mke_ray.labels.lease import Lease
from mke_ray.labels.stored_files import StoredFile, stored_files
from mke_ray.labels.sweeping import (
    delete_all,
    delete_unnamed_attempts,
    delete_unnamed_parts,
    unnamed_files,
)
from mke_ray.storage import Root, open_root
from mke_ray.train.fits import DONE

_SECONDS_PER_DAY = 86_400.0
_MB = 1e6
_FIRST = (SPEC_FILE, DONE)
_LABELS = "labels/"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StoreUse:
    """A store below a root.

    Args:
        name: Its folder, for example ``labels/1f0c...``.
        files: Its files.
        used_s: When it was last written or referred to, seconds since 1970.
        jobs: Names of the jobs that refer to it.
        verdict: ``kept``, ``unknown`` (kept, since no job ever referred to it) or ``deleted``.
        why: Why, for a person.
    """

    name: str
    files: list[StoredFile] = field(default_factory=list)
    used_s: float = 0.0
    jobs: list[str] = field(default_factory=list)
    verdict: str = "kept"
    why: str = ""

    @property
    def num_bytes(self) -> int:
        """Bytes of its files."""
        return sum(one.num_bytes for one in self.files)


@dataclass(frozen=True, slots=True)
class Collected:
    """What was found and deleted.

    Args:
        stores: All stores with what became of them.
        num_swept: Files of killed workers and outdated indexes, in stores that stay, and findings
            about label stores that do not, that were deleted.
    """

    stores: tuple[StoreUse, ...]
    num_swept: int

    @property
    def deleted(self) -> tuple[StoreUse, ...]:
        """Stores that were deleted."""
        return tuple(one for one in self.stores if one.verdict == "deleted")


def collect(jobs: Sequence[CollectConfig]) -> None:
    """Delete what nobody refers to in the roots of some jobs, and say what was freed."""
    for job in jobs:
        root = open_root(job.root, job.storage.options, patience_s=job.storage.patience_s)
        found = collect_root(
            root,
            ttl_days=job.ttl_days,
            accept_unknown=job.accept_unknown,
            is_dry_run=job.dry_run,
        )
        _say(root, found, is_dry_run=job.dry_run)


def collect_root(
    root: Root,
    *,
    ttl_days: float,
    accept_unknown: bool = False,
    is_dry_run: bool = False,
) -> Collected:
    """Delete the stores that were neither used nor written for some days.

    Manifest, student, report and gate are never looked at, and the stores that the newest
    reference names are kept however old it is.

    Args:
        root: Root of the run.
        ttl_days: Days after its last use from which a store is deleted.
        accept_unknown: Delete stores as old that no job ever referred to as well, such as those of
            versions that left no references.
        is_dry_run: Only look.

    Raises:
        ConfigError: ``ttl_days`` is negative.
        StoreError: There is no run at the root, or another driver works on it.
    """
    if ttl_days < 0:
        raise ConfigError(f"ttl_days={ttl_days}; give the days that a store is kept, 0 or more")
    if not root.exists(f"manifest/{META}"):
        raise StoreError(f"root={root.uri} holds no finished manifest, so no run; correct root")
    if is_dry_run:
        return _collect(root, time.time() - ttl_days * _SECONDS_PER_DAY, accept_unknown, None)
    with Lease(root).held("collect") as lease:
        return _collect(root, time.time() - ttl_days * _SECONDS_PER_DAY, accept_unknown, lease)


def _collect(root: Root, oldest_s: float, accept_unknown: bool, lease: Lease | None) -> Collected:
    """Judge every store, delete, and sweep the others; without a lease only look."""
    known = dict(references(root))
    stores = _stores(root)
    newest = max(known.values(), key=lambda one: one.used_s, default=None)
    for one in stores:
        _judge(one, known.values(), newest, oldest_s=oldest_s, accept_unknown=accept_unknown)
    orphaned = list(orphaned_findings(root, _labels_that_stay(stores)))
    if lease is None:
        return Collected(tuple(stores), _num_unnamed(root, stores) + len(orphaned))
    for one in stores:
        lease.check(now=True)
        if one.verdict == "deleted":
            _delete_store(root, one)
    for name, reference in known.items():
        if reference is not newest and reference.used_s < oldest_s:
            root.delete(name)
    lease.check(now=True)
    delete_all(root, orphaned)
    return Collected(tuple(stores), _sweep(root, stores, oldest_s=oldest_s) + len(orphaned))


def _labels_that_stay(stores: Iterable[StoreUse]) -> set[str]:
    """Return the names of the label stores that are not deleted."""
    return {
        one.name.removeprefix(_LABELS)
        for one in stores
        if one.name.startswith(_LABELS) and one.verdict != "deleted"
    }


def _stores(root: Root) -> list[StoreUse]:
    """Return the stores below a root with their files."""
    stores: dict[str, StoreUse] = {}
    for folder in STORE_FOLDERS:
        for file in stored_files(root, folder):
            parts = file.name.split("/")
            if len(parts) < 3:
                continue  # a file beside the stores is none of ours
            store = stores.setdefault("/".join(parts[:2]), StoreUse("/".join(parts[:2])))
            store.files.append(file)
            store.used_s = max(store.used_s, file.written_s)
    return list(stores.values())


def _judge(
    store: StoreUse,
    known: Iterable[Reference],
    newest: Reference | None,
    *,
    oldest_s: float,
    accept_unknown: bool,
) -> None:
    """Decide what becomes of a store."""
    mine = [one for one in known if store.name in one.stores]
    store.jobs = sorted({one.job for one in mine})
    store.used_s = max([store.used_s, *(one.used_s for one in mine)])
    if newest is not None and store.name in newest.stores:
        store.why = "the newest reference names it"
    elif store.used_s >= oldest_s:
        store.why = "it was used or written within ttl_days"
    elif not mine and not accept_unknown:
        store.verdict, store.why = "unknown", "no job ever referred to it; accept_unknown=true"
    else:
        store.verdict, store.why = "deleted", "no reference within ttl_days names it"


def _delete_store(root: Root, store: StoreUse) -> None:
    """Delete the files of a store, first the one that makes it a store.

    Without it nobody opens what is left, should this process be killed here: a store without its
    ``spec.json`` and a fit without its ``done.json`` are not there.
    """
    for name in _FIRST:
        root.delete(f"{store.name}/{name}")
    delete_all(root, [one.name for one in store.files])
    root.delete_empty_folders(store.name)


def _sweep(root: Root, stores: Iterable[StoreUse], *, oldest_s: float) -> int:
    """Delete what killed workers left in the stores that stay, and indexes that newer ones replace.

    Returns:
        How many files were deleted.
    """
    num_swept = 0
    for use, store in _unit_stores(root, stores):
        index = survey(store).index
        old = {
            one.name.removeprefix(f"{use.name}/") for one in use.files if one.written_s < oldest_s
        }
        attempts = [name for name in store.names(ATTEMPTS) if name in old]
        lost = [name for name in attempts if unit_of_file(name) not in index]
        delete_all(store, lost)  # of units that nobody works at any more
        swept = [*delete_unnamed_parts(store), *delete_unnamed_attempts(store, index)]
        outdated = old.intersection(outdated_indexes(store))  # a reader may have one of late open
        delete_all(store, outdated)
        num_swept += len(lost) + len(swept) + len(outdated)
    return num_swept


def _num_unnamed(root: Root, stores: Iterable[StoreUse]) -> int:
    """Count the files of rows that no commit record names, in the stores that stay."""
    kept = (store for _, store in _unit_stores(root, stores))
    return sum(len(unnamed_files(store, survey(store).index)) for store in kept)


def _unit_stores(root: Root, stores: Iterable[StoreUse]) -> Iterator[tuple[StoreUse, Root]]:
    """Yield the stores of units that stay, with their folders."""
    for one in stores:
        is_of_units = any(file.name == f"{one.name}/{SPEC_FILE}" for file in one.files)
        if one.verdict != "deleted" and is_of_units:
            yield one, root.child(one.name)


def _say(root: Root, found: Collected, *, is_dry_run: bool) -> None:
    """Log what became of every store and what was freed."""
    now_s = time.time()
    for one in found.stores:
        verdict = "would be deleted" if is_dry_run and one.verdict == "deleted" else one.verdict
        logger.info(
            "%s: %s, %.1f MB, last used %.1f days ago, referred to by %s; %s",
            one.name,
            verdict,
            one.num_bytes / _MB,
            (now_s - one.used_s) / _SECONDS_PER_DAY,
            ", ".join(one.jobs) or "nobody",
            one.why,
        )
    logger.info(
        "%s: %s %.1f MB of %d stores, and %d files of killed workers, outdated indexes or findings "
        "about deleted labels",
        root.uri,
        "would free" if is_dry_run else "freed",
        sum(one.num_bytes for one in found.deleted) / _MB,
        len(found.deleted),
        found.num_swept,
    )
