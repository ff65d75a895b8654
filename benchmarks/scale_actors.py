"""What ``scale.py`` measures of Ray: driver, head and autoscaler at several numbers of actors."""

import copy
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import psutil
import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from mke_ray.expansion.demands import Demand
from mke_ray.labels.tries import Tries
from mke_ray.session import Session

ROOT = Path(__file__).parents[1]
POOL = "cpu-decode"
CALLS_PER_ACTOR = 20
CPUS_PER_ACTOR = 0.001
TRIES_PER_UNIT = 3


class Light:
    """An actor that does as good as nothing, so that only handing over is measured."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return a report of usual size for each unit."""
        return pa.table({"report": ["x" * 400] * batch.num_rows})


def measure_actors(sizes: Sequence[int]) -> Iterator[dict[str, float]]:
    """Yield what each number of actors takes of the driver and of the head's metadata server."""
    with Session(num_cpus=4).connected():
        list(_handed_over(2, 20))  # imports and first processes are not what grows
        for number in sizes:
            yield {"actors": number, **_at(number)}
        yield {"actors": 0, **_tries()}


def _at(number: int) -> dict[str, float]:
    """Return what a pass of some actors took."""
    server = _metadata_server()
    begun, memory_mb = sum(server.cpu_times()[:2]), server.memory_info().rss / 2**20
    spent_s, num_calls = time.process_time(), number * CALLS_PER_ACTOR
    num_done = sum(1 for _ in _handed_over(number, num_calls))
    if num_done != num_calls:
        raise RuntimeError(f"{num_done} of {num_calls} units")
    return {
        "calls": num_calls,
        "driver_s": time.process_time() - spent_s,
        "server_s": sum(server.cpu_times()[:2]) - begun,
        "server_mb": server.memory_info().rss / 2**20 - memory_mb,
    }


def _handed_over(number: int, num_calls: int) -> Iterator[dict[str, Any]]:
    """Hand units to actors as the labelling pass does, one at a time."""
    blocks = [pa.table({"unit": [f"{one:016x}"]}) for one in range(num_calls)]
    context = DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.memory_usage_poll_interval_s = None
    with DataContext.current(context):
        dataset = ray.data.from_arrow(blocks).map_batches(
            Light,
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=number),
            num_cpus=CPUS_PER_ACTOR,
        )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from cast(pa.Table, batch).to_pylist()


def _tries() -> dict[str, float]:
    """Return the CPU time that the actor which counts tries takes for a unit."""
    remote: Any = ray.remote(_TimedTries)
    actor = remote.options(num_cpus=0).remote()
    num_units, begun_s = 1000, cast(float, ray.get(actor.spent_s.remote()))
    for number in range(num_units):
        name = f"unit {number:016x}"
        ray.get([actor.count.remote(name), actor.begin.remote(name), actor.end.remote(name)])
    return {"calls": num_units, "tries_s": cast(float, ray.get(actor.spent_s.remote())) - begun_s}


class _TimedTries(Tries):
    """Counts tries and tells what that took."""

    def spent_s(self) -> float:
        """Return the CPU seconds of this process."""
        return time.process_time()


def _metadata_server() -> psutil.Process:
    """Return the process that keeps what the cluster is."""
    node = importlib.import_module("ray._private.worker")._global_node
    (info,) = node.all_processes["gcs_server"]
    return psutil.Process(info.process.pid)


def measure_autoscaler(sizes: Sequence[int]) -> list[dict[str, float]]:
    """Return the CPU time of one decision of Ray's autoscaler while so many actors wait."""
    sys.path.insert(0, str(ROOT / "tests"))
    plans = importlib.import_module("autoscaler_plans")
    found = []
    for number in sizes:
        cluster = copy.deepcopy(plans.document(plans.FILES["aws"]))
        cluster["max_workers"] = number
        cluster["available_node_types"][POOL]["max_workers"] = number
        config = plans._read(cluster)
        begun_s = time.process_time()
        plan = plans.plan_of(config, [Demand("label", number, 30.0, 0.0, POOL)])
        found.append({"actors": number, "decision_s": time.process_time() - begun_s})
        if plan.launched != {POOL: number}:
            raise RuntimeError(f"{plan} for {number} actors")
    return found
