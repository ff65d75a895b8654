"""Every stage on its own pool: labelled Ray nodes of this machine, which are drained at last.

Run as ``python stages_on_pools.py FOLDER``; leaves ``where.jsonl``, a line for every piece of work
with the node that did it, and ``events.json``.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from composed import REPOSITORY
from label_fakes import FakeReader, FakeSource, FakeTeacher, make_world
from torch import Tensor, nn

from mke_ray.objectives import MKEObjective
from mke_ray.schema import Batch

POOLS = {"decode": 3, "teach": 2, "train": 2, "late": 2}
NUM_LATE_NODES, NUM_LATE_ACTORS = 2, 3
NUM_SAMPLES = 24
WAIT_S = 120.0


def note(folder: str, stage: str) -> None:
    """Write down that this process does some work of a stage, and on which node."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    with Path(folder, "where.jsonl").open("a") as file:
        file.write(json.dumps({"stage": stage, "node": node}) + "\n")


class PlacedSource(FakeSource):
    """A source whose samples are noted where they are read."""

    def __init__(self, num_samples: int, folder: str, stage: str = "decode", **more: Any) -> None:
        super().__init__(num_samples, **more)
        self._folder, self._stage = folder, stage

    def reader(self, spec: Any) -> "PlacedReader":
        return PlacedReader(self, self._folder, self._stage)


class PlacedReader(FakeReader):
    """Reads and notes where."""

    def __init__(self, source: FakeSource, folder: str, stage: str) -> None:
        super().__init__(source)
        self._folder, self._stage = folder, stage

    def read(self, row: Any) -> Any:
        note(self._folder, self._stage)
        return super().read(row)


class PlacedTeacher(FakeTeacher):
    """A teacher that notes where it labels."""

    def __init__(self, folder: str, stage: str = "teach", modality: str = "x") -> None:
        super().__init__(modality)
        self._folder, self._stage = folder, stage

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        note(self._folder, self._stage)
        return super().predict(arrays_BX)


@dataclass
class PlacedObjective:
    """The plain objective, noted where it is computed."""

    folder: str
    stage: str

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        note(self.folder, self.stage)
        return MKEObjective(alpha=0.0)(student, batch, progress)


@dataclass
class PlacedWeight:
    """Weighs all labels alike, and notes where: in workers, or in the tasks of a feed."""

    folder: str
    stage: str

    def fit(self, statistics: Any) -> dict[str, Any]:
        return {}

    def weights(self, probability_NKL: np.ndarray, fitted: Any) -> np.ndarray:
        import ray

        in_task = ray.get_runtime_context().get_actor_id() is None
        note(self.folder, f"{self.stage} by tasks" if in_task else self.stage)
        return np.ones(probability_NKL.shape[:2], np.float32)


