"""What actors do at a unit: suspects alone, and what is handed from decoders to teachers."""

import threading
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from label_fakes import make_world, teacher_spec

from mke_ray.errors import MkeRayError
from mke_ray.labels import ray_actors
from mke_ray.labels.ray_actors import DecodeActor, Gate, LabelActor, Station
from mke_ray.labels.tries import Tries
from mke_ray.labels.unit_report import UnitReport
from mke_ray.storage import open_root


@pytest.fixture
def plan(tmp_path):
    root = open_root(str(tmp_path / "run"))
    return make_world(root, 4, teachers=[teacher_spec(modality="y")], broken={1: "no_y"})


@pytest.fixture
def tries(monkeypatch):
    """Tries whose remote calls happen in this process."""
    monkeypatch.setattr(ray_actors.ray, "get", lambda result: result)
    counted = Tries()
    names = ("count", "begin", "end")
    return SimpleNamespace(
        **{name: SimpleNamespace(remote=getattr(counted, name)) for name in names}
    )


def batch_of(plan):
    (ref,) = plan.manifest.unit_refs()
    return ref, pa.Table.from_pylist([asdict(ref)])


def test_work_that_was_begun_before_is_done_alone(plan, tries):
    station = Station(plan, tries, name="unit", num_threads=1)
    tries.begin.remote("unit suspect")
    inside, most = [], []

    def do(unit):
        inside.append(unit)
        most.append(sorted(inside))
        time.sleep(0.02)
        inside.remove(unit)
        return {"report": ""}

    units = ["one", "suspect", "two", "three"]
    threads = [threading.Thread(target=station.work, args=(u, lambda u=u: do(u))) for u in units]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["suspect"] in most and len(most) == 4
    assert [some for some in most if "suspect" in some] == [["suspect"]]
    assert tries.count.remote("unit suspect") == 0


def test_nobody_passes_one_who_waits_to_be_alone():
    gate, order = Gate(), []
    first = gate.entered(alone=False)
    first.__enter__()

    def enter(name, alone):
        with gate.entered(alone=alone):
            order.append(name)

    lonely = threading.Thread(target=enter, args=("lonely", True))
    lonely.start()
    while not gate._num_lonely:
        time.sleep(0.001)
    late = threading.Thread(target=enter, args=("late", False))
    late.start()
    time.sleep(0.02)
    assert order == []
    first.__exit__(None, None, None)
    lonely.join()
    late.join()
    assert order == ["lonely", "late"]


def test_tries_of_decoding_and_of_labelling_are_counted_apart(plan, tries):
    ref, batch = batch_of(plan)
    for _ in range(4):
        tries.begin.remote(f"label {ref.unit}")
    decoded = DecodeActor(plan, tries)(batch)
    assert decoded.column("error").to_pylist() == [""]
    (row,) = LabelActor(plan, tries)(decoded).to_pylist()
    assert row["error"] == MkeRayError.__name__ and ref.unit in row["message"]


def test_teachers_get_what_they_read_and_nothing_else(plan, tries):
    ref, batch = batch_of(plan)
    decoded = DecodeActor(plan, tries)(batch)
    samples = pa.ipc.open_stream(decoded.column("samples")[0].as_buffer()).read_all()
    assert samples.column_names == ["sample_id", "status", "y", "y_status"]
    assert plan.teachers[0].labels.find(ref.unit) is None
    (row,) = LabelActor(plan, tries)(decoded).to_pylist()
    report = UnitReport.from_json(row["report"])
    assert (report.counts.ok, report.counts.partial) == (3, 1)
    assert {"decode", "unpack", "teacher", "write"} == set(report.seconds)
    logits = plan.teachers[0].labels.read(ref.unit).column("logits").to_pylist()
    assert len(logits) == 4 and logits.count(None) == 1
    again = DecodeActor(plan, tries)(batch)
    handed = pa.ipc.open_stream(again.column("samples")[0].as_buffer()).read_all()
    assert handed.column_names == ["sample_id", "status"]


def test_an_error_of_decoding_passes_the_teachers(plan, tries, monkeypatch):
    def fail(*_):
        raise MkeRayError("the source is broken")

    monkeypatch.setattr("mke_ray.labels.worker.UnitWorker.decode", fail)
    decoded = DecodeActor(plan, tries)(batch_of(plan)[1])
    monkeypatch.setattr("mke_ray.labels.worker.UnitWorker.label", lambda *_: pytest.fail("called"))
    (row,) = LabelActor(plan, tries)(decoded).to_pylist()
    assert row == {"report": "", "error": "MkeRayError", "message": "the source is broken"}


def test_torch_has_the_threads_of_the_pool_in_every_call(plan, tries, monkeypatch):
    seen = []
    monkeypatch.setattr(ray_actors.torch, "set_num_threads", seen.append)
    other = replace(plan, num_threads=2, teacher_threads=3)
    LabelActor(other, tries)(DecodeActor(other, tries)(batch_of(plan)[1]))
    assert seen == [2, 3]
