"""Training under fire: workers, nodes and drivers are killed. What is lost, and what comes of it?

    python benchmarks/train_chaos.py --kills 20

A student of the demo's clips is trained by two workers (ZeRO 1) on a Ray cluster of three nodes of
this machine, once undisturbed and once while, in turns, a worker, a node and the driver are killed
by SIGKILL, each some steps after training went on. A killed node is replaced, a killed driver
started again. Printed are the steps that each kind of kill cost (steps made since the last
checkpoint that counts, made again), the seconds until training went on, and whether both networks
have the same weights, bit for bit.
"""

import argparse
import json
import logging
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch.distributed as dist
from ray.cluster_utils import Cluster
from torch import Tensor, nn
from train import store_samples

from mke_ray.objectives import Objective
from mke_ray.schema import Batch
from mke_ray.storage import open_root
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.launch import run_fits

KINDS = ("worker", "node", "driver")
ENGINE = {"type": "deepspeed", "config": {"zero_optimization": {"stage": 1}}}
PATIENCE_S = 300.0
SPARE_STEPS = 100


@dataclass
class Noted:
    """An objective that notes every step, and the process of every rank."""

    folder: str
    objective: Objective
    num_steps: int

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Note the step, and return what the objective does."""
        written = Path(self.folder, f"new-pid-{dist.get_rank()}")
        written.write_text(str(os.getpid()))
        written.rename(written.with_name(f"pid-{dist.get_rank()}"))  # never seen half written
        if dist.get_rank() == 0:
            with Path(self.folder, "steps").open("a") as file:
                file.write(f"{round(progress * self.num_steps)} {time.time()} {os.getpid()}\n")
        return self.objective(student, batch, progress)


class Step(NamedTuple):
    """A step that rank 0 began.

    Args:
        step: Its number.
        at_s: When, seconds since 1970.
        pid: The process of rank 0.
    """

    step: int
    at_s: float
    pid: int


@dataclass(frozen=True, slots=True)
class Lost:
    """What one kill cost.

    Args:
        kind: Who was killed.
        steps: Steps that were made again.
        seconds: Seconds from the kill to the next step.
    """

    kind: str
    steps: int
    seconds: float


def main() -> None:
    """Train in peace and under fire, and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--checkpoint-every", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", nargs=3, metavar=("FOLDER", "ADDRESS", "CHECKPOINT_EVERY"))
    options = parser.parse_args()
    if options.drive:
        drive(Path(options.drive[0]), options.drive[1], int(options.drive[2]))
        return
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as temporary:
        template = store_samples(open_root(f"{temporary}/run"), 64)
        steps = {"num_steps": 60 + 30 * options.kills, "global_batch": 8}
        spec = FitSpec(**{**template, **steps}).to_dict()
        Path(temporary, "fit.json").write_text(json.dumps(spec))
        fire = UnderFire(Path(temporary), options.checkpoint_every, options.seed)
        try:
            lost = fire.train("fire", num_kills=options.kills)
            fire.train("peace", num_kills=0)
        finally:
            fire.close()
        report(lost, fire.digest("fire") == fire.digest("peace"))


def report(lost: list[Lost], is_same: bool) -> None:
    """Print what was lost."""
    for kind in KINDS:
        some = [one for one in lost if one.kind == kind]
        if some:
            steps, seconds = [one.steps for one in some], [one.seconds for one in some]
            print(
                f"{kind:6} killed {len(some)} times: {statistics.mean(steps):.1f} steps made again "
                f"(most {max(steps)}), training goes on after {statistics.median(seconds):.0f} s "
                f"(most {max(seconds):.0f})"
            )
    verdict = "are those" if is_same else "are NOT those"
    print(f"{len(lost)} kills; the weights {verdict} of the undisturbed run, bit for bit")
    if not is_same:
        sys.exit(1)


