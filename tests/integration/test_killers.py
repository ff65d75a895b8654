"""Samples that kill, stall or bloat their reader, through a whole pass; no process is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from killers import killer_spec
from label_fakes import DECODE, make_world

from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.isolation import IsolatedDecoder
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.labels.unreadable import unreadable_samples
from mke_ray.labels.verify import verify
from mke_ray.schema import decode_spec_from_dict
from mke_ray.storage import open_root

SPEC = decode_spec_from_dict(DECODE)
FAST = SampleLimits(timeout_s=6.0, memory_bytes=400 << 20)

# How a sample kills, and what its row says: status, reason, part of the error.
BLAMED = {
    "segfault": ("bad", "crashed", "SIGSEGV"),
    "abort": ("bad", "crashed", "SIGABRT"),
    "exit": ("bad", "crashed", "exited with 3"),
    "divide": ("bad", "crashed", "ZeroDivisionError"),
    "spin_with_gil": ("bad", "timeout", "not read in 6 s"),
    "spin_without_gil": ("bad", "timeout", "not read in 6 s"),
    "eat_memory": ("bad", "too_large", "MiB"),
    "wait": ("retry", "io", "no answer of the store in 6 s"),
    "die_from_outside": ("retry", "crashed", "SIGKILL"),
}
NUMBERS = {5 * number + 2: how for number, how in enumerate(BLAMED)}
NUM_SAMPLES = 48


def make_plan(tmp_path, name, **more):
    root = open_root(str(tmp_path / name))
    plan = make_world(root, NUM_SAMPLES, _target_="killers.KillerSource", **more)
    return replace(plan, limits=FAST, num_threads=2)


def assert_only_killers_are_blamed(plan, report):
    for store in plan.stores:
        found = verify(store, plan.manifest)
        assert found.ok, found.problems
        assert found.num_rows == NUM_SAMPLES
    unreadable = unreadable_samples(plan.samples, plan.manifest, report.samples)
    by_number = {int(one.key): (one.status, one.error) for one in unreadable}
    assert sorted(by_number) == sorted(NUMBERS)
    for number, how in NUMBERS.items():
        status, error = by_number[number]
        assert (status, error.split(":")[0]) == BLAMED[how][:2], how
        assert BLAMED[how][2] in error, how
    counts = report.counts
    assert (counts.ok, counts.bad, counts.retry) == (NUM_SAMPLES - len(NUMBERS), 7, 2)
    labelled = [
        row["status"]
        for ref in plan.manifest.unit_refs()
        for row in plan.teachers[0].labels.read(ref.unit).to_pylist()
        if row["logits"] is not None
    ]
    assert labelled == ["ok"] * counts.ok


def readers_in(log):
    """Return the processes that have read anything, of those that are still there."""
    pids = {int(line.split()[1]) for line in log.read_text().splitlines()}
    assert len(pids) > len(BLAMED)
    return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


def test_a_pass_in_this_process_survives_all_killers(tmp_path):
    log = tmp_path / "reads"
    plan = make_plan(tmp_path, "run", broken=NUMBERS, log=str(log))
    before = decode_processes()
    report = run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    assert_only_killers_are_blamed(plan, report)
    assert decode_processes() == before
    assert not readers_in(log)


def decode_processes():
    """Return the decode processes of this one; a Ray of the session has children of its own."""
    found = set()
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "decode_child" in " ".join(one.cmdline()):
                found.add(one)
    return found


def test_a_pass_on_ray_survives_all_killers_and_no_actor_dies(tmp_path, ray_session):
    from ray.util.state import list_actors

    log = tmp_path / "reads"
    plan = make_plan(tmp_path, "run", broken=NUMBERS, log=str(log))
    address = ray_session.get_runtime_context().gcs_address
    known = {one.actor_id for one in list_actors(address=address, limit=10_000)}
    runner = RayDataRunner(ActorPool(min_actors=2, max_actors=2))
    report = run_pass(plan, plan.manifest.unit_refs(), runner)
    assert_only_killers_are_blamed(plan, report)
    actors = list_actors(address=address, limit=10_000, detail=True)
    workers = [one for one in actors if one.actor_id not in known and one.num_restarts]
    assert not workers
    _, alive = psutil.wait_procs(readers_in(log), timeout=60)
    assert not alive


def rows_of(tmp_path, num_samples):
    plan = make_world(open_root(str(tmp_path / "run")), num_samples, unit_size=num_samples)
    return plan.manifest.read_unit(next(iter(plan.manifest.unit_refs())))


def test_a_sample_that_dies_of_the_damage_of_another_is_not_blamed(tmp_path):
    decoder = IsolatedDecoder(killer_spec(4, broken={0: "damage", 2: "damage"}), SPEC, 1, FAST)
    assert {str(row.status) for row in decoder.read(rows_of(tmp_path, 4))} == {"ok"}


def test_no_process_is_left_when_the_decoder_goes(tmp_path):
    before = set(psutil.Process().children(recursive=True))  # an earlier test's may still be ending
    decoder = IsolatedDecoder(killer_spec(4, broken={1: "segfault"}), SPEC, 1, FAST)
    decoder.read(rows_of(tmp_path, 4))
    assert set(psutil.Process().children(recursive=True)) - before
    del decoder
    assert not set(psutil.Process().children(recursive=True)) - before


@pytest.mark.parametrize("how", ["ok", "wait", "spin_with_gil"])
def test_no_process_is_left_when_the_worker_is_killed(tmp_path, how):
    log = tmp_path / "reads"
    code = f"""
from pathlib import Path
from test_killers import IsolatedDecoder, SampleLimits, SPEC, killer_spec, rows_of
spec = killer_spec(2, log={str(log)!r}, broken={{0: {how!r}, 1: {how!r}}})
decoder = IsolatedDecoder(spec, SPEC, 1, SampleLimits(timeout_s=1.0))
rows = rows_of(Path({str(tmp_path)!r}), 2)
while True:
    decoder.read(rows)
"""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    worker = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    try:
        reading = wait_for_reader(log, worker)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    _, alive = psutil.wait_procs([reading], timeout=60)
    assert not alive


def wait_for_reader(log, worker):
    """Return the process that reads for a worker."""
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s and worker.poll() is None:
        if log.exists() and log.read_text():
            return psutil.Process(int(log.read_text().split()[-1]))
        time.sleep(0.02)
    raise AssertionError(f"nothing was read; the worker's exit status is {worker.poll()}")
