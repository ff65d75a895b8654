"""The labelling pass against process pools, Daft and decoding alone, on clips in a real S3 server.

    OMP_NUM_THREADS=1 python benchmarks/label.py --clips 300 3000 --repetitions 3 [--daft FOLDER]
    OMP_NUM_THREADS=1 python benchmarks/label.py --alone       # one process, no server
    OMP_NUM_THREADS=1 python benchmarks/label.py --relabel     # by another teacher
    OMP_NUM_THREADS=1 python benchmarks/label.py --memory 300 3000 30000

The clips are files of the demo in a SeaweedFS on loopback, some hundred distinct ones under as many
keys as asked for. Everybody fetches, decodes and encodes the same keys and asks the same teacher,
with two processes, in turns. The marginal rate is that of the clips between both sizes, so that no
start counts; the start is what is left of the time of the smaller size. Ratios are our rate over
theirs: 1 is as fast. The load of the machine matters to the clock, much less to the CPU time of all
processes but the server, which is beside it.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import label_again
import label_memory
import torch
from label_clips import (
    NUM_DISTINCT,
    ClipSet,
    clip_set,
    write_240p_clips,
    write_demo_clips,
    write_teachers,
)
from label_daft import daft_loop, import_daft
from label_rivals import NUM_WORKERS, VARIANTS, Tuning, decode_loop, plain_loop, pool_loop
from label_watch import watched
from local_s3 import BUCKET, LocalServer, local_s3

from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.labelling import LocalRunner, PassReport, run_pass
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.session import Session

OURS = "the pass"
STAGES = ("decode", "teacher", "write", "rest")

Contender = Callable[[ClipSet], float]


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast clips beyond the first ones are.

    Args:
        per_s: Clips per second of the clock.
        per_cpu_s: Clips per second of CPU time, of all processes but the server.
    """

    per_s: float
    per_cpu_s: float


def main() -> None:
    """Measure what is asked for."""
    options = _options()
    torch.set_num_threads(1)
    if options.stage:
        label_memory.run_stage(options.stage, options.folder)
    elif options.memory:
        label_memory.compare(options.memory)
    elif options.relabel:
        label_again.compare(options.relabel, seconds=options.seconds)
    elif options.alone:
        with tempfile.TemporaryDirectory() as folder:
            compare_alone(Path(folder), options.repetitions)
    else:
        with tempfile.TemporaryDirectory() as folder, local_s3() as server:
            compare(Path(folder), server, options)


