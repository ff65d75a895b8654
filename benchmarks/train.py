"""What our loop costs: a fit on stored samples against a bare torch loop on tensors in memory.

    OMP_NUM_THREADS=1 python benchmarks/train.py --steps 24 --repetitions 3
    OMP_NUM_THREADS=1 python benchmarks/train.py --steps 24 --cache-mib 0

Both train the demo's student (``small``) and one with four times the channels (``medium``), in
one process with one thread, with the demo's views, objective and optimizer on the same batches; the
bare loop finds one epoch of them in memory. A ratio is our samples per CPU-second over those of the
bare loop, in turns in one run: 1 means that our loop is free. ``whole fit`` counts everything from
``run_fits`` to the stored student, ``steps`` the steps after the first epoch. With --cache-mib 0 no
decoded sample is kept: every epoch decodes anew.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf

from mke_ray.config import plain
from mke_ray.data.demo import DemoSource
from mke_ray.data.manifest import write_manifest
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.models.student import build_student
from mke_ray.models.weights import save_student
from mke_ray.schema import Split
from mke_ray.storage import Root, open_root
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.fits import FitSpec, FitStore, RowSelection
from mke_ray.train.launch import run_fits
from mke_ray.train.loop import FitParts, apply_views

CONF = Path(__file__).parents[1] / "conf"
ENGINE = {"type": "torch"}
MODELS = ["small", "medium"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one loop took.

    Args:
        cpu_s: CPU seconds of everything.
        step_cpu_s: CPU seconds of one step after the first epoch.
        loss: Loss of the last step of the first epoch.
        data_wait: Share of the time after the first epoch in which the loop waited for data.
    """

    cpu_s: float
    step_cpu_s: float
    loss: float
    data_wait: float = 0.0


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--cache-mib", type=int, default=1024)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = open_root(temporary)
        template = store_samples(root, options.clips)
        for model in options.models:
            student = demo_student() if model == "small" else widened(demo_student(), 4)
            pairs = []
            for seed in range(options.repetitions):  # another one, since a finished fit is skipped
                spec = FitSpec(
                    **{**template, "student": student}, seed=seed, num_steps=options.steps
                )
                pairs.append(both_loops(spec, root, options.cache_mib << 20))
            report(model, pairs)


def both_loops(spec: FitSpec, root: Root, cache_bytes: int) -> tuple[Measured, Measured]:
    """Return what the bare loop and ours took for the same fit."""
    parts = assemble(spec, Workplace(root, ENGINE))
    bare = bare_loop(spec, parts)
    log_every_steps = parts.feed.batches_per_epoch
    scaling = {"log_every_steps": log_every_steps, "cache_bytes": cache_bytes}
    return bare, our_loop(spec, root, scaling)


def report(model: str, pairs: Sequence[tuple[Measured, Measured]]) -> None:
    """Print the ratios of our loop to the bare one."""
    step_ms = statistics.median(1000 * bare.step_cpu_s for bare, _ in pairs)
    print(f"\n{model} model, bare step of {step_ms:.1f} ms of CPU")
    whole = [bare.cpu_s / ours.cpu_s for bare, ours in pairs]
    steps = [bare.step_cpu_s / ours.step_cpu_s for bare, ours in pairs]
    print(f"samples per CPU-second, ours / bare, steps      {spread(steps)}")
    print(f"samples per CPU-second, ours / bare, whole fit  {spread(whole)}")
    waits = [ours.data_wait for _, ours in pairs]
    print(f"share of our loop's time waiting for data       {spread(waits)}")
    gap = max(abs(bare.loss - ours.loss) for bare, ours in pairs)
    print(f"largest difference of the losses after one epoch: {gap:.1e}")


def our_loop(spec: FitSpec, root: Root, scaling: dict[str, Any]) -> Measured:
    """Train and store the fit as a job with scaling.launch=local does."""
    marks: list[tuple[int, float]] = []
    start_s = time.process_time()
    run_fits(
        [spec],
        root=root,
        launch="local",
        scaling=scaling,
        engine=ENGINE,
        progress=lambda done, total, text: marks.append((done, time.process_time())),
    )
    cpu_s = time.process_time() - start_s
    (first, first_s), (last, last_s) = marks[0], marks[-1]
    history = FitStore(root).history(spec.fingerprint())
    data_wait = statistics.mean(record["data_wait"] for record in history[1:])
    return Measured(cpu_s, (last_s - first_s) / (last - first), history[0]["loss"], data_wait)


