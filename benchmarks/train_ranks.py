"""What our loop costs with two ranks: Ray Train, engine and feed against bare loops and Lightning.

    OMP_NUM_THREADS=1 python benchmarks/train_ranks.py --repetitions 3
    OMP_NUM_THREADS=1 python benchmarks/train_ranks.py --rivals FOLDER

All train the same student on the same rows, two processes with one thread each, gloo. Ours is what
a user runs (``scaling.launch=trainer``, two workers, from stores on disk); the others find one
epoch of batches in memory: ``bare`` is DistributedDataParallel, ``bare zero1`` is DeepSpeed's own
loop, ``lightning`` (2.6.6, with --rivals, a folder that was filled as below) its Trainer. They take
turns. A ratio is what ``bare`` took over what another took, 1 where it is as fast: of CPU seconds
of both ranks for a step after the first epoch (all threads, Ray's and the feed's among them, and
the loop's alone), of the wall clock for the same, and for the whole fit, from before anything was
started. Beside them the start by part, seconds of the wall clock; Ray itself runs by then.

    pip install --no-deps --target FOLDER lightning==2.6.6 pytorch-lightning==2.6.6
    pip install --no-deps --target FOLDER lightning-utilities==0.15.3 torchmetrics==1.9.0 tqdm
"""

import argparse
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from train import demo_student, spread, store_samples, widened

from mke_ray.session import Session
from mke_ray.storage import Root, open_root
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.launch import run_fits

