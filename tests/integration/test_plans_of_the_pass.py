"""The plans of the labelling pass on a real local Ray: the same bytes, exactly once."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from label_fakes import make_world, teacher_spec

from mke_ray.errors import ConfigError, MediaError, MkeRayError, StoreError
from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.labels.verify import verify
from mke_ray.storage import open_root

pytestmark = pytest.mark.usefixtures("ray_session")

NETWORK = {"_target_": "label_fakes.NetworkTeacher"}
BROKEN = {3: "bad", 11: "no_y", 20: "io"}
FUSED = RayDataRunner(ActorPool(min_actors=2, max_actors=2))
SPLIT = RayDataRunner(
    ActorPool(min_actors=2, max_actors=2),
    teachers=ActorPool(min_actors=2, max_actors=2, key="labelling.teachers_pool"),
)


def world(folder, num_samples=50, *, units_ahead=0, teachers=(NETWORK,), **more):
    plan = make_world(open_root(str(folder)), num_samples, teachers=list(teachers), **more)
    return replace(plan, units_ahead=units_ahead)


def refs_of(plan):
    return list(plan.manifest.unit_refs())


def content_of(plan):
    """Return every column of every store as bytes, unit by unit."""
    return {
        (number, ref.unit, name): b"".join(
            bytes(buffer) if buffer else b""
            for chunk in column.chunks
            for buffer in chunk.buffers()
        )
        for number, store in enumerate(plan.stores)
        for ref in refs_of(plan)
        for name, column in zip(
            store.schema.names, store.read(ref.unit).combine_chunks().columns, strict=True
        )
    }


def assert_exactly_once(plan, num_samples):
    for store in plan.stores:
        report = verify(store, plan.manifest)
        assert report.ok, report.problems
        assert report.num_rows == num_samples


def test_every_plan_gives_the_same_bytes(tmp_path):
    plain = world(tmp_path / "plain", broken=BROKEN)
    run_pass(plain, refs_of(plain), LocalRunner())
    wanted = content_of(plain)
    assert len(set(wanted.values())) > 50
    plans = {"local": LocalRunner(), "fused": FUSED, "ahead": FUSED}
    said = []
    plans["split"] = replace(SPLIT, say=said.append)
    for name, runner in plans.items():
        plan = world(tmp_path / name, broken=BROKEN, units_ahead=int(name != "fused"))
        report = run_pass(plan, refs_of(plan), runner)
        assert report.num_units_run == 13 and report.counts.partial == 1
        assert set(report.rates.seconds) >= {"decode", "unpack", "teacher", "write"}
        assert content_of(plan) == wanted, name
        assert_exactly_once(plan, 50)
    assert said == ["starting 2 decoders and 2 teachers"]


def test_several_teachers_are_labelled_in_one_pass_of_every_plan(tmp_path):
    teachers = [NETWORK, teacher_spec(modality="y", scale=3.0), teacher_spec()]
    contents = []
    for name, runner in {"fused": FUSED, "split": SPLIT}.items():
        plan = world(tmp_path / name, broken=BROKEN, teachers=teachers, units_ahead=1)
        assert len(run_pass(plan, refs_of(plan), runner).labels) == 3
        assert_exactly_once(plan, 50)
        contents.append(content_of(plan))
    assert contents[0] == contents[1]


def test_a_teacher_of_a_split_pass_that_is_killed_costs_nothing(tmp_path):
    log, reads = tmp_path / "batches", tmp_path / "reads"
    slow = {**NETWORK, "delay_s": 0.05, "log": str(log)}
    plan = world(tmp_path / "run", 120, teachers=[slow], units_ahead=1, log=str(reads))
    killed = []

    def kill_one_teacher():
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not killed:
            lines = log.read_text().splitlines() if log.exists() else []
            if len(lines) > 5:
                pid = int(lines[-1].split()[1])
                assert pid != os.getpid()
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one_teacher)
    thread.start()
    run_pass(plan, refs_of(plan), SPLIT)
    thread.join()
    assert killed
    batches = [line.split() for line in Path(log).read_text().splitlines()]
    assert len({pid for _, pid in batches}) >= 3
    assert not {pid for _, pid in batches} & {
        one.split()[1] for one in reads.read_text().splitlines()
    }
    assert len(reads.read_text().splitlines()) == 120
    assert_exactly_once(plan, 120)
    assert run_pass(plan, refs_of(plan), SPLIT).num_units_run == 0


def test_a_split_pass_goes_on_with_samples_that_are_stored(tmp_path):
    log = tmp_path / "reads"
    decoded = world(tmp_path / "run", 24, teachers=[], log=str(log))
    run_pass(decoded, refs_of(decoded), SPLIT)
    plan = world(tmp_path / "run", 24, log=str(log), units_ahead=1)
    run_pass(plan, refs_of(plan), SPLIT)
    assert len(log.read_text().splitlines()) == 24
    assert_exactly_once(plan, 24)


def test_a_unit_that_kills_the_teachers_ends_a_split_pass_and_no_other_unit_is_blamed(tmp_path):
    deadly = {"_target_": "label_fakes.DeadlyTeacher"}
    one = ActorPool(min_actors=1, max_actors=1)
    fused = RayDataRunner(one)
    split = replace(fused, teachers=replace(one, key="labelling.teachers_pool"))
    for name, runner in {"ahead": fused, "split": split}.items():
        plan = world(tmp_path / name, 12, teachers=[deadly], units_ahead=1)
        firsts = {int(plan.manifest.read_unit(ref)[0].key): ref.unit for ref in refs_of(plan)}
        unit = firsts[4]
        with pytest.raises(MkeRayError, match=rf"unit {unit} ended its worker process 4 times"):
            run_pass(plan, refs_of(plan), runner)


def test_errors_of_both_pools_arrive_as_themselves(tmp_path):
    plan = world(tmp_path / "classes", 8, teachers=[teacher_spec(num_classes=5)])
    with pytest.raises(StoreError, match="its classes are not those of the source"):
        run_pass(plan, refs_of(plan), SPLIT)
    plan = world(tmp_path / "bad", 8, broken=dict.fromkeys(range(8), "bad"))
    with pytest.raises(MediaError, match=r"labelling\.max_bad_fraction"):
        run_pass(plan, refs_of(plan), SPLIT)
    plan = world(tmp_path / "full", 8)
    full = replace(SPLIT, pool=ActorPool(max_actors=4))
    with pytest.raises(ConfigError, match=r"set labelling\.max_actors=3 or less"):
        run_pass(plan, refs_of(plan), full)
