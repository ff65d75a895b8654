"""What parts are worth: reading all units in random order from parts against files of their own.

    OMP_NUM_THREADS=1 python benchmarks/compaction.py --units 400

Stores of samples (random bytes, as media are) and of labels are filled on a local disk and on a
real S3 server of this machine, read, compacted, and read again in another random order, by as many
threads as training uses, in turns. Shown are the files, the seconds of reading, their ratio (below
1: parts are faster), the requests per unit, the time to list the files, and what compacting took.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import s3fs
from local_s3 import BUCKET, local_s3

from mke_ray.data.manifest import UnitRef
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.index import Index
from mke_ray.labels.labelling import LocalRunner
from mke_ray.labels.store import UnitStore
from mke_ray.object_client import ObjectClient
from mke_ray.schema import LABELS_SCHEMA, samples_schema
from mke_ray.storage import Root, open_root

ROWS, PART_BYTES, NUM_THREADS = 32, 32 << 20, 4
NAMES = ("samples", "labels")


def main() -> None:
    """Print ratios for a local disk and for S3."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=400)
    parser.add_argument("--sample-kb", type=int, default=8, help="of media per sample")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mke-parts-") as folder:
        compare("local disk", open_root(folder), options)
    with local_s3():
        compare("S3", open_root(f"s3://{BUCKET}/parts"), options)


def compare(place: str, root: Root, options: argparse.Namespace) -> None:
    """Print a line per store."""
    stores = tuple(make_store(root, name, options) for name in NAMES)
    units = unit_names(options.units)
    refs = [UnitRef(unit, "", 0, "unlabeled", ROWS) for unit in units]
    before = [store.write_index(units) for store in stores]
    alone = [measure(*one, options.repetitions) for one in zip(stores, before, strict=True)]
    plan = CompactionPlan(root, stores)
    took_s = seconds(lambda: compact(plan, refs, before, LocalRunner(), part_bytes=PART_BYTES))
    after = [store.read_index() for store in stores]
    in_parts = [measure(*one, options.repetitions) for one in zip(stores, after, strict=True)]
    num_bytes = sum(sum(index.table.column("num_bytes").to_pylist()) for index in after)
    print(f"{place}: {num_bytes / 1e6:.0f} MB compacted in {took_s:.1f} s")
    for name, old, new in zip(NAMES, alone, in_parts, strict=True):
        print(
            f"  {name:<8} files {old['files']:.0f} -> {new['files']:.0f}   "
            f"read {old['read']:.2f} -> {new['read']:.2f} s, ratio {new['read'] / old['read']:.2f}"
            f"   requests per unit {old['requests']:.2f} -> {new['requests']:.2f}   "
            f"list {old['list']:.3f} -> {new['list']:.3f} s"
        )


def unit_names(num_units: int) -> list[str]:
    """Return ids of units, spread as hashes are."""
    rng = random.Random(0)
    return sorted(f"{rng.getrandbits(64):016x}" for _ in range(num_units))


def make_store(root: Root, name: str, options: argparse.Namespace) -> UnitStore:
    """Fill a store; several threads, since S3 answers slowly."""
    schema = samples_schema(["video"]) if name == "samples" else LABELS_SCHEMA
    store = UnitStore.open_or_create(root.child(name, "bench"), spec={}, schema=schema)
    rng = np.random.default_rng(0)

    def fill(unit: str) -> None:
        store.commit(unit, make_table(name, rng, options), {"split": "unlabeled"})

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(fill, unit_names(options.units)))
    return store


def make_table(name: str, rng: np.random.Generator, options: argparse.Namespace) -> pa.Table:
    """Return the rows of a unit."""
    columns: dict[str, Any] = {"sample_id": np.arange(ROWS), "status": ["ok"] * ROWS}
    if name == "labels":
        columns["logits"] = list(rng.standard_normal((ROWS, 10)).astype(np.float32))
        return pa.table(columns, schema=LABELS_SCHEMA)
    media = [[rng.bytes(options.sample_kb << 10)] for _ in range(ROWS)]
    columns |= {"error": [None] * ROWS, "video": media, "video_status": ["ok"] * ROWS}
    columns["video_signature"] = [rng.bytes(64) for _ in range(ROWS)]
    return pa.table(columns, schema=samples_schema(["video"]))


def measure(store: UnitStore, index: Index, repetitions: int) -> dict[str, float]:
    """Return files, seconds and requests of reading every unit in random order."""
    units, spent_s = index.units(), []
    with ThreadPoolExecutor(NUM_THREADS) as pool, Requests() as requests:
        for number in range(repetitions):
            random.Random(number).shuffle(units)
            spent_s.append(
                seconds(
                    lambda: list(
                        pool.map(lambda one: store.read(one, location=index.location(one)), units)
                    )
                )
            )
    folders = ("attempts", "parts")
    return {
        "files": len({file for _, _, file in index.entries()}),
        "read": statistics.median(spent_s),
        "requests": requests.number / (repetitions * len(units)),
        "list": seconds(lambda: [list(store.root.names(one)) for one in folders]),
    }


class Requests:
    """Counts what is asked of S3 inside a block, by either client."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "Requests":
        """Begin to count."""
        self._call, self._place = s3fs.S3FileSystem._call_s3, ObjectClient._place

        async def call(filesystem: Any, method: str, *args: Any, **more: Any) -> Any:
            self.number += 1
            return await self._call(filesystem, method, *args, **more)

        def place(client: ObjectClient, *args: Any, **more: Any) -> Any:  # once per request
            self.number += 1
            return self._place(client, *args, **more)

        self._patch(call, place)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop counting."""
        self._patch(self._call, self._place)

    def _patch(self, call: Any, place: Any) -> None:
        setattr(s3fs.S3FileSystem, "_call_s3", call)  # noqa: B010 - for the type checker
        setattr(ObjectClient, "_place", place)  # noqa: B010


def seconds(work: Callable[[], Any]) -> float:
    """Return how long some work takes."""
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    main()
