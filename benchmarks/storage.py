"""What the ways to store samples cost: bytes, labelling, reading, and the teacher's answers.

    OMP_NUM_THREADS=1 python benchmarks/storage.py --clips 128 --repetitions 5

Every way labels the same clips of the demo into stores of its own, with the demo's teacher trained
for some steps, and then reads them as training does with no decoded unit in memory. All in one
process with one thread, the ways in turns in one run; a rate is samples per CPU-second, and a ratio
is the median over the repetitions of the way's rate over that of the first way, the default.
``answer`` is the share of clips on which the teacher answers as on raw frames.
"""

import argparse
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
from omegaconf import OmegaConf

from mke_ray.config import plain
from mke_ray.data.demo import DemoSource
from mke_ray.data.manifest import Manifest, UnitRef, write_manifest
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.plan import LabelPlan, samples_store, with_teachers
from mke_ray.schema import Split
from mke_ray.storage import Root, open_root
from mke_ray.train.blocks import TargetSpec, UnitReader
from mke_ray.train.fits import FitSpec, FitStore, RowSelection
from mke_ray.train.launch import run_fits

CONF = Path(__file__).parents[1] / "conf"
NUM_TEACHER_CLIPS = 96


@dataclass(frozen=True, slots=True)
class Way:
    """One way to store samples.

    Args:
        name: For the table.
        video: Keys of ``decode.video`` that differ from the demo's.
        audio: Keys of ``decode.audio`` that differ.
        media: Whether media are kept.
    """

    name: str
    video: dict[str, Any]
    audio: dict[str, Any]
    media: bool = True

    def decode(self) -> dict[str, Any]:
        """Return the plain decode specification."""
        demo = load("decode/demo.yaml")
        return {"video": demo["video"] | self.video, "audio": demo["audio"] | self.audio}


DEFAULT = Way("jpeg 90, pcm (default)", {}, {})
RAW = Way("raw, pcm", {"codec": "raw"}, {})
WAYS = (
    DEFAULT,
    Way("jpeg 75, pcm", {"quality": 75}, {}),
    Way("jpeg 95, pcm", {"quality": 95}, {}),
    Way("png, pcm", {"codec": "png"}, {}),
    RAW,
    Way("jpeg 90, flac", {}, {"codec": "flac"}),
    Way("jpeg 90, pcm, samples=off", {}, {}, media=False),
    Way("raw, pcm, samples=off", {"codec": "raw"}, {}, media=False),
)


@dataclass(frozen=True, slots=True)
class Bench:
    """Clips, their units and a teacher."""

    folder: Path
    source: dict[str, Any]
    manifest: Manifest
    teacher: dict[str, Any]

    @property
    def refs(self) -> list[UnitRef]:
        """The units that are labelled."""
        return list(self.manifest.unit_refs([Split.UNLABELED]))


@dataclass(slots=True)
class Measured:
    """What one way took, and what the teacher answered."""

    label_s: list[float]
    read_s: list[float]
    num_bytes: int = 0
    answer_N: np.ndarray | None = None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of the teacher")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        bench = make_bench(Path(temporary), options.clips, options.steps)
        found = {way.name: Measured([], []) for way in WAYS}
        for number in range(-1, options.repetitions):  # the first only warms up
            for way in WAYS:
                measure(bench, way, found[way.name], counts=number >= 0)
    report(found, options.clips)


def measure(bench: Bench, way: Way, found: Measured, *, counts: bool) -> None:
    """Label and read all units once in one way."""
    plan = new_plan(bench, way)
    label_s = timed(lambda: run_pass(plan, bench.refs, LocalRunner()))
    read_s = timed(lambda: read_all(bench, plan))
    if counts:
        found.label_s.append(label_s)
        found.read_s.append(read_s)
    files = Path(plan.samples.root.path()).rglob("*.parquet")
    found.num_bytes = sum(one.stat().st_size for one in files if "index" not in one.name)
    found.answer_N = answers(bench, plan)


def new_plan(bench: Bench, way: Way) -> LabelPlan:
    """Return the plan of a pass to new stores."""
    root = open_root(tempfile.mkdtemp(dir=bench.folder))
    samples = samples_store(root, way.decode(), media=way.media)
    plan = LabelPlan(root, bench.manifest, bench.source, samples)
    return with_teachers(plan, [bench.teacher])


