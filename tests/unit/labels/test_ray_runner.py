"""What an actor makes of a unit that ends its workers, and of a store that fails it."""

import errno
from dataclasses import asdict
from types import SimpleNamespace

import pyarrow as pa
import pytest
from label_fakes import make_world

from mke_ray.errors import MkeRayError, StoreError
from mke_ray.labels import ray_actors, ray_runner
from mke_ray.labels.tries import Tries
from mke_ray.storage import open_root


@pytest.fixture
def plan(tmp_path):
    return make_world(open_root(str(tmp_path / "run")), 4)


@pytest.fixture
def tries(monkeypatch):
    """Tries whose remote calls happen in this process."""
    monkeypatch.setattr(ray_actors.ray, "get", lambda result: result)
    counted = Tries()
    names = ("count", "begin", "end")
    return SimpleNamespace(
        **{name: SimpleNamespace(remote=getattr(counted, name)) for name in names}
    )


def answer_of(plan, tries):
    """Return the unit, and the report or the error that the driver would see."""
    (ref,) = plan.manifest.unit_refs()
    batch = ray_actors.UnitActor(plan, tries)(pa.Table.from_pylist([asdict(ref)]))
    return ref.unit, ray_runner._reports(batch)


def test_a_unit_is_tried_four_times_by_workers_that_die_of_it(plan, tries):
    unit, _ = answer_of(plan, tries)
    for _ in range(4):
        tries.begin.remote(f"unit {unit}")
    with pytest.raises(MkeRayError, match=rf"unit {unit} ended its worker process 4 times"):
        next(answer_of(plan, tries)[1])


def test_deaths_that_were_survived_do_not_add_up(plan, tries):
    for _ in range(6):
        unit, reports = answer_of(plan, tries)
        assert next(reports).counts.ok == 4
        assert tries.begin.remote(f"unit {unit}") == 0
        tries.end.remote(f"unit {unit}")


def test_an_error_of_the_store_is_named_with_its_root_and_the_way_out(plan, tries, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("mke_ray.labels.worker.UnitWorker.run", fail)
    wanted = rf"{plan.root.uri} was not finished.*no space left.*start the same job again"
    with pytest.raises(StoreError, match=wanted):
        next(answer_of(plan, tries)[1])