def start_nodes() -> Any:
    """Start a head without CPUs, a node of every pool but the late one, one without a label."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="mr-", dir="/tmp")  # sockets below it need a short path
    memory = {"object_store_memory": 96 << 20}
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, **memory}
    cluster = Cluster(True, head_node_args=head)
    for pool in ("decode", "teach", "train"):
        add_node(cluster, pool)
    cluster.add_node(num_cpus=8, **memory)  # where everything would go that asks for no pool
    cluster.connect()
    cluster.wait_for_nodes()
    return cluster


def add_node(cluster: Any, pool: str) -> Any:
    """Start a node of a pool; in the main thread only."""
    labels = {"pool": pool}
    return cluster.add_node(num_cpus=POOLS[pool], labels=labels, object_store_memory=96 << 20)


def label(folder: str) -> None:
    """Decode and label in two pools."""
    from mke_ray.labels.capacity import ActorPool
    from mke_ray.labels.ray_runner import RayDataRunner

    decoders = ActorPool(min_actors=2, max_actors=2, node_pool="decode")
    teachers = ActorPool(key="labelling.teachers_pool", max_actors=2, node_pool="teach")
    run_labels(folder, RayDataRunner(decoders, teachers), "decode", "teach")


def label_late(folder: str, cluster: Any) -> int:
    """Label in a pool whose nodes come when they are asked for; return how many actors asked."""
    from mke_ray.labels.capacity import ActorPool
    from mke_ray.labels.ray_runner import RayDataRunner

    runner = RayDataRunner(ActorPool(max_actors=NUM_LATE_ACTORS, node_pool="late"), is_scaling=True)
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(run_labels, folder, runner, "late", "late")
        until = time.monotonic() + WAIT_S
        while (asked := num_asked(cluster, "late")) < NUM_LATE_ACTORS:
            if time.monotonic() > until or done.done():
                break
            time.sleep(0.5)
        for _ in range(NUM_LATE_NODES):
            add_node(cluster, "late")
        done.result()
    return asked


def run_labels(folder: str, runner: Any, decode: str, teach: str) -> None:
    """Run a pass whose stages are called so."""
    from mke_ray.labels.labelling import run_pass
    from mke_ray.storage import open_root

    plan = make_world(
        open_root(f"{folder}/labels-{decode}"),
        NUM_SAMPLES,
        teachers=[{"_target_": "stages_on_pools.PlacedTeacher", "folder": folder, "stage": teach}],
        **{"_target_": "stages_on_pools.PlacedSource", "folder": folder, "stage": decode},
    )
    run_pass(plan, list(plan.manifest.unit_refs()), runner)


def num_asked(cluster: Any, pool: str) -> int:
    """Return how many actors or tasks wait for nodes of a pool, as the autoscaler is told."""
    from ray._raylet import GcsClient
    from ray.autoscaler.v2.sdk import get_cluster_resource_state

    state = get_cluster_resource_state(GcsClient(address=cluster.address))
    return sum(one.count for one in state.pending_resource_requests if pool in str(one.request))


def train(folder: str, launch: str) -> None:
    """Train a fit in a pool."""
    from training_stores import make_run

    from mke_ray.storage import open_root

    root = open_root(f"{folder}/{launch}")
    make_run(root, {"labelled": 20, "unlabeled": 160, "probe": 20})
    run_fit(folder, root, launch, launch)


def train_fed(folder: str) -> tuple[str, str]:
    """Train the same with batches made in another pool; return digests of both's weights."""
    from mke_ray.storage import open_root
    from mke_ray.train.fits import FitStore

    root = open_root(f"{folder}/trainer")
    run_fit(folder, root, "trainer", "fed", feed="ray", feed_pool="decode")
    fits = FitStore(root)
    return tuple(  # type: ignore[return-value]
        fits.weights_digest(spec_of(folder, stage).fingerprint()) for stage in ("trainer", "fed")
    )


def run_fit(folder: str, root: Any, launch: str, stage: str, **more: Any) -> None:
    """Train a fit whose stage is called so."""
    from mke_ray.train.launch import run_fits

    scaling = {"num_workers": 2, "pool": "train", "checkpoint_every_steps": 0, **more}
    engine = {"type": "torch"}
    run_fits([spec_of(folder, stage)], root=root, launch=launch, scaling=scaling, engine=engine)


def spec_of(folder: str, stage: str) -> Any:
    """Return a fit that notes where it is computed and where its batches are made."""
    from training_stores import fit_spec

    noted = {"folder": folder, "stage": stage}
    weight = {"folder": folder, "stage": f"feed of {stage}"}
    return fit_spec(
        global_batch=20,
        num_steps=4,
        objective={"_target_": "stages_on_pools.PlacedObjective", **noted},
        label_rule={"weight": {"_target_": "stages_on_pools.PlacedWeight", **weight}},
    )


