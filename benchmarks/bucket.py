"""Memory of driver and workers for a manifest of N and of 10 N keys of a real bucket.

    python benchmarks/bucket.py --keys 100000

A SeaweedFS on loopback holds the keys. Every stage is a process of its own, so that its peak is
its own: ``nothing`` is what the imports and one request take; ``half`` lists until half of the
rows are there and is interrupted; ``rest`` goes on; ``again`` lists the whole bucket and finds it
unchanged; ``driver`` goes through all units as a pass does; ``worker`` reads every tenth unit.
Prints the peak of resident memory of both sizes and their ratio.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from local_s3 import BUCKET, local_s3
from stages import measure, measure_all, show

from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.data.manifest.writing import PROGRESS
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.data.videos import VideosSource
from mke_ray.schema import DecodeSpec, LabelSpace
from mke_ray.storage import Root, open_root

UNIT_SIZE = 32
READ_EVERY = 10
TIMES = 10
LEAST_KEYS = 100_000  # an interrupted listing goes on behind its last part, of 32,768 rows


class MachineLostError(Exception):
    """The machine is gone."""


def main() -> None:
    """Fill the bucket, measure every stage at both sizes, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=LEAST_KEYS, help="%(default)s or more")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stage:
        print(json.dumps(run_stage(asked.stage, asked.folder, asked.keys)))
        return
    if asked.keys < LEAST_KEYS:
        parser.error(f"--keys={asked.keys}: half of fewer than {LEAST_KEYS} finish no part")
    sizes = (asked.keys, TIMES * asked.keys)
    with local_s3() as server:
        found = []
        for size in sizes:
            begun_s = time.perf_counter()
            server.fill(f"keys-{size}", size)
            print(f"{size:,} keys put in {time.perf_counter() - begun_s:.0f} s", flush=True)
            found.append(measure_all(__file__, STAGES, size="--keys", number=size))
    show(sizes, found, counted="keys")


def run_stage(stage: str, folder: str, num_keys: int) -> dict[str, float]:
    """Return what one stage took."""
    source = VideosSource(f"s3://{BUCKET}/keys-{num_keys}", ["cat", "dog"])
    return measure(lambda: STAGES[stage](open_root(folder), source, num_keys))


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A source whose reader ends after some rows.

    Args:
        source: The source.
        num_rows: After how many.
    """

    source: VideosSource
    num_rows: int

    @property
    def label_space(self) -> LabelSpace:
        """Those of the source."""
        return self.source.label_space

    def identity(self) -> dict[str, Any]:
        """Return that of the source."""
        return self.source.identity()

    def place(self) -> str:
        """Return that of the source."""
        return self.source.place()

    def prepare(self, progress: Progress | None = None) -> None:
        """Prepare the source."""
        self.source.prepare(progress)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Return that of the source."""
        return self.source.reader(spec)

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield some rows and end."""
        for number, row in enumerate(self.source.rows(after)):
            if number == self.num_rows:
                raise MachineLostError
            yield row


def _nothing(root: Root, source: VideosSource, num_keys: int) -> None:
    """Take the first row."""
    next(source.rows())


def _half(root: Root, source: VideosSource, num_keys: int) -> None:
    """List half of the bucket."""
    try:
        write_manifest(root, Interrupted(source, num_keys // 2), unit_size=UNIT_SIZE)
    except MachineLostError:
        return
    raise RuntimeError("nothing interrupted the listing")


def _rest(root: Root, source: VideosSource, num_keys: int) -> None:
    """Go on with the listing."""
    if not root.exists(PROGRESS):
        raise RuntimeError("there is no listing to go on with")
    manifest = write_manifest(root, source, unit_size=UNIT_SIZE)
    num_rows = sum(ref.num_rows for ref in manifest.unit_refs())
    if num_rows != num_keys:
        raise RuntimeError(f"{num_rows} rows of {num_keys} keys")


def _again(root: Root, source: VideosSource, num_keys: int) -> None:
    """List a bucket that did not change."""
    before = Manifest.open(root)
    if write_manifest(root, source, unit_size=UNIT_SIZE) != before:
        raise RuntimeError("the bucket did not change and the manifest did")


def _driver(root: Root, source: VideosSource, num_keys: int) -> None:
    """Go through all units."""
    for _ in Manifest.open(root).unit_refs():
        pass


def _worker(root: Root, source: VideosSource, num_keys: int) -> None:
    """Read every tenth unit."""
    manifest = Manifest.open(root)
    for number, ref in enumerate(manifest.unit_refs()):
        if number % READ_EVERY == 0:
            manifest.read_unit(ref)


STAGES: dict[str, Callable[[Root, VideosSource, int], None]] = {
    "nothing": _nothing,
    "half": _half,
    "rest": _rest,
    "again": _again,
    "driver": _driver,
    "worker": _worker,
}

if __name__ == "__main__":
    main()
