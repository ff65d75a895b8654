"""Every stage on its own pool: labelled Ray nodes of this machine, which are drained at last.

Run as ``python stages_on_pools.py FOLDER``; leaves ``where.jsonl``, a line for every piece of work
with the node that did it, and ``events.json``.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from composed import REPOSITORY
from label_fakes import FakeReader, FakeSource, FakeTeacher, make_world
from torch import Tensor, nn

from mke_ray.objectives import MKEObjective
from mke_ray.schema import Batch

POOLS = {"decode": 3, "teach": 2, "train": 2}
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

    def __init__(self, num_samples: int, folder: str, **more: Any) -> None:
        super().__init__(num_samples, **more)
        self._folder = folder

    def reader(self, spec: Any) -> "PlacedReader":
        return PlacedReader(self, self._folder)


class PlacedReader(FakeReader):
    """Reads and notes where."""

    def __init__(self, source: FakeSource, folder: str) -> None:
        super().__init__(source)
        self._folder = folder

    def read(self, row: Any) -> Any:
        note(self._folder, "decode")
        return super().read(row)


class PlacedTeacher(FakeTeacher):
    """A teacher that notes where it labels."""

    def __init__(self, folder: str, modality: str = "x") -> None:
        super().__init__(modality)
        self._folder = folder

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        note(self._folder, "teach")
        return super().predict(arrays_BX)


@dataclass
class PlacedObjective:
    """The plain objective, noted where it is computed."""

    folder: str
    stage: str

    def __call__(self, student: nn.Module, batch: Batch, progress: float) -> dict[str, Tensor]:
        note(self.folder, self.stage)
        return MKEObjective(alpha=0.0)(student, batch, progress)


def start_nodes() -> Any:
    """Start a head without CPUs and a node of every pool, and one without a label."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="mr-", dir="/tmp")  # sockets below it need a short path
    memory = {"object_store_memory": 96 << 20}
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, **memory}
    cluster = Cluster(True, head_node_args=head)
    for pool, cpus in POOLS.items():
        cluster.add_node(num_cpus=cpus, labels={"pool": pool}, **memory)
    cluster.add_node(num_cpus=8, **memory)  # where everything would go that asks for no pool
    cluster.connect()
    cluster.wait_for_nodes()
    return cluster


def label(folder: str) -> None:
    """Decode and label in two pools."""
    from mke_ray.labels.capacity import ActorPool
    from mke_ray.labels.labelling import run_pass
    from mke_ray.labels.ray_runner import RayDataRunner
    from mke_ray.storage import open_root

    teacher = {"_target_": "stages_on_pools.PlacedTeacher", "folder": folder}
    plan = make_world(
        open_root(f"{folder}/labels"),
        NUM_SAMPLES,
        teachers=[teacher],
        **{"_target_": "stages_on_pools.PlacedSource", "folder": folder},
    )
    decoders = ActorPool(min_actors=2, max_actors=2, node_pool="decode")
    teachers = ActorPool(key="labelling.teachers_pool", max_actors=2, node_pool="teach")
    run_pass(plan, list(plan.manifest.unit_refs()), RayDataRunner(decoders, teachers))


def train(folder: str, launch: str) -> None:
    """Train a fit in a pool."""
    from training_stores import fit_spec, make_run

    from mke_ray.storage import open_root
    from mke_ray.train.launch import run_fits

    root = open_root(f"{folder}/{launch}")
    make_run(root, {"labelled": 20, "unlabeled": 40, "probe": 20})
    objective = {"_target_": "stages_on_pools.PlacedObjective", "folder": folder, "stage": launch}
    spec = fit_spec(global_batch=20, num_steps=4, objective=objective)
    scaling = {"num_workers": 2, "pool": "train", "checkpoint_every_steps": 0}
    run_fits([spec], root=root, launch=launch, scaling=scaling, engine={"type": "torch"})


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
    """Return whether no node has given away a CPU."""
    import ray

    free = ray._private.state.available_resources_per_node()
    return all(free.get(node, {}).get("CPU", 0) == POOLS[pool] for node, pool in pool_of.items())


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
    labels = {one["NodeID"]: one["Labels"].get("pool", "") for one in ray.nodes()}
    pool_of = {node: pool for node, pool in labels.items() if pool}
    stages = {
        "label": lambda: label(folder),
        "trainer": lambda: train(folder, "trainer"),
        "tasks": lambda: train(folder, "tasks"),
    }
    for name, stage in stages.items():
        stage()
        freed[name] = wait_until_free(pool_of)
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
