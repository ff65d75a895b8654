"""What ``scale.py`` measures without Ray: a manifest, a store of units, and the driver's books.

Every stage is a process of its own on a folder that stages before it filled. It reports the CPU
time of the stage alone, and how far the stage pushed the process's peak of memory.
"""

import itertools
import json
import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
from listing import peak_memory_mb
from manifest import UNIT_SIZE, Counter

from mke_ray.data.manifest import Manifest, UnitRef, write_manifest
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.file_names import ATTEMPTS, commit_name, new_file_name
from mke_ray.labels.labelling import LocalRunner
from mke_ray.labels.layout import plan_parts
from mke_ray.labels.lease import Lease
from mke_ray.labels.ray_runner import _blocks
from mke_ray.labels.store import UnitStore
from mke_ray.labels.tally import Tally
from mke_ray.labels.todo import units_to_do
from mke_ray.labels.tries import Tries
from mke_ray.labels.unit_report import UnitReport
from mke_ray.schema import DecodeSpec, LabelSpace, StatusCounts, samples_schema
from mke_ray.storage import Root, open_root

PART_BYTES = 16 << 20
NUM_WORKERS, THREADS_EACH = 1000, 4
MODALITIES = ("video", "audio")

Stage = Callable[[Root, int], Any]


def measured(stage: Stage, folder: str, number: int) -> dict[str, float]:
    """Return what a stage took: CPU seconds, mebibytes beyond the start, bytes of what is there."""
    root = open_root(folder)
    before_mb, start_s = peak_memory_mb(anew=True), time.process_time()
    kept = stage(root, number)  # what a driver would hold on to counts as well
    spent_s, peak_mb = time.process_time() - start_s, peak_memory_mb()
    del kept
    return {"cpu_s": spent_s, "peak_mb": peak_mb, "grown_mb": peak_mb - before_mb}


@dataclass(frozen=True, slots=True)
class Noting:
    """A source of numbered rows that notes what this process took when some of them were taken.

    Args:
        source: The rows.
        at: Numbers of rows at which to look.
        seen: What was found: rows, CPU seconds, and the peak of memory in mebibytes.
    """

    source: Counter
    at: Collection[int]
    seen: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def label_space(self) -> LabelSpace:
        """Two classes."""
        return self.source.label_space

    def identity(self) -> dict[str, Any]:
        """Return what tells the source from others."""
        return self.source.identity()

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing: there is nothing to make."""

    def reader(self, spec: DecodeSpec) -> Reader:
        """Refuse: there is nothing to read."""
        return self.source.reader(spec)

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows."""
        begun_s = time.process_time()
        for number, row in enumerate(self.source.rows(after)):
            if number in self.at:
                self.seen.append((number, time.process_time() - begun_s, peak_memory_mb()))
            yield row


def list_rows(folder: str, sizes: Sequence[int]) -> list[dict[str, float]]:
    """List a source, and return what this took by each of some numbers of its rows.

    One listing serves all sizes, since rows are streamed: what it took by row N is what a source
    of N rows takes, but for the last look for ids that occur twice.
    """
    before_mb, begun_s = peak_memory_mb(anew=True), time.process_time()
    noting = Noting(Counter(sizes[-1]), frozenset(sizes[:-1]))
    write_manifest(open_root(folder), noting, unit_size=UNIT_SIZE)
    last = (sizes[-1], time.process_time() - begun_s, peak_memory_mb())
    return [
        {"cpu_s": cpu_s, "peak_mb": peak_mb, "grown_mb": peak_mb - before_mb}
        for _, cpu_s, peak_mb in [*noting.seen, last]
    ]


def hold_units(root: Root, num_rows: int) -> list[UnitRef]:
    """Find the units of so many rows, as the driver of a pass holds them."""
    num_units = num_rows // UNIT_SIZE
    refs = list(itertools.islice(Manifest.open(root).unit_refs(), num_units))
    if len(refs) != num_units:
        raise RuntimeError("units are missing")
    return refs


def fill_store(root: Root, num_units: int) -> None:
    """Leave what workers leave of every unit, whose rows are the same: a file and a record."""
    store = UnitStore.open_or_create(root, spec={}, schema=samples_schema(MODALITIES))
    first, *others = unit_refs(num_units)
    store.commit(first.unit, _table(), {"split": first.split})
    record = store.record(first.unit)
    folder, content = Path(root.path()), root.read(record["file"])
    for ref in others:
        file = new_file_name(ATTEMPTS, ref.unit)
        place = folder / commit_name(ref.unit)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({**record, "unit": ref.unit, "file": file}))
        (folder / file).write_bytes(content)


