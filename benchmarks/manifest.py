"""Memory and speed of a manifest: its first listing, a refresh, and marks, at N and 10 N rows.

    python benchmarks/manifest.py [--rows 100000]

Each measurement is a process of its own, so that its peak is its own. The rows come from a counter,
so nothing but the manifest is measured. Prints the peak of resident memory at both sizes, and their
ratio.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stages import measure, measure_all, show

from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.schema import DecodeSpec, LabelSpace
from mke_ray.storage import Root, open_root

UNIT_SIZE = 32
CHANGED_EVERY = 1000  # one row in so many is changed, one is deleted, one is new


@dataclass(frozen=True, slots=True)
class Counter:
    """A source of numbered rows.

    Args:
        num_rows: How many.
        is_later: Whether some were changed, deleted and added since.
    """

    num_rows: int
    is_later: bool = False

    @property
    def label_space(self) -> LabelSpace:
        """Two classes."""
        return LabelSpace(("a", "b"))

    def identity(self) -> dict[str, Any]:
        """Return what tells the source from others."""
        return {"source": "counter"}

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing: there is nothing to make."""

    def reader(self, spec: DecodeSpec) -> Reader:
        """Refuse: there is nothing to read."""
        raise NotImplementedError

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows."""
        for number in range(int(after or -1) + 1, self.num_rows):
            kind = number % CHANGED_EVERY if self.is_later else -1
            if kind != 0:
                yield _row(number, etag="later" if kind == 1 else "first")
            if kind == 2:
                yield _row(number + self.num_rows, etag="new")


def main() -> None:
    """Measure every stage at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--stage", choices=list(STAGES))
    parser.add_argument("--folder")
    asked = parser.parse_args()
    if asked.stage:
        stage, root = STAGES[asked.stage], open_root(asked.folder)
        print(json.dumps(measure(lambda: stage(root, asked.rows))))
        return
    sizes = (asked.rows, 10 * asked.rows)
    found = [measure_all(__file__, STAGES, size="--rows", number=size) for size in sizes]
    show(sizes, found, counted="rows")


def _nothing(root: Root, num_rows: int) -> None:
    """Do nothing: what the imports alone take."""


def _first(root: Root, num_rows: int) -> None:
    """List a source for the first time."""
    write_manifest(root, Counter(num_rows), unit_size=UNIT_SIZE)


def _unchanged(root: Root, num_rows: int) -> None:
    """Refresh from a source that did not change."""
    before = Manifest.open(root)
    assert write_manifest(root, Counter(num_rows), unit_size=UNIT_SIZE) == before


def _changed(root: Root, num_rows: int) -> None:
    """Refresh from a source that changed."""
    manifest = write_manifest(root, Counter(num_rows, is_later=True), unit_size=UNIT_SIZE)
    each = num_rows // CHANGED_EVERY
    assert manifest.meta["marked"] == {"changed": each, "deleted": each}


def _units(root: Root, num_rows: int) -> None:
    """Go through all units."""
    assert sum(ref.num_rows for ref in Manifest.open(root).unit_refs()) >= num_rows


STAGES = {
    "nothing": _nothing,
    "first": _first,
    "unchanged": _unchanged,
    "changed": _changed,
    "units": _units,
}


def _row(number: int, etag: str) -> SourceRow:
    """Return a numbered row."""
    key = f"unlabeled/folder-{number % 97:03d}/clip-{number:09d}.mp4"
    split = "test" if number % 100 == 0 else "unlabeled"
    return SourceRow(key, 4096, etag, None, None, key, split, None, str(number))


if __name__ == "__main__":
    main()
