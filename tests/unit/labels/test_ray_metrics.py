"""The numbers of a pass as Ray metrics, without a Ray."""

from types import SimpleNamespace

import pytest

from mke_ray.labels import ray_metrics, spilling
from mke_ray.labels.pass_state import PassState
from mke_ray.labels.rates import PassRates
from mke_ray.labels.ray_metrics import RayMetrics
from mke_ray.labels.spilling import Spilling, spilled_in
from mke_ray.labels.worker import UnitReport
from mke_ray.schema import StatusCounts

REPORT = UnitReport(
    "u",
    StatusCounts(ok=5, bad=1),
    seconds={"fetch": 1.0, "decode": 2.0},
    num_bytes_read=100,
    num_bytes_needed=80,
    num_bytes_written=30,
    duration_s=60.0,
)
STATE = PassState(
    num_done=6, num_wanted=18, eta_s=7.0, total=PassRates(6, wall_s=10.0), cost_per_hour=3600.0
)


@pytest.fixture
def exported(monkeypatch):
    """What is counted, set and observed, by name and tags."""
    numbers = {}

    class Fake:
        def __init__(self, name, description, *more):
            assert description
            self._name, self._keys = name, more[-1]

        def inc(self, value, tags):
            assert value > 0 and set(tags) == set(self._keys)
            key = (self._name, *sorted(tags.values()))
            numbers[key] = numbers.get(key, 0) + value

        def set(self, value, tags):
            assert set(tags) == set(self._keys)
            numbers[self._name, *tags.values()] = value

        def observe(self, value, tags):
            numbers.setdefault((self._name, *tags.values()), []).append(value)

    for name in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(ray_metrics, name, Fake)
    monkeypatch.setattr(ray_metrics, "ray", SimpleNamespace(is_initialized=lambda: True))
    return numbers


def test_every_number_is_exported_with_its_tags(exported):
    metrics = RayMetrics("demo")
    metrics(REPORT, STATE)
    metrics(REPORT, STATE)
    assert exported == {
        ("mke_ray_label_samples", "demo", "ok"): 10,
        ("mke_ray_label_samples", "bad", "demo"): 2,
        ("mke_ray_label_bytes", "demo", "read"): 200,
        ("mke_ray_label_bytes", "demo", "needed"): 160,
        ("mke_ray_label_bytes", "demo", "written"): 60,
        ("mke_ray_label_stage_seconds", "demo", "fetch"): 2.0,
        ("mke_ray_label_stage_seconds", "decode", "demo"): 4.0,
        ("mke_ray_label_media_seconds", "demo"): 120.0,
        ("mke_ray_label_unit_seconds", "demo"): [3.0, 3.0],
        ("mke_ray_label_samples_done", "demo"): 6,
        ("mke_ray_label_samples_wanted", "demo"): 18,
        ("mke_ray_label_eta_seconds", "demo"): 7.0,
        ("mke_ray_label_cost", "demo"): 10.0,
        ("mke_ray_label_cost_to_come", "demo"): 7.0,
        ("mke_ray_label_bytes_to_come", "demo"): 0.0,
    }


def test_without_ray_nothing_is_exported(exported, monkeypatch):
    monkeypatch.setattr(ray_metrics, "ray", SimpleNamespace(is_initialized=lambda: False))
    RayMetrics("demo")(REPORT, STATE)
    assert exported == {}


def text_of(spilled):
    return (
        'ray_spill_manager_objects_bytes{NodeAddress="n",State="Pinned"} 6.2e+07\n'
        f'ray_spill_manager_objects_bytes{{Node="n",State="Spilled",Version="2"}} {spilled}\n'
        'ray_spill_manager_request_total{State="Spilled"} 6.0\n'
    )


def test_only_spilled_bytes_count_and_only_those_since_the_beginning(monkeypatch):
    assert spilled_in(text_of("1.88745204e+08")) == 188_745_204
    nodes = {"a": "100", "b": "50"}

    def fetch(url):
        return text_of(nodes[url[len("http://") :].partition(":")[0]])

    def living():
        return [
            {"NodeID": one, "NodeManagerAddress": one, "MetricsExportPort": 9, "Alive": True}
            for one in nodes
        ] + [{"NodeID": "dead", "Alive": False}]

    fake = SimpleNamespace(is_initialized=lambda: True, nodes=living)
    monkeypatch.setattr(spilling, "ray", fake)
    monkeypatch.setattr(spilling, "_fetch", fetch)
    since = Spilling()
    since.begin()
    assert since.num_bytes() == 0
    del nodes["a"]
    nodes |= {"b": "80", "c": "7"}
    assert since.num_bytes() == 37


def test_without_ray_nothing_was_spilled(monkeypatch):
    monkeypatch.setattr(spilling, "ray", SimpleNamespace(is_initialized=lambda: False))
    since = Spilling()
    since.begin()
    assert since.num_bytes() == 0