def commit_units(root: Root, num_units: int) -> None:
    """Commit every unit, as workers do."""
    store = UnitStore.open_or_create(root, spec={}, schema=samples_schema(MODALITIES))
    table = _table()
    for ref in unit_refs(num_units):
        store.commit(ref.unit, table, {"split": ref.split})
    store.write_index([ref.unit for ref in unit_refs(num_units)])


def build_index(root: Root, num_units: int) -> Any:
    """Make the index of all commit records, as the end of a pass does."""
    return UnitStore.open(root).write_index([ref.unit for ref in unit_refs(num_units)])


def resume(root: Root, num_units: int) -> Any:
    """Find that nothing is left to do, as a job does that is started again."""
    refs = unit_refs(num_units)
    found = UnitStore.open(root).survey()
    if units_to_do(refs, found.index, []):
        raise RuntimeError("units are missing")
    return refs, found


def read_index(root: Root, num_units: int) -> Any:
    """Read the index, as every training worker does."""
    index = UnitStore.open(root).read_index()
    if len(index) != num_units:
        raise RuntimeError("units are missing")
    return index


def plan_compaction(root: Root, num_units: int) -> Any:
    """Decide which units lie together, as the driver of a compaction does."""
    index = UnitStore.open(root).read_index()
    return list(plan_parts(index, unit_refs(num_units), part_bytes=PART_BYTES))


def compact_store(root: Root, num_units: int) -> None:
    """Bring all units into parts, as workers do."""
    store = UnitStore.open(root)
    plan = CompactionPlan(root.child("run"), (store,))
    compact(plan, unit_refs(num_units), [store.read_index()], LocalRunner(), part_bytes=PART_BYTES)


def keep_books(root: Root, num_units: int) -> Any:
    """Take in the reports of a pass of 1,000 workers, as its driver does."""
    plan: Any = SimpleNamespace(root=root.child("books"), stores=(), max_bad_fraction=1.0)
    tally = Tally(
        plan, num_wanted=num_units * UNIT_SIZE, progress=lambda *_: None, cost_per_hour=1.0
    )
    tries, running = Tries(), [""] * (NUM_WORKERS * THREADS_EACH)
    with Lease(plan.root).held("label") as lease:
        for number, ref in enumerate(unit_refs(num_units)):
            place = number % len(running)
            tries.end(running[place])
            running[place] = f"unit {ref.unit}"
            tries.count(running[place])
            tries.begin(running[place])
            tally.add(UnitReport.from_json(_report(ref.unit).to_json()))
            lease.check()
    return tally


def hand_out(root: Root, num_units: int) -> Any:
    """Put units into the blocks that 1,000 workers are given."""
    del root
    return _blocks(cast(Sequence[Any], unit_refs(num_units)), NUM_WORKERS * THREADS_EACH)


ROWS_HELD = {"units held": hold_units}
UNIT_STAGES: dict[str, Stage] = {
    "fill": fill_store,
    "index": build_index,
    "resume": resume,
    "index read": read_index,
    "compaction planned": plan_compaction,
    "blocks": hand_out,
    "reports": keep_books,
}
WORKER_STAGES: dict[str, Stage] = {"commit": commit_units, "compaction": compact_store}


def unit_refs(num_units: int) -> list[UnitRef]:
    """Return units with ids spread as hashes are."""
    rng = random.Random(0)
    names = sorted(f"{rng.getrandbits(64):016x}" for _ in range(num_units))
    return [UnitRef(unit, "", 0, "unlabeled", UNIT_SIZE) for unit in names]


def bytes_below(folder: str) -> dict[str, int]:
    """Return the bytes below a folder, by the folder in it or the kind of file that they are in."""
    found: dict[str, int] = {}
    for place, _, names in os.walk(folder):
        top = Path(place).relative_to(folder).parts[:1]
        for name in names:
            kind = top[0] if top else name.split("-")[0]
            found[kind] = found.get(kind, 0) + Path(place, name).stat().st_size
    return found


def _table() -> pa.Table:
    """Return the rows of a unit whose media take no room."""
    rows: dict[str, Any] = {"sample_id": np.arange(UNIT_SIZE), "status": ["ok"] * UNIT_SIZE}
    rows["error"] = [None] * UNIT_SIZE
    for modality in MODALITIES:
        rows[modality] = [[b"1234"]] * UNIT_SIZE
        rows[f"{modality}_status"] = ["ok"] * UNIT_SIZE
        rows[f"{modality}_signature"] = [b"12345678"] * UNIT_SIZE
    return pa.table(rows, schema=samples_schema(MODALITIES))


def _report(unit: str) -> UnitReport:
    stages = ("fetch", "decode", "unpack", "teacher", "write")
    seconds: dict[str, float] = dict.fromkeys(stages, 0.1)
    return UnitReport(unit, StatusCounts(ok=UNIT_SIZE), seconds, 1000, 900, 320.0, 800, UNIT_SIZE)
