"""The numbers of a pass where people look for them: Prometheus, MLflow, the summary."""

import logging
import re
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from composed import composed
from label_fakes import make_world

from mke_ray.expansion import label, teach, work
from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.labelling import run_pass
from mke_ray.labels.ray_metrics import RayMetrics
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.labels.spilling import Spilling
from mke_ray.storage import open_root

EXPORT_S = 40.0


def exported(ray, wanted: str, *, run: str) -> dict[tuple[str, str], float]:
    """Return a run's numbers of this cluster's Prometheus endpoint by name and last tag.

    They are awaited; those of passes of other tests may be there too.
    """
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline_s = time.monotonic() + EXPORT_S
    while time.monotonic() < deadline_s:
        text = opener.open(url, timeout=10).read().decode()
        lines = re.findall(r"^ray_(mke_ray_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE)
        mine = [(name, _tags(tags), value) for name, tags, value in lines]
        mine = [one for one in mine if one[1].get("run") == run]
        if any(name == wanted for name, _, _ in mine):
            return {(name, _last_tag(tags)): float(value) for name, tags, value in mine}
        time.sleep(0.5)
    raise AssertionError(f"{wanted} is not exported:\n{text}")


def _tags(text: str) -> dict[str, str]:
    """Return the tags of a line."""
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


def _last_tag(tags: dict[str, str]) -> str:
    """Return the tag that tells apart the numbers of one name, "" where there is none."""
    return next((tags[key] for key in ("status", "kind", "stage", "le") if key in tags), "")


def test_prometheus_gets_the_numbers_of_the_pass(ray_session, tmp_path):
    plan = make_world(open_root(str(tmp_path / "run")), 40, broken={3: "bad", 11: "no_y"})
    runner = RayDataRunner(ActorPool(min_actors=1, max_actors=1))
    refs = list(plan.manifest.unit_refs())
    report = run_pass(plan, refs, runner, watchers=[RayMetrics("prom")], cost_per_hour=5.0)
    found = exported(ray_session, "mke_ray_label_samples_done", run="prom")
    assert found["mke_ray_label_samples_total", "ok"] == 38
    assert found["mke_ray_label_samples_total", "partial"] == 1
    assert found["mke_ray_label_samples_total", "bad"] == 1
    assert found["mke_ray_label_bytes_total", "read"] == 390
    assert found["mke_ray_label_bytes_total", "written"] == report.rates.num_bytes_written > 0
    teacher_s = report.rates.seconds["teacher"]
    assert found["mke_ray_label_stage_seconds_total", "teacher"] == pytest.approx(teacher_s)
    assert found["mke_ray_label_unit_seconds_count", ""] == 10
    assert (
        found["mke_ray_label_samples_done", ""] == found["mke_ray_label_samples_wanted", ""] == 40
    )
    assert found["mke_ray_label_eta_seconds", ""] == 0


def test_what_the_object_store_spills_is_seen(ray_session):
    since = Spilling()
    deadline_s = time.monotonic() + EXPORT_S
    since.begin()
    refs = [ray_session.put(np.ones(100 << 20, np.uint8)) for _ in range(7)]  # the store has 512
    while not since.num_bytes() and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert since.num_bytes() >= 100 << 20
    del refs


def test_mlflow_gets_the_curve_of_a_pass_that_did_something_and_no_run_of_one_that_did_not(
    tmp_path: Path, monkeypatch, caplog
):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (job,) = composed(
        "experiment=two_moon",
        f"root={tmp_path / 'run'}",
        "labelling.runner=local",
        "labelling.cost_per_hour=7200",
        "scaling.launch=local",
        "teacher.fit.num_steps=5",
    )
    teach([job])
    assert not Path(job.root, "mlflow.db").exists()  # a pass that only decodes has no curve
    with caplog.at_level(logging.INFO):
        label([job])
    uri = f"sqlite:///{job.root}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name(job.name)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    numbers = {k: v for k, v in run.data.metrics.items() if k.startswith("label/")}
    assert numbers["label/total/samples"] == numbers["label/samples_done"] == 500
    assert numbers["label/samples_per_s"] > 0
    assert numbers["label/total/starts"] == 1 and numbers["label/bytes_spilled"] == 0
    assert numbers["label/cost"] == pytest.approx(2 * numbers["label/total/wall_s"])
    shares = [v for k, v in numbers.items() if k.startswith("label/total/share/")]
    assert sum(shares) == pytest.approx(1.0)
    steps = [one.step for one in client.get_metric_history(run.info.run_id, "label/samples_done")]
    assert 0 < steps[0] < steps[-1] == 500
    assert "is the bottleneck" in caplog.text

    Path(job.root, "mlflow.db").unlink()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        label([replace(job)])
    assert not Path(job.root, "mlflow.db").exists()
    assert "nothing to do; in all, 500 samples in 0:" in caplog.text


def test_waiting_does_not_hide_the_time_left():
    shown = []
    progress = work.PassShown(lambda *call, **more: shown.append((call, more)))
    progress.tell(4, 12, 30.0, "")
    progress.say("starting 2 workers")
    assert shown[-1] == ((4, 12, "starting 2 workers"), {"eta_s": 30.0})
