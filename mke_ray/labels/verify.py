"""Proof that a store holds every row exactly once."""

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mke_ray.batching import batched
from mke_ray.data.manifest import Manifest, UnitRef
from mke_ray.errors import StoreError
from mke_ray.labels.files import row_facts
from mke_ray.labels.index import Index, digits_to_bytes
from mke_ray.labels.store import UnitStore
from mke_ray.labels.sweeping import unnamed_files

_NUM_THREADS = 8
_UNITS_PER_ROUND = 256


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one unit.

    Args:
        unit: Id of the unit.
        kind: ``missing``, ``damaged``, ``rows``, ``index``, ``shared``, ``stale`` or ``extra``.
        detail: What was found, for a person.
    """

    unit: str
    kind: str
    detail: str


@dataclass(slots=True)
class VerifyReport:
    """What a store was found to hold.

    Args:
        num_units: Units of the manifest that were looked at.
        num_rows: Rows that were compared with the manifest.
        num_orphans: Attempts and parts that no commit record names: harmless, left by killed
            workers.
        problems: What is wrong; empty for a store that holds every row exactly once.
    """

    num_units: int = 0
    num_rows: int = 0
    num_orphans: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every row is there exactly once."""
        return not self.problems


def verify(
    store: UnitStore,
    manifest: Manifest,
    *,
    splits: Iterable[str] | None = None,
    samples: UnitStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Compare a whole store with the manifest, row by row.

    Every unit must be committed once, its file must be the one that was committed, its sample ids
    must be those of the manifest in the same order, and the index must say the same.

    Args:
        store: A sample or label store.
        manifest: The manifest of its run.
        splits: Splits that the store should hold, all by default.
        samples: The sample store from which the store was computed; every unit must be of the
            samples that are there now.
        progress: Called with rows compared and rows to compare.
    """
    report = VerifyReport()
    num_rows = sum(ref.num_rows for ref in manifest.unit_refs(splits)) if progress else 0
    committed = store.committed()
    index = store.index()
    seen: set[str] = set()
    for refs in batched(manifest.unit_refs(splits), _UNITS_PER_ROUND):
        seen.update(ref.unit for ref in refs)
        report.num_units += len(refs)
        report.num_rows += sum(ref.num_rows for ref in refs)
        report.problems += [Problem(r.unit, "missing", "") for r in refs if r.unit not in committed]
        there = [ref for ref in refs if ref.unit in committed]
        report.problems += _problems_of(store, manifest, index, there)
        if progress is not None:
            progress(report.num_rows, num_rows)
    if splits is None:
        report.problems += [Problem(one, "extra", "") for one in sorted(committed - seen)]
    report.problems += _shared_places(index)
    if samples is not None:
        report.problems += _of_other_samples(index, samples.index())
    report.num_orphans = len(unnamed_files(store.root, index))
    return report


def _problems_of(
    store: UnitStore, manifest: Manifest, index: Index, refs: list[UnitRef]
) -> list[Problem]:
    """Check some units with several threads."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        found = pool.map(lambda ref: _check_unit(store, manifest, index, ref), refs)
        return list(itertools.chain.from_iterable(found))


def _check_unit(store: UnitStore, manifest: Manifest, index: Index, ref: UnitRef) -> list[Problem]:
    """Return what is wrong with one unit."""
    try:
        table = store.read(ref.unit, check_digest=True)
    except StoreError as error:
        return [Problem(ref.unit, "damaged", str(error))]
    problems = _check_rows(manifest, ref, table)
    location = store.find(ref.unit)
    facts = row_facts(table)
    digits = facts.get("status", "0" * table.num_rows)
    if index.location(ref.unit) != location or index.status(ref.unit).tobytes() != digits_to_bytes(
        digits
    ):
        problems.append(Problem(ref.unit, "index", f"the index differs from {location}"))
    return problems


def _check_rows(manifest: Manifest, ref: UnitRef, table: pa.Table) -> list[Problem]:
    """Compare the sample ids of a unit with the manifest's, in order."""
    wanted = np.array([row.sample_id for row in manifest.read_unit(ref)], np.int64)
    found = table.column("sample_id").to_numpy()
    if len(wanted) != len(found):
        return [Problem(ref.unit, "rows", f"{len(found)} rows, the manifest has {len(wanted)}")]
    differing = np.flatnonzero(wanted != found)
    if len(differing) == 0:
        return []
    row = int(differing[0])
    return [
        Problem(
            ref.unit,
            "rows",
            f"{len(differing)} rows differ; row {row} is sample {found[row]}, not {wanted[row]}",
        )
    ]


def _of_other_samples(index: Index, samples: Index) -> list[Problem]:
    """Return the units that were computed from samples that were read again since, or are gone."""
    problems = []
    for unit in index.units():
        now = samples.revision(unit) if unit in samples else None
        if now != index.of_revision(unit):
            detail = f"computed from revision {index.of_revision(unit)} of its samples, now {now}"
            problems.append(Problem(unit, "stale", detail))
    return problems


def _shared_places(index: Index) -> list[Problem]:
    """Return the units that lie at the same place as another."""
    places: dict[tuple[str, int], str] = {}
    problems = []
    for unit in index.units():
        location = index.location(unit)
        other = places.setdefault((location.file, location.offset), unit)
        if other != unit:
            problems.append(Problem(unit, "shared", f"lies where unit {other} lies"))
    return problems