def answer(folder: str, cluster: Any) -> tuple[int, int, int]:
    """Ask a network in the late pool, and take one of its busy nodes away at the first answer.

    Returns:
        Units asked for, units whose answers are there, and nodes that went.
    """
    import ray
    from training_stores import DECODE, SAMPLES

    from mke_ray.data.manifest import Manifest
    from mke_ray.evaluation import PredictionPlan, run_predictions
    from mke_ray.labels.capacity import ActorPool
    from mke_ray.labels.ray_runner import RayDataRunner
    from mke_ray.schema import decode_spec_to_dict
    from mke_ray.storage import open_root
    from mke_ray.train.fits import FitStore

    root, fit = open_root(f"{folder}/trainer"), spec_of(folder, "trainer").fingerprint()
    students = {fit: FitStore(root).student_folder(fit)}
    plan = PredictionPlan(root, SAMPLES, decode_spec_to_dict(DECODE), students)
    runner = RayDataRunner(ActorPool(min_actors=2, max_actors=2, node_pool="late"))
    gone: list[Any] = []

    def killing(plan: Any, refs: Any) -> Iterator[Any]:
        for report in runner.run(plan, refs):
            if not gone:
                free = ray._private.state.available_resources_per_node()
                late = [one for one in cluster.list_all_nodes() if is_of(one, "late")]
                busy = [one for one in late if free[one.node_id].get("CPU", 0) < POOLS["late"]]
                gone.append(busy[0])
                cluster.remove_node(busy[0], allow_graceful=False)
            yield report

    refs = list(Manifest.open(root.child("manifest")).unit_refs(["unlabeled"]))
    store = run_predictions(plan, refs, runner=killing)
    tables = [store.read(ref.unit, check_digest=True) for ref in refs]
    whole = [one for one, ref in zip(tables, refs, strict=True) if len(one) == ref.num_rows]
    return len(refs), len(whole), len(gone)


def is_of(node: Any, pool: str) -> bool:
    """Return whether a node is of a pool."""
    import ray

    labels = {one["NodeID"]: one["Labels"].get("pool") for one in ray.nodes() if one["Alive"]}
    return labels.get(node.node_id) == pool


def nodes_of_a_trial() -> list[str]:
    """Return the nodes that Ray reserves for a trial of two workers."""
    import ray
    from ray.util.placement_group import placement_group_table, remove_placement_group

    from mke_ray.config_search import SearchConfig
    from mke_ray.search.tuning import _resources

    scaling = {"cpus_per_worker": 1.0, "gpus_per_worker": 0.0, "pool": "train"}
    group = _resources(SearchConfig(workers_per_trial=2), scaling).to_placement_group()
    ray.get(group.ready(), timeout=WAIT_S)
    nodes = list(placement_group_table(group)["bundles_to_node_id"].values())
    remove_placement_group(group)
    return nodes


def is_free(pool_of: dict[str, str]) -> bool:
    """Return whether no node that still lives has given away a CPU; one that was killed may lag."""
    import ray

    free = ray._private.state.available_resources_per_node()
    living = {one["NodeID"] for one in ray.nodes() if one["Alive"]}
    return all(
        free.get(node, {}).get("CPU", 0) == POOLS[pool]
        for node, pool in pool_of.items()
        if node in living
    )


def wait_until_free(pool_of: dict[str, str]) -> bool:
    """Wait until every pool is free again; a stage that keeps its pool never lets it be so."""
    until = time.monotonic() + WAIT_S
    while not is_free(pool_of):
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


def main() -> None:
    """Run every stage, look whether its pool is free then, and drain the nodes at last."""
    import ray

    folder, cluster, freed = sys.argv[1], start_nodes(), {}
    labels: dict[str, str] = {}
    found: dict[str, Any] = {}
    stages = {
        "label": lambda: label(folder),
        "late": lambda: label_late(folder, cluster),
        "trainer": lambda: train(folder, "trainer"),
        "fed": lambda: train_fed(folder),
        "tasks": lambda: train(folder, "tasks"),
        "answer": lambda: answer(folder, cluster),
    }
    for name, stage in stages.items():
        found[name] = stage()
        there = {
            one["NodeID"]: one["Labels"].get("pool", "") for one in ray.nodes() if one["Alive"]
        }
        labels |= there
        freed[name] = wait_until_free({node: pool for node, pool in there.items() if pool})
    trial = [labels[node] for node in nodes_of_a_trial()]
    script = str(REPOSITORY / "cluster" / "drain_node.py")
    ip = ray.util.get_node_ip_address()
    drained = subprocess.run(
        [
            sys.executable,
            script,
            "--address",
            cluster.address,
            "--node-ip",
            ip,
            "--deadline-s",
            "60",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    alive = [one["NodeID"] for one in ray.nodes() if one["Alive"]]
    events = {
        "pools": labels,
        "found": found,
        "freed": freed,
        "trial": trial,
        "drained": [drained.returncode, drained.stderr],
        "alive": [labels[node] for node in alive],
        "num_alive": len(alive),
    }
    Path(folder, "events.json").write_text(json.dumps(events))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