def read_all(bench: Bench, plan: LabelPlan) -> None:
    """Read every unit as training does, none of them from memory."""
    reader = UnitReader(
        plan.samples,
        labels=None,
        manifest=bench.manifest,
        decode=plan.decode,
        targets=TargetSpec(bench.manifest.label_space),
        cache_bytes=0,
        origin=plan.origin,
    )
    for ref in bench.refs:
        reader.rows(ref.unit, np.arange(ref.num_rows), targets="none")


def answers(bench: Bench, plan: LabelPlan) -> np.ndarray:
    """Return the class that the teacher gave every sample, in the order of the manifest [N]."""
    labels = plan.teachers[0].labels
    logits = [labels.read(ref.unit).column("logits").to_pylist() for ref in bench.refs]
    return np.concatenate([np.asarray(one, np.float32).argmax(axis=1) for one in logits])


def report(found: dict[str, Measured], num_clips: int) -> None:
    """Print a line per way."""
    default, raw = found[DEFAULT.name], found[RAW.name]
    print(f"{'':<26} kB/sample  bytes  label rate  read rate  answer")
    for name, one in found.items():
        label = ratio(default.label_s, one.label_s)
        read = ratio(default.read_s, one.read_s)
        same = float(np.mean(one.answer_N == raw.answer_N))
        kilobytes = one.num_bytes / num_clips / 1e3
        relative = one.num_bytes / default.num_bytes
        print(f"{name:<26} {kilobytes:9.2f} {relative:6.2f} {label:11.2f} {read:10.2f} {same:7.3f}")
    per_s = num_clips / statistics.median(default.label_s)
    read_per_s = num_clips / statistics.median(default.read_s)
    print(f"default: {per_s:.0f} samples labelled and {read_per_s:.0f} read per CPU-second")


def ratio(default_s: Sequence[float], mine_s: Sequence[float]) -> float:
    """Return the median of the ratios of the rates, each of one turn."""
    return statistics.median(one / mine for one, mine in zip(default_s, mine_s, strict=True))


def make_bench(folder: Path, num_clips: int, num_steps: int) -> Bench:
    """Make the clips, their manifest and a teacher."""
    counts = {"num_labelled": NUM_TEACHER_CLIPS, "num_unlabeled": num_clips}
    source = {"root": str(folder / "source"), **counts, "num_probe": 1, "num_test": 1}
    demo = DemoSource(**source, num_broken=0)
    demo.prepare()
    root = open_root(str(folder / "run"))
    manifest = write_manifest(root.child("manifest"), demo, unit_size=32)
    spec = {"_target_": "mke_ray.data.demo.DemoSource", **source, "num_broken": 0}
    teacher = taught(root, manifest, spec, num_steps)
    return Bench(folder, spec, manifest, teacher)


def taught(
    root: Root, manifest: Manifest, source: dict[str, Any], num_steps: int
) -> dict[str, Any]:
    """Train the demo's teacher for some steps and return its specification."""
    samples = samples_store(root, DEFAULT.decode())
    plan = LabelPlan(root, manifest, source, samples)
    run_pass(plan, manifest.unit_refs([Split.LABELLED]), LocalRunner())
    groups = {"student": "demo", "fusion": "concat", "decode": "demo"}
    conf = OmegaConf.create({name: load(f"{name}/{one}.yaml") for name, one in groups.items()})
    video = plain(conf.student)["encoders"]["video"]
    demo = load("experiment/demo.yaml")
    fit = FitSpec(
        name="teacher",
        arm="teacher",
        samples=Path(samples.root.uri).name,
        labels=None,
        student={"encoders": {"video": video}, "fusion": {"type": "concat"}, "head_hidden": []},
        objective={"_target_": "mke_ray.objectives.MKEObjective", "alpha": 0.0},
        rows=(RowSelection(Split.LABELLED, targets="true"),),
        optimizer=demo["fit"]["optimizer"],
        num_steps=num_steps,
    )
    run_fits([fit], root=root, launch="local", scaling={}, engine={"type": "torch"})
    path = FitStore(root).student_folder(fit.fingerprint()).uri
    return {"_target_": "mke_ray.models.teachers.StudentTeacher", "path": path}


def timed(work: Callable[[], Any]) -> float:
    """Return the CPU-seconds that some work took in this process."""
    start_s = time.process_time()
    work()
    return time.process_time() - start_s


def load(name: str) -> Any:
    """Return one file of the configuration."""
    return yaml.safe_load((CONF / name).read_text())


if __name__ == "__main__":
    main()
