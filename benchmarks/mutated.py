"""What becomes of damaged videos: thousands of mutated files through a real labelling pass.

    OMP_NUM_THREADS=1 python benchmarks/mutated.py 3000

Small clips of several containers and codecs are made, and each file is one of them with flipped
bits, cut off, spliced with another, with blocks zeroed, replaced, swapped or repeated, with boxes
swapped or lying about their size, or with extreme numbers in its header; the seed decides all of
it. A pass reads them as it reads a bucket. It must not be aborted, every file must end with its
status exactly once, and no process may be left; the exit status is 1 where that is not so. Files
on which a reader raised what it should not, crashed or stalled are kept with --keep.
"""

import argparse
import json
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from mutations import write_files

from mke_ray.data.manifest import write_manifest
from mke_ray.data.sources import Decoded, Reader, SourceRow
from mke_ray.data.videos import VideosSource
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.labelling import LocalRunner, PassReport, run_pass
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.labels.unreadable import unreadable_samples
from mke_ray.labels.verify import verify
from mke_ray.schema import DecodeSpec, ManifestRow
from mke_ray.storage import open_root

UNIT_SIZE = 32
NUM_SLOWEST = 3
DECODE: dict[str, dict[str, Any]] = {
    "video": {"kind": "video", "num_frames": 8, "height": 48, "width": 48, "quality": 90},
    "audio": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 2.0},
}
BLAMED = ("crashed", "timeout", "io")


@dataclass(frozen=True, slots=True)
class LoggedSource:
    """Videos of a folder, whose reader notes what every read took and raised.

    Args:
        root: The folder.
        log: File to which a line is added after every read.
    """

    root: str
    log: str

    @property
    def videos(self) -> VideosSource:
        """The source itself."""
        return VideosSource(self.root, ["one", "other"])

    def rows(self) -> Iterable[SourceRow]:
        """Yield its rows."""
        return self.videos.rows()

    def reader(self, spec: DecodeSpec) -> "LoggedReader":
        """Return its reader."""
        return LoggedReader(self.videos.reader(spec), self.log)


@dataclass(frozen=True, slots=True)
class LoggedReader:
    """Reads with another reader and notes how it went."""

    reader: Reader
    log: str

    def read(self, row: ManifestRow) -> Decoded:
        """Return the arrays of one sample."""
        start_s = time.perf_counter()
        try:
            return self.reader.read(row)
        finally:
            raised = sys.exc_info()[0]
            line = {
                "key": row.key,
                "seconds": time.perf_counter() - start_s,
                "raised": raised.__name__ if raised else "",
            }
            with open(self.log, "a") as file:
                file.write(json.dumps(line) + "\n")


def main() -> None:
    """Mutate, pass, count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("number", type=int, nargs="?", default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout-s", type=float, default=20.0)
    parser.add_argument("--backend", default="pyav", help="decoder of the frames")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", help="folder for the files on which a reader failed badly")
    options = parser.parse_args()
    os.environ["SVT_LOG"] = "0"
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    before = set(psutil.Process().children(recursive=True))
    with tempfile.TemporaryDirectory(prefix="mutated-") as temporary:
        folder = Path(temporary)
        write_files(folder / "videos" / "unlabeled", options.number, options.seed)
        DECODE["video"]["backend"] = options.backend
        plan = new_plan(folder, options.timeout_s, options.threads)
        report = run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
        is_whole = print_counts(plan, report, options.number)
        print_reads(plan, report, folder, options.keep)
    left = set(psutil.Process().children(recursive=True)) - before
    print(f"processes left behind: {len(left)}")
    sys.exit(0 if is_whole and not left else 1)


def new_plan(folder: Path, timeout_s: float, num_threads: int) -> LabelPlan:
    """Return the plan of a pass over the mutated files that only reads them."""
    videos, log = str(folder / "videos"), str(folder / "log")
    manifest = write_manifest(
        open_root(str(folder / "run" / "manifest")),
        LoggedSource(videos, log).videos,
        unit_size=UNIT_SIZE,
    )
    plan = make_plan(
        open_root(str(folder / "run")),
        manifest=manifest,
        source={"_target_": "mutated.LoggedSource", "root": videos, "log": log},
        decode=DECODE,
        max_bad_fraction=1.0,
        num_threads=num_threads,
    )
    return replace(plan, limits=SampleLimits(timeout_s, 2 << 30))


def print_counts(plan: LabelPlan, report: PassReport, number: int) -> bool:
    """Print what became of the files; return whether each has exactly one row."""
    counts = report.counts
    found = verify(plan.samples, plan.manifest)
    print(f"{number} files in {report.wall_s:.0f} s, {counts.samples} rows, verified: {found.ok}")
    for status in ("ok", "partial", "bad", "retry"):
        print(f"  {status:<22}{getattr(counts, status):>6}")
    print("reasons of what is not ok")
    for reason, times in sorted(counts.reasons.items(), key=lambda one: -one[1]):
        print(f"  {reason:<22}{times:>6}")
    return found.ok and counts.samples == number


def print_reads(plan: LabelPlan, report: PassReport, folder: Path, keep: str | None) -> None:
    """Print what reading took, and every file on which a reader failed badly."""
    reads = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    seconds = sorted(one["seconds"] for one in reads)
    cuts = statistics.quantiles(seconds, n=1000)
    named = {"median": cuts[499], "90 %": cuts[899], "99 %": cuts[989], "99.9 %": cuts[998]}
    shown = "  ".join(f"{name} {1e3 * value:.1f}" for name, value in named.items())
    print(f"ms per file             {shown}  max {1e3 * seconds[-1]:.1f}")
    for one in sorted(reads, key=lambda read: -read["seconds"])[:NUM_SLOWEST]:
        print(f"  slowest               {one['seconds']:.2f} s  {one['key']}")
    print(f"raised                  {dict(Counter(one['raised'] or 'nothing' for one in reads))}")
    blamed = [
        one
        for one in unreadable_samples(plan.samples, plan.manifest, report.samples)
        if one.error.startswith(BLAMED)
    ]
    print(f"crashed, stalled or escaped: {len(blamed)}")
    for one in blamed:
        print(f"  {one.key}  {one.error}")
        if keep:
            os.makedirs(keep, exist_ok=True)
            shutil.copy(folder / "videos" / one.key, keep)


if __name__ == "__main__":
    main()