def compare(folder: Path, server: LocalServer, options: argparse.Namespace) -> None:
    """Print the rates of all contenders, and the ratios of ours to each."""
    num_distinct = min(NUM_DISTINCT, max(options.clips))
    if options.large:
        files = write_240p_clips(folder / "large", num_distinct // 4, seconds=options.seconds)
    else:
        files = write_demo_clips(folder / "demo", num_distinct)
    contents = [file.read_bytes() for file in files]
    teachers = write_teachers(folder, 1)
    stores = f"s3://{BUCKET}/stores"
    sets = []
    for number in options.clips:
        server.fill(f"clips-{number}", number, contents)
        sets.append(clip_set(f"s3://{BUCKET}/clips-{number}", stores, teachers=teachers))
    print(f"{len(files)} distinct clips of {sum(map(len, contents)) / len(files) / 1e3:.0f} kB")
    wanted = {
        name: run
        for name, run in contenders(files, options).items()
        if name == OURS or not options.only or name.startswith(tuple(options.only))
    }
    rates: dict[str, list[Rate]] = {}
    for _ in range(options.repetitions):
        for name, run in wanted.items():
            rates.setdefault(name, []).append(measure(name, run, sets))
    first = next(iter(rates))
    for name, theirs in rates.items():
        pairs = list(zip(rates[first], theirs, strict=True))
        by_clock = spread([ours.per_s / one.per_s for ours, one in pairs])
        by_cpu = spread([ours.per_cpu_s / one.per_cpu_s for ours, one in pairs])
        print(f"{first} / {name:<32} {by_clock}   by CPU time {by_cpu}")


def contenders(files: Sequence[Path], options: argparse.Namespace) -> dict[str, Contender]:
    """Return who is measured: each runs over a set of clips and returns its seconds."""
    if options.tune:
        return {
            f"pool, {name}": functools.partial(pool_s, tuning=tuning)
            for name, tuning in VARIANTS.items()
        }
    found: dict[str, Contender] = {
        OURS: run_ours,
        "(a) pool, keeps nothing": lambda clips: pool_s(clips, Tuning()),
        "(a) pool, does not encode": lambda clips: pool_s(clips, Tuning(does_encode=False)),
        "(a') pool, plain Parquet files": lambda clips: pool_s(
            clips, Tuning(stores=clips.new_root())
        ),
        "(b) decoding alone, from memory": lambda clips: timed(
            time.perf_counter, lambda: decode_loop(files, clips.num_clips)
        )[0],
    }
    daft = import_daft(options.daft)
    if daft is None:
        print("(c) is left out: Daft is not installed; pip install --target FOLDER daft, --daft")
        return found
    found["(c) Daft, keeps nothing"] = lambda clips: timed(
        time.perf_counter, lambda: daft_loop(daft, clips, stores=None)
    )[0]
    found["(c) Daft, Parquet files"] = lambda clips: timed(
        time.perf_counter, lambda: daft_loop(daft, clips, stores=clips.new_root())
    )[0]
    return found


def measure(name: str, run: Contender, sets: Sequence[ClipSet]) -> Rate:
    """Print what a contender took and return its marginal rate."""
    took_s, cpu_s, by_role = [], [], []
    for clips in sets:
        with watched() as seen:
            took_s.append(run(clips))
        cpu_s.append(seen.own_cpu_s)
        by_role.append(dict(seen.cpu_s))
    num_few, num_all = sets[0].num_clips, sets[-1].num_clips
    more = num_all - num_few
    rate = Rate(more / (took_s[-1] - took_s[0]), more / (cpu_s[-1] - cpu_s[0]))
    start_s = took_s[0] - num_few / rate.per_s
    seconds = "  ".join(
        f"{clips.num_clips:,} in {one:6.1f} s" for clips, one in zip(sets, took_s, strict=True)
    )
    print(
        f"{name:<32} {seconds}  {rate.per_s:7.1f} clips/s  {1e3 / rate.per_cpu_s:6.1f} ms of CPU "
        f"per clip  start {start_s:5.1f} s",
        flush=True,
    )
    few, many = by_role[0], by_role[-1]
    spent = {role: 1e3 * (many[role] - few.get(role, 0.0)) / more for role in many}
    print("    of it", ", ".join(f"{role} {ms:.1f} ms" for role, ms in spent.items()), flush=True)
    return rate


def run_ours(clips: ClipSet) -> float:
    """Return the seconds of a pass to new stores, without those that Ray takes to start."""
    runner = RayDataRunner(ActorPool(min_actors=NUM_WORKERS, max_actors=NUM_WORKERS))
    with Session().connected():
        plan = clips.plan(clips.new_root())
        took_s, report = timed(time.perf_counter, lambda: run_pass(plan, clips.refs, runner))
    if report.counts.ok != clips.num_clips:
        raise RuntimeError(f"{report.counts} of {clips.num_clips} clips")
    return took_s


def pool_s(clips: ClipSet, tuning: Tuning) -> float:
    """Return the seconds of a pool."""
    took_s, number = timed(time.perf_counter, lambda: pool_loop(clips, tuning))
    if number != clips.num_clips:
        raise RuntimeError(f"{number} of {clips.num_clips} clips")
    return took_s


def compare_alone(folder: Path, repetitions: int) -> None:
    """Print the ratio of the rates of one process by CPU time, and where the pass spends time."""
    write_demo_clips(folder / "demo", NUM_DISTINCT)
    stores, teachers = str(folder / "stores"), write_teachers(folder, 1)
    clips = clip_set(str(folder / "demo"), stores, teachers=teachers)
    ratios, reports = [], []
    for _ in range(1 + repetitions):  # the first only warms up
        baseline_s, _ = timed(time.process_time, functools.partial(plain_loop, clips))
        plan = clips.plan(clips.new_root(), is_isolated=False)
        ours = functools.partial(run_pass, plan, clips.refs, LocalRunner())
        ours_s, report = timed(time.process_time, ours)
        ratios.append(baseline_s / ours_s)
        reports.append(report)
    print(f"one process, pass / plain loop          {spread(ratios[1:])}")
    for stage in STAGES:
        shares = [share(report, stage) for report in reports[1:]]
        print(f"share of the pass's time, {stage:<13} {spread(shares)}")


def timed(clock: Callable[[], float], work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that some work took, and what it returned."""
    start_s = clock()
    returned = work()
    return clock() - start_s, returned


def share(report: PassReport, stage: str) -> float:
    """Return a stage's share of a pass's time; ``rest`` is what no stage counts."""
    spent_s = report.rates.seconds.get(stage, report.wall_s - sum(report.rates.seconds.values()))
    return spent_s / report.wall_s


def spread(values: Sequence[float]) -> str:
    """Return least, median and greatest."""
    least, middle, greatest = min(values), statistics.median(values), max(values)
    return f"min {least:.3f}  median {middle:.3f}  max {greatest:.3f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, nargs=2, default=[300, 3000], help="both sizes")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--daft", help="folder in which Daft was installed")
    parser.add_argument("--only", nargs="*", help="beginnings of names of contenders, ours besides")
    parser.add_argument("--tune", action="store_true", help="variants of the pool alone")
    parser.add_argument("--alone", action="store_true", help="one process against a plain loop")
    parser.add_argument("--relabel", type=int, nargs="*", help="first pass against another teacher")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip of 240p")
    parser.add_argument("--large", action="store_true", help="clips of 240p, not of the demo")
    parser.add_argument("--memory", type=int, nargs="*", help="sizes of which memory is compared")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    found = parser.parse_args()
    if found.relabel is not None:
        found.relabel = found.relabel or [320, 3200]
    if found.memory is not None:
        found.memory = found.memory or [300, 3000, 30_000]
    if found.clips[0] >= found.clips[1]:
        parser.error("--clips needs the smaller size first")
    return found


if __name__ == "__main__":
    main()