HERE = Path(__file__).parent
ENGINES = {
    "torch": {"type": "torch"},
    "zero1": {"type": "deepspeed", "config": {"zero_optimization": {"stage": 1}}},
}
NUM_RANKS = 2
RATIOS = {
    "step_cpu_s": "steps, CPU",
    "step_thread_s": "steps, CPU of the loop",
    "step_s": "steps, wall",
    "cpu_s": "whole fit, CPU of the ranks",
    "whole_s": "whole fit, wall",
    "first_s": "start to first step, wall",
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a way took, from the marks of its ranks.

    Args:
        step_cpu_s: CPU seconds of both ranks for a step after the first epoch.
        step_thread_s: The same of the threads alone in which the loops run.
        step_s: The same on the wall clock.
        cpu_s: CPU seconds of both ranks until the last step began, with imports.
        whole_s: Seconds on the wall clock from before the start until all was over.
        started_s: Seconds until both processes had been started.
        made_s: Seconds until engine and feed were there.
        making_s: Seconds of these in which engine and feed were made.
        first_s: Seconds until the first step.
    """

    step_cpu_s: float
    step_thread_s: float
    step_s: float
    cpu_s: float
    whole_s: float
    started_s: float
    made_s: float
    making_s: float
    first_s: float


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=["small", "medium"])
    parser.add_argument("--ways", nargs="+", help="beside bare; all by default")
    parser.add_argument("--rivals", default="")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(HERE), os.environ.get("PYTHONPATH", ""), options.rivals]
    )
    ways = options.ways or [*ENGINES, "bare zero1", *(["lightning"] if options.rivals else [])]
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as temporary, Session(num_cpus=4).connected():
        root = open_root(temporary)
        template = store_samples(root, options.clips)
        for model in options.models or ["small", "medium"]:
            student = demo_student() if model == "small" else widened(demo_student(), 4)
            ran: dict[str, list[Ran]] = {way: [] for way in ["bare", *ways]}
            for seed in range(options.repetitions):
                changes = {"student": student, "seed": seed, "num_steps": options.steps}
                spec = FitSpec(**{**template, **changes})
                for way, found in ran.items():
                    found.append(run_way(way, spec, root))
            report(model, ran)


def run_way(way: str, spec: FitSpec, root: Root) -> Ran:
    """Train a fit in one way."""
    with tempfile.TemporaryDirectory() as folder:
        marked = {"_target_": "train_rank.Marked", "folder": folder, "objective": spec.objective}
        noted = replace(spec, objective=marked)
        begun_s = time.time()
        run = ours if way in ENGINES else rival
        making_s = run(way, noted, root, folder)
        whole_s = time.time() - begun_s
        marks = [read_marks(Path(folder, f"rank{one}")) for one in range(NUM_RANKS)]
    made = [one[0] for one in marks]  # then a mark for each step
    steps = [one[1 : (spec.num_steps or 0) + 1] for one in marks]
    late = [one[epoch_steps(spec, root) :] for one in steps]
    lap = len(late[0]) - 1
    return Ran(
        step_cpu_s=sum(one[-1][1] - one[0][1] for one in late) / lap,
        step_thread_s=sum(one[-1][3] - one[0][3] for one in late) / lap,
        step_s=statistics.mean(one[-1][0] - one[0][0] for one in late) / lap,
        cpu_s=sum(one[-1][1] for one in steps),
        whole_s=whole_s,
        started_s=max(one[2] for one in made) - begun_s,
        made_s=max(one[0] for one in made) - begun_s,
        making_s=making_s,
        first_s=max(one[0][0] for one in steps) - begun_s,
    )


def epoch_steps(spec: FitSpec, root: Root) -> int:
    """Return the steps of an epoch."""
    return assemble(spec, Workplace(root, ENGINES["torch"])).feed.batches_per_epoch


def ours(way: str, spec: FitSpec, root: Root, folder: str) -> float:
    """Train and store the fit as a job does; returns the seconds of making engine and feed."""
    scaling = {"num_workers": NUM_RANKS}
    run_fits([spec], root=root, launch="trainer", scaling=scaling, engine=ENGINES[way])
    return FitStore(root).facts(spec.fingerprint())["start_s"]


def rival(way: str, spec: FitSpec, root: Root, folder: str) -> float:
    """Train the fit by processes of one's own; returns the seconds of making engine and feed."""
    plan = Path(folder, "plan.json")
    content = {"way": way, "spec": spec.to_dict(), "root": root.uri, "folder": folder}
    plan.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": NUM_RANKS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    place |= {"TORCHELASTIC_RUN_ID": "bench", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": 1}
    processes = []
    for one in range(NUM_RANKS):
        own = {**place, "RANK": one, "LOCAL_RANK": one}
        environment = {**os.environ, **{name: str(value) for name, value in own.items()}}
        command = [sys.executable, str(HERE / "train_rank.py"), str(plan)]
        processes.append(subprocess.Popen(command, env=environment))
    codes = [one.wait() for one in processes]
    if any(codes):
        raise RuntimeError(f"a rank of {way} failed")
    return max(float(Path(folder, f"start{one}").read_text()) for one in range(NUM_RANKS))


def read_marks(file: Path) -> list[tuple[float, ...]]:
    """Return the numbers of each mark, see ``train_rank.mark``."""
    lines = file.read_text().splitlines()
    return [tuple(float(value) for value in line.split()) for line in lines]


def report(model: str, ran: Mapping[str, Sequence[Ran]]) -> None:
    """Print the ratios to the bare loop, and the starts."""
    bare = ran["bare"]
    step_ms = statistics.median(1000 * one.step_cpu_s for one in bare)
    print(f"\n{model} model, {NUM_RANKS} ranks, bare step of {step_ms:.1f} ms of CPU on both")
    for (way, found), (field, name) in itertools.product(ran.items(), RATIOS.items()):
        if way != "bare":
            pairs = zip(bare, found, strict=True)
            ratios = [getattr(one, field) / getattr(other, field) for one, other in pairs]
            print(f"bare / {way:<11} {name:<27} {spread(ratios)}", flush=True)
    for way, found in ran.items():
        started, made, making, first = (
            statistics.median(getattr(one, field) for one in found)
            for field in ("started_s", "made_s", "making_s", "first_s")
        )
        print(
            f"start of {way:<11} processes {started:.1f} s, imports and group "
            f"{made - making - started:.1f} s, engine and feed {making:.1f} s, first batch "
            f"{first - made:.1f} s, all {first:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
