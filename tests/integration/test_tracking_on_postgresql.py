"""A run tracked on a real PostgreSQL: killed, gone on with, each run there once."""

from pathlib import Path

from job_processes import end_well, kill_once, start_job
from mlflow import MlflowClient
from search_runs import command_line, write_rows
from sqlalchemy import make_url


def tracked(uri: str, name: str) -> list[str]:
    return ["tracking=mlflow", f"tracking.uri={uri}", f"name={name}"]


def test_a_run_that_was_killed_is_one_run_and_none_is_left_running(
    tmp_path: Path, postgres_uri: str
) -> None:
    write_rows(tmp_path / "rows.parquet")
    keys = [*tracked(postgres_uri, "killed run"), "scaling.launch=local"]
    lines = command_line(tmp_path, *keys)
    ids = tmp_path / "run" / "tracking.json"
    kill_once(ids.exists, start_job("expand", lines))
    end_well(start_job("expand", lines))
    client = MlflowClient(postgres_uri)
    experiment = client.get_experiment_by_name("killed run")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (whole,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    arms = sorted(one.info.run_name for one in runs if one.info.run_id != whole.info.run_id)
    assert {one.info.status for one in runs} == {"FINISHED"}
    assert arms == ["mke/seed=0", "mm_student/seed=0"]
    assert whole.data.metrics["test/mm_student"] > 0.5
    assert "index.html" in {one.path for one in client.list_artifacts(whole.info.run_id)}
    assert make_url(postgres_uri).password not in ids.read_text()
