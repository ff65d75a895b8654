"""What reading in a process of its own keeps, contains and gives back."""

import os
import re
import socket
from dataclasses import replace

import psutil
import pytest
from killers import killer_spec
from label_fakes import DECODE, make_world

from mke_ray.config import build
from mke_ray.data import child_process
from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels import decode_process
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.isolation import IsolatedDecoder
from mke_ray.labels.rows import decode_row
from mke_ray.labels.worker import UnitWorker
from mke_ray.schema import decode_spec_from_dict
from mke_ray.storage import open_root

SPEC = decode_spec_from_dict(DECODE)


@pytest.fixture
def rows(tmp_path):
    plan = make_world(open_root(str(tmp_path / "run")), 4)
    return plan.manifest.read_unit(next(iter(plan.manifest.unit_refs())))


def decoder(*, num_threads=1, **more):
    return IsolatedDecoder(killer_spec(4, **more), SPEC, num_threads, SampleLimits(timeout_s=30.0))


def read_in_this_process(rows):
    reader = build(killer_spec(4)).reader(SPEC)
    return [decode_row(reader, row, SPEC) for row in rows]


@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_rows_are_those_of_reading_in_this_process(rows, num_threads):
    assert decoder(num_threads=num_threads).read(rows) == read_in_this_process(rows)


@pytest.mark.parametrize(
    ("how", "reason", "detail"),
    [
        ("segfault", "crashed", "SIGSEGV"),
        ("divide", "crashed", "ZeroDivisionError: a frame rate of zero"),
        ("leave", "crashed", "SystemExit"),
        ("ask_for_too_much", "too_large", "MemoryError"),
    ],
)
def test_a_sample_that_kills_its_reader_costs_itself_alone(rows, how, reason, detail):
    found = decoder(broken={1: how}).read(rows)
    wanted = read_in_this_process(rows)
    assert found[:1] + found[2:] == wanted[:1] + wanted[2:]
    assert str(found[1].status) == "bad" and found[1].pieces == {}
    assert found[1].missing == {"x": reason, "y": reason}
    assert found[1].error.startswith(f"{reason}: ") and detail in found[1].error


def test_the_process_is_used_again_while_it_is_healthy(rows, tmp_path):
    log = tmp_path / "reads"
    reader = decoder(log=str(log), broken={1: "bad", 2: "divide"})
    for _ in range(3):
        reader.read(rows)
    pids = {line.split()[1] for line in log.read_text().splitlines()}
    assert len(pids) == 1 and str(os.getpid()) not in pids


def test_a_sample_that_was_answered_before_a_crash_is_not_read_again(rows, tmp_path):
    log = tmp_path / "reads"
    decoder(log=str(log), delay_s=0.3, broken={3: "segfault"}).read(rows)
    numbers = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert numbers[:4] == [0, 1, 2, 3]
    assert 0 not in numbers[4:] and 3 in numbers[4:]


def test_a_mistake_of_the_user_is_no_sample_to_be_blamed(rows):
    with pytest.raises(ConfigError, match="NoSuchSource"):
        IsolatedDecoder({"_target_": "killers.NoSuchSource"}, SPEC).read(rows)
    other = decode_spec_from_dict({"x": {"kind": "features", "num_features": 9}})
    with pytest.raises(StoreError, match="has shape"):
        IsolatedDecoder(killer_spec(4), other).read(rows)


@pytest.fixture
def quick_start(monkeypatch):
    monkeypatch.setattr(child_process, "_AGAIN_S", 0.01)


@pytest.mark.usefixtures("quick_start")
def test_a_reader_that_cannot_start_is_named_with_its_node_and_the_way_out(rows, monkeypatch):
    monkeypatch.setattr(decode_process, "_COMMAND", "raise SystemExit(7)")
    node = re.escape(socket.gethostname())
    wanted = rf"node {node} .*exit status 7.*labelling\.sample_timeout_s=null"
    with pytest.raises(ConfigError, match=wanted):
        decoder().read(rows)


@pytest.mark.usefixtures("quick_start")
def test_a_reader_that_cannot_start_at_first_is_started_again(rows, monkeypatch):
    launch, calls = decode_process.launch, []

    def fail_twice(command, descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise BlockingIOError("no process left")
        return launch("raise SystemExit(9)" if len(calls) == 2 else command, descriptor)

    monkeypatch.setattr(decode_process, "launch", fail_twice)
    assert decoder().read(rows) == read_in_this_process(rows)
    assert len(calls) == 3


def test_a_mistake_of_the_user_is_not_tried_again(rows, monkeypatch):
    monkeypatch.setattr(child_process, "_AGAIN_S", 3600.0)
    with pytest.raises(ConfigError, match="NoSuchSource"):
        IsolatedDecoder({"_target_": "killers.NoSuchSource"}, SPEC).read(rows)


def test_a_process_that_the_kernel_holds_is_left_behind(monkeypatch, caplog):
    class Held:
        pid = 2**22 + 1

        def wait(self, timeout=None):
            assert timeout is not None
            raise psutil.TimeoutExpired(timeout, self.pid)

    child_process.end(Held())
    assert f"process {Held.pid} does not die" in caplog.text


def test_samples_read_side_by_side_share_one_limit_of_memory(rows, caplog):
    caplog.set_level("INFO")
    limits = SampleLimits(timeout_s=30.0, memory_bytes=500 << 20)
    spec = killer_spec(4, broken={1: "eat_memory"})
    found = IsolatedDecoder(spec, SPEC, 4, limits).read(rows)
    assert [str(row.status) for row in found] == ["ok", "bad", "ok", "ok"]
    taken = [int(mib) for mib in re.findall(r"reading took (\d+) MiB", caplog.text)]
    assert taken and max(taken) < 1000


def test_the_worker_of_a_plan_with_limits_survives_its_samples(tmp_path):
    more = {"_target_": "killers.KillerSource", "broken": {1: "segfault"}}
    plan = replace(make_world(open_root(str(tmp_path / "run")), 4, **more), limits=SampleLimits())
    report = UnitWorker(plan).run(next(iter(plan.manifest.unit_refs())))
    assert (report.counts.ok, report.counts.bad) == (3, 1)
    assert report.counts.reasons == {"crashed": 1}
