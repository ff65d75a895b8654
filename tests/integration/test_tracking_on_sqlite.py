import os

from mke_ray.storage import open_root
from mke_ray.tracking import start_tracking


def test_a_run_and_its_restart_are_one_run_in_a_real_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    root = open_root(str(tmp_path / "root"))
    picture = tmp_path / "arms.png"
    picture.write_bytes(b"png")
    for _ in range(2):
        tracker = start_tracking(
            experiment="demo",
            run_name="seed-0",
            params={"fit": {"lr": 0.1}, "long": "x" * 7000},
            files=root,
            local_folder=root.path(),
        )
        child = tracker.child("mke", {"alpha": 1})
        child.log_history([{"step": step, "loss": 1.0 / (step + 1)} for step in range(1200)])
        child.finish()
        tracker.log_artifact(str(picture), "report")
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
    assert [one.path for one in client.list_artifacts(tracker.run_id)] == ["report"]
    assert os.listdir(elsewhere) == []
    assert {"mlflow.db", "mlartifacts"} <= set(os.listdir(root.path()))
