import logging
import os
import tempfile
import uuid
from pathlib import Path

import pytest
from composed import composed

from mke_ray.expansion.checks import open_run
from mke_ray.storage import open_root
from mke_ray.tracking import _RunIds, start_tracking


def test_a_run_and_its_restart_are_one_run_in_a_real_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    root = open_root(str(tmp_path / "root"))
    pictures = tmp_path / "report"
    pictures.mkdir()
    (pictures / "arms.png").write_bytes(b"png")
    for _ in range(2):
        tracker = start_tracking(
            experiment="demo",
            run_name="seed-0",
            params={"fit": {"lr": 0.1}, "long": "x" * 7000},
            files=root,
            home=root.path(),
        )
        child = tracker.child("mke", {"alpha": 1})
        child.log_history([{"step": step, "loss": 1.0 / (step + 1)} for step in range(1200)])
        child.finish()
        tracker.log_artifacts(str(pictures))
        tracker.log_metrics({"arms": {"mke": {"value": 0.7}}})
        tracker.set_tags({"verdict": "promoted"})
        tracker.finish()

    client = tracker._client()
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.data.params["fit.lr"]) == ("FINISHED", "0.1")
    assert run.data.metrics["arms/mke/value"] == 0.7
    assert run.data.tags["verdict"] == "promoted"
    assert len(client.get_metric_history(child.run_id, "loss")) == 1200
    experiments = client.search_experiments(filter_string="name = 'demo'")
    runs = client.search_runs([one.experiment_id for one in experiments])
    assert {one.info.run_id for one in runs} == {tracker.run_id, child.run_id}
    assert [one.path for one in client.list_artifacts(tracker.run_id)] == ["arms.png"]
    assert os.listdir(elsewhere) == []
    assert {"mlflow.db", "mlartifacts"} <= set(os.listdir(root.path()))


def test_a_driver_that_dies_before_it_knows_a_run_leaves_no_second_one(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = open_root(str(tmp_path / "root"))

    def started():
        return start_tracking(
            experiment="demo", run_name="run", params={}, files=root, home=root.path()
        )

    def dies(ids, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(_RunIds, "keep_run", dies)
        with pytest.raises(KeyboardInterrupt):
            started()
    with monkeypatch.context() as dying:
        dying.setattr(_RunIds, "keep_child", dies)
        with pytest.raises(KeyboardInterrupt):
            started().child("trial 1")
    tracker = started()
    other = tracker.child("trial 10")
    child = tracker.child("trial 1")
    assert other.run_id != child.run_id
    experiments = tracker._client().search_experiments(filter_string="name = 'demo'")
    runs = tracker._client().search_runs([one.experiment_id for one in experiments])
    assert {one.info.run_id for one in runs} == {tracker.run_id, child.run_id, other.run_id}


def test_a_run_in_a_bucket_finds_its_records_again_also_after_a_failure(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (job,) = composed("experiment=two_moon", f"root=memory://{uuid.uuid4().hex}/run")
    root = open_root(job.root)
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt), open_run(job) as run:
        run_id = run.tracker().run_id
        raise KeyboardInterrupt
    (line,) = [one.getMessage() for one in caplog.records if "tracking.uri" in one.getMessage()]
    assert f"{job.root}/mlflow/mlflow.db" in line
    assert stored_status(root, run_id, tmp_path) == "KILLED"
    with open_run(job) as run:
        tracker = run.tracker()
        tracker.log_metrics({"test": 0.5})
        tracker.finish()
    assert tracker.run_id == run_id
    assert stored_status(root, run_id, tmp_path) == "FINISHED"
    assert list(tmp_path.glob("mke_ray*")) == []


def stored_status(root, run_id: str, folder: Path) -> str:
    """Return what became of a run, by a copy of the database that is kept in the root."""
    from mlflow import MlflowClient

    copy = folder / f"{uuid.uuid4().hex}.db"
    copy.write_bytes(root.read("mlflow/mlflow.db"))
    uri = f"sqlite:///{copy}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri).get_run(run_id).info.status