class UnderFire:
    """A cluster of this machine, and what trains on it.

    Args:
        folder: Where everything goes.
        checkpoint_every: Steps between checkpoints.
        seed: Of the choice of moments and victims.
    """

    def __init__(self, folder: Path, checkpoint_every: int, seed: int) -> None:
        self._folder = folder
        self._checkpoint_every = checkpoint_every
        self._random = random.Random(seed)
        self._temporary = tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp")
        head = {"num_cpus": 0, "object_store_memory": 128 << 20, "include_dashboard": False}
        head["temp_dir"] = self._temporary.name
        self._cluster = Cluster(True, head_node_args=head)
        self._nodes = [self._new_node() for _ in range(3)]

    def close(self) -> None:
        """Stop the cluster."""
        self._cluster.shutdown()
        self._temporary.cleanup()

    def digest(self, name: str) -> str:
        """Return the digest of the weights of a run."""
        fits = FitStore(open_root(str(self._folder / "run")))
        return fits.weights_digest(fit_of(self._folder / name).fingerprint())

    def train(self, name: str, *, num_kills: int) -> list[Lost]:
        """Train once, with so many kills.

        Args:
            name: Name of the run.
            num_kills: How many kills.
        """
        folder, lost = self._folder / name, []
        folder.mkdir(exist_ok=True)
        driver = self._start(folder)
        for number in range(num_kills):
            self._wait_steps(folder, driver, 10 + self._random.randrange(25))
            kind = KINDS[number % len(KINDS)]
            before = steps_of(folder)[-1]
            began_s = time.time()
            driver = self._kill(kind, folder, driver)
            lost.append(self._lost(kind, folder, driver, before=before, began_s=began_s))
            print(f"{number + 1} {lost[-1]}", flush=True)
        if driver.wait(20 * PATIENCE_S) != 0:
            raise RuntimeError((folder / "driver.log").read_text()[-4000:])
        return lost

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start a driver."""
        command = [sys.executable, __file__, "--drive", str(folder), self._cluster.address]
        with (folder / "driver.log").open("ab") as log:
            return subprocess.Popen(
                [*command, str(self._checkpoint_every)], stdout=log, stderr=subprocess.STDOUT
            )

    def _kill(
        self, kind: str, folder: Path, driver: subprocess.Popen[bytes]
    ) -> subprocess.Popen[bytes]:
        """Kill somebody, and return the driver there is afterwards."""
        if kind == "worker":
            pid = int((folder / f"pid-{self._random.randrange(2)}").read_text())
            os.kill(pid, signal.SIGKILL)
        elif kind == "node":
            node = self._nodes.pop(self._random.randrange(len(self._nodes)))
            self._cluster.remove_node(node, allow_graceful=False)
            self._nodes.append(self._new_node())
        else:
            driver.kill()
            driver.wait()
            return self._start(folder)
        return driver

    def _lost(
        self,
        kind: str,
        folder: Path,
        driver: subprocess.Popen[bytes],
        *,
        before: Step,
        began_s: float,
    ) -> Lost:
        """Wait until training went on, and return what the kill cost.

        A killed node may have been the spare one: then training simply goes on.
        """
        until = time.time() + PATIENCE_S
        while time.time() < until and driver.poll() is None:
            steps = steps_of(folder)
            first = sum(one.at_s <= began_s for one in steps)
            after = [one for one in steps[first:] if one.pid != before.pid]
            if after:
                last = max(one.step for one in steps if one.pid == before.pid)
                return Lost(kind, last + 1 - after[0].step, after[0].at_s - began_s)
            if kind == "node" and len(steps) - first > SPARE_STEPS:
                return Lost(kind, 0, 0.0)
            time.sleep(0.1)
        raise RuntimeError(f"training did not go on: {(folder / 'driver.log').read_text()[-4000:]}")

    def _wait_steps(self, folder: Path, driver: subprocess.Popen[bytes], number: int) -> None:
        """Wait until so many steps more were made."""
        until, before = time.time() + PATIENCE_S, len(steps_of(folder))
        while len(steps_of(folder)) < before + number:
            if driver.poll() is not None or time.time() > until:
                raise RuntimeError((folder / "driver.log").read_text()[-4000:])
            time.sleep(0.1)

    def _new_node(self) -> Any:
        """Return a node more."""
        return self._cluster.add_node(num_cpus=1, object_store_memory=128 << 20)


def steps_of(folder: Path) -> list[Step]:
    """Return the steps that were begun so far."""
    path = folder / "steps"
    lines = path.read_text().splitlines() if path.exists() else []
    whole = [line.split() for line in lines if line.count(" ") == 2]
    return [Step(int(step), float(at_s), int(pid)) for step, at_s, pid in whole]


def fit_of(folder: Path) -> FitSpec:
    """Return the fit of a run."""
    plain = json.loads((folder.parent / "fit.json").read_text())
    objective = {
        "_target_": "train_chaos.Noted",
        "folder": str(folder),
        "objective": plain["objective"],
        "num_steps": plain["num_steps"],
    }
    return FitSpec.from_dict({**plain, "objective": objective})


def drive(folder: Path, address: str, checkpoint_every: int) -> None:
    """Be the driver of a run."""
    ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING)
    run_fits(
        [fit_of(folder)],
        root=open_root(str(folder.parent / "run")),
        launch="trainer",
        scaling={
            "num_workers": 2,
            "max_failures": 1000,
            "checkpoint_every_steps": checkpoint_every,
            "verbose": True,
        },
        engine=ENGINE,
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
