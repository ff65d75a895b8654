"""The labelling pass on a real local Ray."""

import logging
import os
import re
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

RUNNER = RayDataRunner(ActorPool(min_actors=2, max_actors=2))


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


def refs_of(plan):
    return list(plan.manifest.unit_refs())


def logits_of(plan):
    store = plan.teachers[0].labels
    return {ref.unit: store.read(ref.unit).column("logits").to_pylist() for ref in refs_of(plan)}


def assert_exactly_once(plan, num_samples):
    for store in plan.stores:
        report = verify(store, plan.manifest)
        assert report.ok, report.problems
        assert report.num_rows == num_samples
    assert sum(map(len, logits_of(plan).values())) == num_samples


def num_actors():
    """Return how many actors this cluster has ever started."""
    import ray
    from ray.util.state import list_actors

    return len(list_actors(address=ray.get_runtime_context().gcs_address, limit=10_000))


def test_all_rows_are_labelled_once_and_a_second_pass_starts_no_actor(root, tmp_path, caplog):
    plan = make_world(root, 50, broken={3: "bad", 11: "no_y"})
    calls, said = [], []
    runner = replace(RUNNER, say=said.append)
    report = run_pass(plan, refs_of(plan), runner, progress=lambda *call: calls.append(call))
    assert said == ["starting 2 workers"]
    assert report.num_units_run == 13
    assert (report.counts.ok, report.counts.partial, report.counts.bad) == (48, 1, 1)
    assert calls[0][:2] == (0, 50) and calls[-1][:2] == (50, 50)
    assert_exactly_once(plan, 50)

    before = num_actors()
    again = run_pass(plan, refs_of(plan), RUNNER)
    assert again.num_units_run == 0 and again.counts == report.counts
    assert num_actors() == before > 0
    logging.getLogger("application").warning("heard after a pass")
    assert "heard after a pass" in caplog.text

    other = make_world(open_root(str(tmp_path / "local")), 50, broken={3: "bad", 11: "no_y"})
    run_pass(other, refs_of(other), LocalRunner())
    assert logits_of(other) == logits_of(plan)


def test_an_actor_that_is_killed_in_the_middle_costs_nothing(root, tmp_path):
    log = tmp_path / "reads"
    plan = make_world(root, 120, log=str(log), delay_s=0.02)
    killed = []

    def kill_one_worker():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not killed:
            lines = log.read_text().splitlines() if log.exists() else []
            if len(lines) > 15:
                pid = int(lines[-1].split()[1])
                assert pid != os.getpid()
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.01)

    thread = threading.Thread(target=kill_one_worker)
    thread.start()
    run_pass(plan, refs_of(plan), RUNNER)
    thread.join()
    assert killed
    assert len({line.split()[1] for line in Path(log).read_text().splitlines()}) >= 3
    assert_exactly_once(plan, 120)


def test_an_interrupted_pass_goes_on_with_what_is_left(root):
    plan = make_world(root, 60)

    def interrupt(num_done, *_):
        if num_done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pass(plan, refs_of(plan), RUNNER, progress=interrupt)
    report = run_pass(plan, refs_of(plan), RUNNER)
    assert report.num_units_run < 15
    assert_exactly_once(plan, 60)


def test_an_error_of_a_worker_arrives_as_itself(root, tmp_path):
    plan = make_world(root, 8, teachers=[teacher_spec(num_classes=5)])
    with pytest.raises(StoreError, match="its classes are not those of the source"):
        run_pass(plan, refs_of(plan), RUNNER)
    broken = dict.fromkeys(range(8), "bad")
    plan = make_world(open_root(str(tmp_path / "bad")), 8, broken=broken)
    with pytest.raises(MediaError, match=r"labelling\.max_bad_fraction"):
        run_pass(plan, refs_of(plan), RUNNER)


def test_a_teacher_that_kills_its_worker_ends_the_pass_and_names_the_unit(root, tmp_path):
    log = tmp_path / "batches"
    deadly = {"_target_": "label_fakes.DeadlyTeacher", "log": str(log)}
    plan = make_world(root, 8, teachers=[deadly])
    one_actor = RayDataRunner(ActorPool(min_actors=1, max_actors=1))
    unit = refs_of(plan)[1].unit
    with pytest.raises(MkeRayError, match=rf"unit {unit} ended its worker process 4 times"):
        run_pass(plan, refs_of(plan)[1:], one_actor)
    assert len(log.read_text().splitlines()) == 4


def test_another_teacher_labels_several_units_at_a_time_and_all_of_them_once(root, tmp_path):
    first = make_world(root, 200)
    run_pass(first, refs_of(first), LocalRunner())
    plan = make_world(root, 200, teachers=[teacher_spec(scale=2.0)])
    report = run_pass(plan, refs_of(plan), RUNNER)
    assert report.num_units_run == 50
    assert_exactly_once(plan, 200)
    teachers = [teacher_spec(scale=2.0)]
    other = make_world(open_root(str(tmp_path / "local")), 200, teachers=teachers)
    run_pass(other, refs_of(other), LocalRunner())
    assert logits_of(other) == logits_of(plan)


def test_of_several_units_at_a_time_the_one_that_kills_the_worker_is_named(root):
    first = make_world(root, 64, teachers=[teacher_spec(scale=2.0)])
    run_pass(first, refs_of(first), LocalRunner())
    deadly = {"_target_": "label_fakes.DeadlyTeacher"}
    plan = make_world(root, 64, teachers=[deadly])
    one_actor = RayDataRunner(ActorPool(min_actors=1, max_actors=1))
    unit = refs_of(plan)[1].unit
    with pytest.raises(MkeRayError, match=rf"unit {unit} ended its worker process 4 times"):
        run_pass(plan, refs_of(plan), one_actor)


def test_a_store_that_fails_a_worker_is_named_with_the_way_out(root):
    plan = make_world(root, 8, teachers=[{"_target_": "label_fakes.UnstoredTeacher"}])
    wanted = rf"of {re.escape(root.uri)} was not finished.*no space left.*start the same job again"
    with pytest.raises(StoreError, match=wanted):
        run_pass(plan, refs_of(plan), RUNNER)


def test_a_plan_that_would_starve_the_cluster_is_refused_until_it_has_begun(root, caplog):
    plan = make_world(root, 8)
    greedy = RayDataRunner(ActorPool(min_actors=1, max_actors=6))
    with pytest.raises(ConfigError, match=r"labelling\.max_actors=5 or less"):
        run_pass(plan, refs_of(plan), greedy)
    run_pass(plan, refs_of(plan)[:1], LocalRunner())
    run_pass(plan, refs_of(plan), greedy)
    assert "goes on with 5" in caplog.text
    assert_exactly_once(plan, 8)


@pytest.mark.s3
def test_a_pass_on_s3_is_exactly_once_too(s3_server):
    plan = make_world(open_root(s3_server.uri("labelling-with-ray")), 30, broken={3: "bad"})
    run_pass(plan, refs_of(plan), RUNNER)
    assert_exactly_once(plan, 30)
    assert run_pass(plan, refs_of(plan), RUNNER).num_units_run == 0
