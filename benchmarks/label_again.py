"""Labelling stored samples by another teacher, against the first pass over 240p clips."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from label_clips import ClipSet, clip_set, write_240p_clips, write_teachers
from label_rivals import NUM_WORKERS
from label_watch import watched
from local_s3 import BUCKET, LocalServer, local_s3

from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.labelling import PassReport, Runner, run_pass
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.labels.store import UnitStore
from mke_ray.session import Session

_NUM_DISTINCT = 64


def compare(sizes: Sequence[int], *, seconds: float) -> None:
    """Print both marginal rates and their ratio, with stores on local disk and in S3.

    Args:
        sizes: How many clips, the smaller number first.
        seconds: Length of a clip.
    """
    with tempfile.TemporaryDirectory() as temporary, local_s3() as server:
        folder = Path(temporary)
        files = write_240p_clips(folder / "clips", _NUM_DISTINCT, seconds=seconds)
        contents = [file.read_bytes() for file in files]
        teachers = write_teachers(folder, 2)
        print(f"{len(files)} clips of {sum(map(len, contents)) / len(files) / 1e3:.0f} kB")
        for name, stores in (("disk", str(folder / "stores")), ("S3", f"s3://{BUCKET}/stores")):
            _compare_on(name, stores, server, sizes=sizes, contents=contents, teachers=teachers)


def _compare_on(
    name: str,
    stores: str,
    server: LocalServer,
    *,
    sizes: Sequence[int],
    contents: Sequence[bytes],
    teachers: Sequence[str],
) -> None:
    """Print the rates with stores at one place."""
    runner = RayDataRunner(ActorPool(min_actors=NUM_WORKERS, max_actors=NUM_WORKERS))
    first, again = [], []
    with Session().connected():
        for number in sizes:
            prefix = f"{name}-{number}"
            server.fill(prefix, number, contents)
            clips = clip_set(f"s3://{BUCKET}/{prefix}", stores, teachers=teachers)
            root = clips.new_root()
            first.append(_pass_s(clips, root, runner, teacher=0))
            nowhere = replace(clips, source=f"s3://{BUCKET}/nowhere")
            again.append(_pass_s(nowhere, root, runner, teacher=1))
            _check_same_labels(nowhere, root, runner)
    more = sizes[-1] - sizes[0]
    first_s, first_cpu_s = np.subtract(first[-1], first[0]) / more
    again_s, again_cpu_s = np.subtract(again[-1], again[0]) / more
    print(
        f"stores on {name:<5} first pass {1 / first_s:7.1f} clips/s, {1e3 * first_cpu_s:6.2f} ms "
        f"of CPU time each   by another teacher {1 / again_s:8.1f} clips/s, "
        f"{1e3 * again_cpu_s:6.2f} ms   ratio {first_s / again_s:5.1f} by the clock, "
        f"{first_cpu_s / again_cpu_s:5.1f} by CPU time",
        flush=True,
    )


def _pass_s(clips: ClipSet, root: str, runner: Runner, *, teacher: int) -> tuple[float, float]:
    """Return the seconds of a pass, and those of CPU time of all processes but the server."""
    plan = clips.plan(root, teacher=teacher)
    begun_s = time.perf_counter()
    with watched() as seen:
        report: PassReport = run_pass(plan, clips.refs, runner)
        took_s = time.perf_counter() - begun_s
    if report.counts.ok != clips.num_clips or report.num_units_run != len(clips.refs):
        raise RuntimeError(f"{report.counts} of {clips.num_clips} clips")
    if teacher and report.rates.num_bytes_read:
        raise RuntimeError(f"{report.rates.num_bytes_read} bytes of the source were read")
    return took_s, seen.own_cpu_s


def _check_same_labels(clips: ClipSet, root: str, runner: Runner) -> None:
    """Delete the labels of the first teacher, make them again of what is stored, and compare."""
    labels = clips.plan(root).teachers[0].labels
    before = _digests(labels)
    for name in list(labels.root.names()):
        labels.root.delete(name)
    run_pass(clips.plan(root), clips.refs, runner)
    if not before or _digests(labels) != before:
        raise RuntimeError("labels of the same teacher differ")


def _digests(labels: UnitStore) -> dict[str, str]:
    """Return the digest of the file of every unit."""
    return {unit: labels.record(unit)["digest"] for unit in sorted(labels.committed())}
