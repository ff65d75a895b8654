"""What the stores cost: the labelling pass against a plain loop that keeps nothing.

    OMP_NUM_THREADS=1 python benchmarks/label.py --clips 200 --repetitions 3 --ray

The plain loop fetches, decodes and encodes the same clips and gives the same teacher the frames
that it decoded; the pass stores what it encoded and gives the teacher what is stored. A ratio is
the pass's rate over the loop's rate, in turns in one run: 1 means that storing is free. In one
process the rate is clips per CPU-second. With --ray two actors meet a pool of two processes, in
clips per second of the clock between a quarter of the units and all of them, so that neither
start counts; the load of the machine does. Shares are of the clock.
"""

import argparse
import functools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from mke_ray.data.codec import encode_modality
from mke_ray.data.demo import DemoSource
from mke_ray.data.manifest import Manifest, UnitRef, write_manifest
from mke_ray.data.media import decode_clip
from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.labelling import LocalRunner, PassReport, run_pass
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.models.student import build_student
from mke_ray.models.teachers import StudentTeacher
from mke_ray.models.weights import save_student
from mke_ray.schema import Split, decode_spec_from_dict
from mke_ray.session import Session
from mke_ray.storage import open_root

CONF = Path(__file__).parents[1] / "conf"
UNIT_SIZE = 32
NUM_WORKERS = 2


@dataclass(frozen=True, slots=True)
class Bench:
    """Clips, their units, a teacher, and a folder in which every pass gets stores of its own."""

    folder: Path
    source: str
    teacher: str
    manifest: Manifest
    refs: list[UnitRef]

    def paths(self, ref: UnitRef) -> list[str]:
        """Return the files of a unit's clips."""
        return [f"{self.source}/{row.key}" for row in self.manifest.read_unit(ref)]


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="also two actors against two processes")
    options = parser.parse_args()
    if options.ray and options.clips <= NUM_WORKERS * UNIT_SIZE:
        parser.error(f"--ray needs more than --clips {NUM_WORKERS * UNIT_SIZE}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        bench = make_bench(Path(temporary), options.clips)
        compare_alone(bench, options.repetitions)
        if options.ray:
            with Session().connected():
                compare_in_parallel(bench, options.repetitions)


def make_bench(folder: Path, num_clips: int) -> Bench:
    """Make the clips, their manifest and a teacher that was never trained."""
    others: dict[str, Any] = {"num_labelled": 1, "num_probe": 1, "num_test": 1, "num_broken": 0}
    source = DemoSource(str(folder / "source"), num_unlabeled=num_clips, **others)
    source.prepare()
    manifest = write_manifest(open_root(str(folder / "manifest")), source, unit_size=UNIT_SIZE)
    encoders = {"video": load("student/demo.yaml")["encoders"]["video"]}
    spec = {"encoders": encoders, "fusion": {"type": "concat"}, "head_hidden": [], "dropout": 0.0}
    torch.manual_seed(0)
    student = build_student(spec, source.label_space.num_classes).eval()
    save_student(folder / "teacher", student, spec=spec, label_space=source.label_space)
    refs = list(manifest.unit_refs([Split.UNLABELED]))
    return Bench(folder, source.root, str(folder / "teacher"), manifest, refs)


def compare_alone(bench: Bench, repetitions: int) -> None:
    """Print the ratio of the rates of one process, and where the pass spends its time."""
    ratios, reports = [], []
    for refs in [bench.refs[:1], *[bench.refs] * repetitions]:  # the first only warms up
        baseline_s, _ = timed(time.process_time, functools.partial(plain_loop, bench, refs))
        ours = functools.partial(run_pass, new_plan(bench), refs, LocalRunner())
        ours_s, report = timed(time.process_time, ours)
        ratios.append(baseline_s / ours_s)
        reports.append(report)
    print(f"one process, pass / plain loop          {spread(ratios[1:])}")
    for stage in ("decode", "teacher", "write", "rest"):
        shares = [share(report, stage) for report in reports[1:]]
        print(f"share of the pass's time, {stage:<13} {spread(shares)}")


def compare_in_parallel(bench: Bench, repetitions: int) -> None:
    """Print the ratio of the marginal rates of two actors and two processes."""
    runner = RayDataRunner(ActorPool(min_actors=NUM_WORKERS, max_actors=NUM_WORKERS))
    run_pass(new_plan(bench), bench.refs[:NUM_WORKERS], runner)  # the first actors start slowly
    ratios = []
    for _ in range(repetitions):
        baseline_s = marginal_s(bench, lambda refs: pool_loop(bench, refs))
        ours_s = marginal_s(bench, lambda refs: run_pass(new_plan(bench), refs, runner))
        ratios.append(baseline_s / ours_s)
    print(f"two actors / pool of two processes      {spread(ratios)}")


def marginal_s(bench: Bench, work: Callable[[Sequence[UnitRef]], Any]) -> float:
    """Return how much longer all units take than a quarter of them."""
    few = bench.refs[: max(len(bench.refs) // 4, NUM_WORKERS)]
    all_s, few_s = (timed(time.perf_counter, lambda r=r: work(r))[0] for r in (bench.refs, few))
    return all_s - few_s


def new_plan(bench: Bench) -> LabelPlan:
    """Return the plan of a pass to new stores."""
    return make_plan(
        open_root(tempfile.mkdtemp(dir=bench.folder)),
        manifest=bench.manifest,
        source={"_target_": "mke_ray.data.demo.DemoSource", "root": bench.source},
        decode=load("decode/demo.yaml"),
        teachers=[{"_target_": "mke_ray.models.teachers.StudentTeacher", "path": bench.teacher}],
    )


def plain_loop(bench: Bench, refs: Sequence[UnitRef]) -> None:
    """Fetch, decode, encode and label unit by unit, and keep nothing."""
    teacher_at.cache_clear()  # the pass loads its teacher too
    for ref in refs:
        plain_unit(bench.teacher, bench.paths(ref))


def pool_loop(bench: Bench, refs: Sequence[UnitRef]) -> None:
    """Do the same in two processes."""
    work = functools.partial(plain_unit, bench.teacher)
    with multiprocessing.get_context("spawn").Pool(NUM_WORKERS) as pool:
        pool.map(work, [bench.paths(ref) for ref in refs], chunksize=1)


def plain_unit(teacher: str, paths: list[str]) -> np.ndarray:
    """Return the logits of some clips."""
    spec = decode_spec_from_dict(load("decode/demo.yaml"))
    frames = []
    for path in paths:
        arrays = decode_clip(Path(path).read_bytes(), spec).arrays
        for name in spec:
            encode_modality(arrays[name], spec[name])
        frames.append(arrays["video"])
    return teacher_at(teacher).predict(np.stack(frames))


@functools.cache
def teacher_at(path: str) -> StudentTeacher:
    """Return the teacher, loaded once per process."""
    torch.set_num_threads(1)
    return StudentTeacher(path)


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


def load(name: str) -> dict[str, Any]:
    """Return one file of the configuration."""
    return yaml.safe_load((CONF / name).read_text())


if __name__ == "__main__":
    main()
