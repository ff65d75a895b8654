"""The same pass on 1, 2 and 4 Ray nodes of this machine: the same bytes, unit by unit."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from composed import REPOSITORY

TIMEOUT_S = 300
NUM_SAMPLES = 60
NUM_TRIES = 3
BROKEN = {3: "bad", 11: "no_y", 20: "io"}

# A pass on a cluster of its own, in a process of its own, so that no other Ray is near.
PASS = """
import json, sys, tempfile
from dataclasses import replace
import ray
from ray.cluster_utils import Cluster
from label_fakes import make_world
from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.labelling import run_pass
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.storage import open_root

root, num_nodes, is_split, num_samples, broken = json.loads(sys.argv[1])
one = {"num_cpus": 6 // num_nodes + 1, "object_store_memory": 128 * 2**20}
folder = tempfile.mkdtemp(prefix="mr-", dir="/tmp")
cluster = Cluster(True, head_node_args={**one, "include_dashboard": False, "temp_dir": folder})
for _ in range(num_nodes - 1):
    cluster.add_node(**one)
cluster.connect()
cluster.wait_for_nodes()
assert len(ray.nodes()) == num_nodes
log = root + "/batches"
teacher = {"_target_": "label_fakes.NetworkTeacher", "log": log, "delay_s": 0.05}
plan = make_world(open_root(root + "/run"), num_samples, teachers=[teacher], broken=broken)
plan = replace(plan, units_ahead=1)
refs = list(plan.manifest.unit_refs())
pool = ActorPool(min_actors=4, max_actors=4)
two = ActorPool(min_actors=2, max_actors=2)
teachers = replace(two, key="labelling.teachers_pool")
runner = RayDataRunner(two, teachers=teachers) if is_split else RayDataRunner(pool)
report = run_pass(plan, refs, runner)
assert report.num_units_run == len(refs)
ray.shutdown()
cluster.shutdown()
"""


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every column of every unit that a pass stored."""
    from label_fakes import make_world

    from mke_ray.storage import open_root

    teacher = {"_target_": "label_fakes.NetworkTeacher"}
    root = open_root(str(folder / "run"))
    plan = make_world(root, NUM_SAMPLES, teachers=[teacher], broken=BROKEN)
    found = {}
    for kind, store in zip(("samples", "labels"), plan.stores, strict=True):
        for ref in plan.manifest.unit_refs():
            table = store.read(ref.unit, check_digest=True).combine_chunks()
            for name in table.column_names:
                digest = hashlib.sha256()
                for buffer in table.column(name).combine_chunks().buffers():
                    digest.update(b"" if buffer is None else bytes(buffer))
                found[f"{kind} {ref.unit} {name}"] = digest.hexdigest()
    return found


def run_on(folder: Path, num_nodes: int, *, is_split: bool) -> dict[str, str]:
    """Return what several workers stored; on a busy machine one may be done before others start."""
    folder.mkdir()
    for tried in range(NUM_TRIES):
        place = folder / f"{tried}"
        if num_workers_of(place, num_nodes, is_split=is_split) >= 2:
            return contents(place)
    raise AssertionError(f"in {NUM_TRIES} passes a single worker did all the work")


def num_workers_of(folder: Path, num_nodes: int, *, is_split: bool) -> int:
    folder.mkdir()
    asked = json.dumps([str(folder), num_nodes, is_split, NUM_SAMPLES, BROKEN])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", PASS, asked],
        env={**environment, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return len({line.split()[1] for line in (folder / "batches").read_text().splitlines()})


@pytest.mark.timeout(1500)
def test_labels_are_the_same_bytes_on_one_two_and_four_nodes(tmp_path: Path) -> None:
    alone = run_on(tmp_path / "one", 1, is_split=False)
    assert len(alone) > 100
    assert run_on(tmp_path / "two", 2, is_split=False) == alone
    assert run_on(tmp_path / "four", 4, is_split=False) == alone
    assert run_on(tmp_path / "split", 4, is_split=True) == alone
