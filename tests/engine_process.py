"""One rank of a fit in a process of its own: ZeRO 3 leaves a patch in its process for good.

``run_ranks`` starts it, with gloo on loopback where there are several ranks.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

TIMEOUT_S = 500  # a busy machine is slow and nothing else is wrong with it


@dataclass(frozen=True)
class Case:
    """A fit by an engine.

    Args:
        name: Name of its results.
        engine: The section ``engine``.
        fit: Changes to the toy fit.
        rules: Arguments of ``StepRules``.
        save_at: Step after which a checkpoint is written to its folder, 0 for none.
        resume: Folder of a checkpoint to start from.
    """

    name: str
    engine: Mapping[str, Any]
    fit: Mapping[str, Any]
    rules: Mapping[str, Any]
    save_at: int = 0
    resume: str | None = None


def run_ranks(
    cases: Sequence[Case], *, num_ranks: int, root: Path, folder: Path
) -> dict[str, "Result"]:
    """Train cases one after the other in fresh processes and return what rank 0 found.

    Args:
        cases: The fits.
        num_ranks: Number of processes.
        root: A run of ``training_stores``.
        folder: Where results and checkpoints go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = folder / "plan.json"
    plan.write_text(json.dumps([vars(one) for one in cases]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(num_ranks),
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    command = [sys.executable, __file__, str(plan), str(root)]
    ranks = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(num_ranks)
    ]
    try:
        said = [one.communicate(timeout=TIMEOUT_S)[0] for one in ranks]
    finally:
        for one in ranks:
            one.kill()
    for one, text in zip(ranks, said, strict=True):
        assert one.returncode == 0, text[-4000:]
    return {one.name: Result.read(folder / one.name) for one in cases}


@dataclass(frozen=True)
class Result:
    """What came of a case.

    Args:
        history: The records of every step.
        error: The error that ended it, "" where none did.
        answers: See ``answers_of``.
        weights: The weights that are kept.
    """

    history: list[dict[str, Any]]
    error: str
    answers: list[float]
    weights: dict[str, Tensor]

    @property
    def losses(self) -> list[float]:
        return [one["loss"] for one in self.history if "loss" in one]

    @classmethod
    def read(cls, folder: Path) -> "Result":
        told = json.loads((folder / "told.json").read_text())
        return cls(**told, weights=safetensors.torch.load_file(folder / "weights"))


def main(plan: Path, root: Path) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if int(os.environ["WORLD_SIZE"]) > 1:
        dist.init_process_group("gloo")
    for plain in json.loads(plan.read_text()):
        case = Case(**plain)
        train(case, root, plan.parent / case.name)
    if dist.is_initialized():
        dist.destroy_process_group()


def train(case: Case, root: Path, folder: Path) -> None:
    from training_stores import fit_spec

    from mke_ray.errors import TrainingError
    from mke_ray.storage import open_root
    from mke_ray.train.accumulation import StepRules
    from mke_ray.train.assemble import Workplace, assemble
    from mke_ray.train.checkpoints import open_checkpoint, read_state
    from mke_ray.train.loop import FitState, fit

    spec = fit_spec(**case.fit)
    workplace = Workplace(open_root(str(root)), case.engine, rules=StepRules(**case.rules))
    parts = assemble(spec, workplace)
    folder.mkdir(exist_ok=True)
    watch = Watcher(case.save_at, folder / "checkpoint", spec.fingerprint())
    state, error = FitState(), ""
    if case.resume:
        state = read_state(open_checkpoint(Path(case.resume)), spec.fingerprint(), parts)
        assert state.cursor > 0
    try:
        fit(spec, parts, state=state, watch=watch)
    except TrainingError as raised:
        error = str(raised)
    answers = answers_of(parts)
    weights = parts.engine.weights()
    if parts.average is not None:
        weights = parts.average.over(weights)
    if int(os.environ["RANK"]) == 0:
        told = {"history": state.history, "error": error, "answers": answers}
        (folder / "told.json").write_text(json.dumps(told))
        safetensors.torch.save_file(
            {name: one.contiguous() for name, one in weights.items()}, folder / "weights"
        )
    parts.engine.close()


def answers_of(parts: Any) -> list[float]:
    """Return what the network says of the same rows by its mean, and then by its last weights."""
    import torch

    batch = next(parts.feed.first_batches(4))
    student, said = parts.engine.student, []
    student.eval()
    with torch.no_grad():
        with parts.average.applied(parts.engine.module):
            said += student(batch.arrays, batch.present).flatten().tolist()
        said += student(batch.arrays, batch.present).flatten().tolist()
    return said


@dataclass
class Watcher:
    """Logs every step, and writes one checkpoint into a folder that all ranks share."""

    checkpoint_every_steps: int
    folder: Path
    fit_id: str
    log_every_steps: int = 1

    def log(self, record: Mapping[str, Any], *, num_steps: int) -> None:
        pass

    def after_step(self, parts: Any, state: Any) -> None:
        import torch.distributed as dist

        from mke_ray.train.run import write_state

        if state.cursor != self.checkpoint_every_steps:
            return
        own = self.folder.with_name(f"rank-{os.environ['RANK']}")
        own.mkdir()
        write_state(own, self.fit_id, parts=parts, state=state)
        shutil.copytree(own, self.folder, dirs_exist_ok=True)  # as Ray merges what ranks report
        if dist.is_initialized():
            dist.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # threads of gloo that still run would end the process by an abort now and then
