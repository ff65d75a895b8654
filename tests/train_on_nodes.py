"""A fit on a Ray cluster of this machine whose nodes are warned, killed and come back.

Run as ``python train_on_nodes.py FOLDER SCENARIO``; leaves ``seen.jsonl``, a line for every step
that rank 0 began, and ``events.jsonl``.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from mke_ray.objectives import MKEObjective
from mke_ray.schema import Batch

NUM_STEPS = 150
STEP_S = {1: 1.0, 2: 0.15}  # one worker alone is slow enough for another one to join it
WAIT_S = 150.0


@dataclass
class Seen:
    """The plain objective; rank 0 notes every step with the number of workers."""

    folder: str

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        if dist.get_rank() == 0:
            line = {"step": round(progress * NUM_STEPS), "workers": dist.get_world_size()}
            with Path(self.folder, "seen.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        time.sleep(STEP_S[dist.get_world_size()])
        return MKEObjective(alpha=0.0)(student, batch, progress)


def seen(folder: Path) -> list[dict[str, int]]:
    """Return the steps that were begun so far."""
    path = folder / "seen.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(is_there: Callable[[], bool], what: str) -> None:
    """Wait until something is there."""
    until = time.monotonic() + WAIT_S
    while not is_there():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.2)


class Nodes:
    """A cluster with a head without CPUs and nodes of one CPU each."""

    def __init__(self, number: int) -> None:
        from ray.cluster_utils import Cluster

        folder = tempfile.mkdtemp(prefix="mr-", dir="/tmp")  # sockets below it need a short path
        head = {"num_cpus": 0, "object_store_memory": 96 << 20, "include_dashboard": False}
        self.cluster = Cluster(True, head_node_args={**head, "temp_dir": folder})
        self.nodes = [self.add() for _ in range(number)]
        self.cluster.connect()
        self.cluster.wait_for_nodes()

    def add(self) -> Any:
        """Add a node; in the main thread only."""
        return self.cluster.add_node(num_cpus=1, object_store_memory=96 << 20)

    def warn(self, node: Any, deadline_s: float) -> None:
        """Say that a node is about to go, as a cloud does."""
        from ray._raylet import GcsClient
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason

        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = int((time.time() + deadline_s) * 1000)
        is_taken, _ = GcsClient(address=self.cluster.address).drain_node(
            node.node_id, reason, "spot", deadline_ms
        )
        assert is_taken

    def kill(self, node: Any) -> None:
        """Take a node away without a word."""
        self.cluster.remove_node(node, allow_graceful=False)


def elastic(nodes: Nodes, folder: Path, note: Callable[..., None]) -> None:
    """Two workers, of which one is warned and goes, and comes back."""
    wait_for(lambda: len(seen(folder)) > 10, "two workers train")
    note("warned", step=seen(folder)[-1]["step"])
    nodes.warn(nodes.nodes[1], 12.0)
    time.sleep(12.0)
    note("gone", step=seen(folder)[-1]["step"])
    nodes.kill(nodes.nodes[1])
    wait_for(lambda: seen(folder)[-1]["workers"] == 1, "one worker goes on")
    note("alone", step=seen(folder)[-1]["step"])
    nodes.add()
    wait_for(lambda: seen(folder)[-1]["workers"] == 2, "two workers again")


def spare(nodes: Nodes, folder: Path, note: Callable[..., None]) -> None:
    """Two workers on three nodes, of which one of those in use is killed."""
    import ray

    wait_for(lambda: len(seen(folder)) > 32, "two workers train")
    used = {node["NodeID"] for node in ray.nodes() if node["Alive"] and not is_free(node["NodeID"])}
    busy = [one for one in nodes.nodes if one.node_id in used]
    note("killed", step=seen(folder)[-1]["step"], busy=len(busy))
    nodes.kill(busy[0])


def pool(nodes: Nodes, folder: Path, note: Callable[..., None]) -> None:
    """Two workers and two nodes for their pools, which are killed in turns; a new one comes."""
    wait_for(lambda: len(seen(folder)) > 20, "two workers train")
    makers = _pool_nodes(nodes)
    for one, step in zip(makers, (30, 60), strict=True):
        wait_for(lambda step=step: seen(folder)[-1]["step"] > step, "a pool makes batches")
        wait_for(lambda one=one: not is_free(one.node_id), "a node makes a batch")
        nodes.kill(one)
        note("killed", step=seen(folder)[-1]["step"])
    time.sleep(5.0)
    note("nobody makes batches", step=seen(folder)[-1]["step"])
    nodes.add()


def pool_gone(nodes: Nodes, folder: Path, note: Callable[..., None]) -> None:
    """One worker, whose pool goes with its only node."""
    wait_for(lambda: len(seen(folder)) > 20, "a worker trains")
    (maker,) = _pool_nodes(nodes)
    nodes.kill(maker)
    note("killed", step=seen(folder)[-1]["step"])


def _pool_nodes(nodes: Nodes) -> list[Any]:
    """Return the nodes on which no worker is: those of workers are never free."""
    free: set[str] = set()
    for _ in range(400):
        free |= {one.node_id for one in nodes.nodes if is_free(one.node_id)}
        time.sleep(0.01)
    return [one for one in nodes.nodes if one.node_id in free]


def is_free(node_id: str) -> bool:
    """Return whether nothing runs on a node."""
    import ray

    available = ray._private.state.available_resources_per_node()
    return available.get(node_id, {}).get("CPU", 0.0) >= 1.0


SCENARIOS = {
    "elastic": (2, elastic),
    "spare": (3, spare),
    "pool": (4, pool),
    "pool_gone": (2, pool_gone),
}


def main() -> None:
    """Train while a scenario happens to the nodes."""
    import ray
    from training_stores import fit_spec, make_run

    from mke_ray.storage import open_root
    from mke_ray.train.launch import run_fits

    folder, scenario, plain = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    number, happens = SCENARIOS[scenario]
    root = open_root(str(folder / "run"))
    make_run(root, {"labelled": 20, "unlabeled": 90, "probe": 40})
    objective = {"_target_": "train_on_nodes.Seen", "folder": str(folder)}
    spec = fit_spec(**plain["fit"], num_steps=NUM_STEPS, objective=objective)
    nodes, failed = Nodes(number), []

    def note(event: str, **facts: Any) -> None:
        with (folder / "events.jsonl").open("a") as file:
            file.write(json.dumps({"event": event, **facts}) + "\n")

    def train() -> None:
        try:
            launch = {"root": root, "launch": "trainer", **plain["launch"]}
            run_fits([spec], **launch)
        except Exception as error:  # told to the main thread, whatever it is
            failed.append(repr(error))
            raise

    trains = threading.Thread(target=train, daemon=True)
    trains.start()
    happens(nodes, folder, note)
    trains.join(2 * WAIT_S)
    note("ended", failed=failed, is_alive=trains.is_alive(), fit=spec.fingerprint())
    ray.shutdown()
    nodes.cluster.shutdown()


if __name__ == "__main__":
    main()