def bare_loop(spec: FitSpec, parts: FitParts) -> Measured:
    """Train the same network on one epoch of its batches, again and again."""
    num_steps, epoch_steps = spec.num_steps or 0, parts.feed.batches_per_epoch
    batches = [item.batch for item in parts.feed.batches(0, epoch_steps)]
    student = parts.engine.module.train()
    settings = {name: value for name, value in spec.optimizer.items() if name != "type"}
    optimizer = torch.optim.AdamW(student.parameters(), **settings)
    losses, marks = [], [time.process_time()]
    for step in range(num_steps):
        batch = apply_views(batches[step % epoch_steps], parts.views)
        loss = parts.objective(student, batch, step / num_steps)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), spec.clip_norm or math.inf)
        optimizer.step()
        losses.append(loss.detach())
        marks.append(time.process_time())
    step_cpu_s = (marks[-1] - marks[epoch_steps]) / (num_steps - epoch_steps)
    return Measured(marks[-1] - marks[0], step_cpu_s, float(losses[epoch_steps - 1]))


def store_samples(root: Root, num_clips: int) -> dict[str, Any]:
    """Store clips with the labels of an untrained teacher, and return what all fits share."""
    counts = {"num_labelled": 1, "num_unlabeled": num_clips, "num_probe": 1, "num_test": 1}
    source = {"root": root.path("source"), **counts, "num_broken": 0}
    demo = DemoSource(**source)
    demo.prepare()
    student = demo_student()
    teacher_spec = {**student, "encoders": {"video": student["encoders"]["video"]}}
    torch.manual_seed(0)
    teacher = build_student(teacher_spec, demo.label_space.num_classes).eval()
    folder = root.path("teacher")
    save_student(folder, teacher, spec=teacher_spec, label_space=demo.label_space)
    plan = make_plan(
        root,
        manifest=write_manifest(root.child("manifest"), demo, unit_size=32),
        source={"_target_": "mke_ray.data.demo.DemoSource", **source},
        decode=load("decode/demo.yaml"),
        teachers=[{"_target_": "mke_ray.models.teachers.StudentTeacher", "path": folder}],
    )
    run_pass(plan, plan.manifest.unit_refs([Split.UNLABELED]), LocalRunner())
    return fit_settings(student, plan)


def demo_student() -> dict[str, Any]:
    """Return the specification of the demo's student."""
    groups = {"student": "demo", "fusion": "concat", "decode": "demo"}
    conf = OmegaConf.create({name: load(f"{name}/{one}.yaml") for name, one in groups.items()})
    student = plain(conf.student)
    del student["unimodal_head_hidden"]
    return student


def widened(student: dict[str, Any], times: int) -> dict[str, Any]:
    """Return a student whose encoders have several times the channels and features."""
    encoders = {
        name: {
            **one,
            "channels": [times * num for num in one["channels"]],
            "num_features": times * one["num_features"],
        }
        for name, one in student["encoders"].items()
    }
    return {**student, "encoders": encoders}


def fit_settings(student: dict[str, Any], plan: LabelPlan) -> dict[str, Any]:
    """Return the demo's student fit, at a constant learning rate and without looks at the probe."""
    demo = load("experiment/demo.yaml")
    return {
        "name": "bench",
        "arm": "mke",
        "samples": Path(plan.samples.root.uri).name,
        "labels": Path(plan.teachers[0].labels.root.uri).name,
        "student": student,
        "objective": load("objective/mke.yaml"),
        "rows": (RowSelection(Split.UNLABELED),),
        "optimizer": demo["fit"]["optimizer"],
        "views": demo["views"],
        "global_batch": demo["fit"]["global_batch"],
        "clip_norm": demo["fit"]["clip_norm"],
    }


def spread(values: Sequence[float]) -> str:
    """Return least, median and greatest."""
    middle = statistics.median(values)
    return f"min {min(values):.3f}  median {middle:.3f}  max {max(values):.3f}"


def load(name: str) -> Any:
    """Return one file of the configuration."""
    return yaml.safe_load((CONF / name).read_text())


if __name__ == "__main__":
    main()
