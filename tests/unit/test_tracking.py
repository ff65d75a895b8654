import logging
import math
import sys
import types

import pytest

from mke_ray import tracking
from mke_ray.tracking import (
    MAX_PARAM_LENGTH,
    RUN_IDS_NAME,
    finite_numbers,
    flatten_params,
    start_tracking,
)


class MemoryFiles:
    def __init__(self):
        self.files = {}

    def read(self, name):
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]

    def write(self, name, content):
        self.files[name] = content


class FakeMlflowError(Exception):
    error_code = "RESOURCE_DOES_NOT_EXIST"


class FakeClient:
    """As much of MlflowClient as is used, in memory; ``broken`` names methods that fail."""

    runs: dict = {}  # noqa: RUF012
    broken: set = set()  # noqa: RUF012

    def __init__(self, tracking_uri, registry_uri):
        assert tracking_uri == registry_uri
        self.tracking_uri = tracking_uri

    def get_experiment_by_name(self, name):
        self._fail("get_experiment_by_name")

    def create_experiment(self, name, artifact_location=None):
        FakeClient.artifact_location = artifact_location
        return "7"

    def create_run(self, experiment_id, run_name=None, tags=None):
        info = types.SimpleNamespace(
            run_id=f"run-{len(self.runs)}",
            experiment_id=experiment_id,
            lifecycle_stage="active",
            start_time=1000,
            status="RUNNING",
        )
        run = types.SimpleNamespace(
            info=info, tags=tags or {}, metrics=[], data=types.SimpleNamespace(params={})
        )
        self.runs[info.run_id] = run
        return run

    def search_runs(self, experiment_ids, filter_string, max_results):
        return []  # what it would find is tested on a real store

    def get_run(self, run_id):
        if run_id not in self.runs:
            raise FakeMlflowError(run_id)
        return self.runs[run_id]

    def update_run(self, run_id, status):
        self.runs[run_id].info.status = status

    def set_terminated(self, run_id, status):
        self.runs[run_id].info.status = status

    def set_tag(self, run_id, key, value):
        self.runs[run_id].tags[key] = value

    def log_batch(self, run_id, metrics=(), params=()):
        self._fail("log_batch")
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.runs[run_id].metrics.extend(metrics)
        self.runs[run_id].data.params.update(params)

    def _fail(self, name):
        if name in self.broken:
            raise FakeMlflowError(f"{name} failed")


@pytest.fixture
def mlflow(monkeypatch):
    """Put a fake in the place of MLflow, whose import alone takes seconds."""
    FakeClient.runs, FakeClient.broken = {}, set()
    fake = types.ModuleType("mlflow")
    fake.MlflowClient = FakeClient
    entities = types.ModuleType("mlflow.entities")
    entities.Metric = lambda key, value, time_ms, step: (key, value, time_ms, step)
    entities.Param = lambda key, value: (key, value)
    exceptions = types.ModuleType("mlflow.exceptions")
    exceptions.MlflowException = FakeMlflowError
    for module in (fake, entities, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking._tracking_errors.cache_clear()
    yield FakeClient
    tracking._tracking_errors.cache_clear()


def start(files, folder, **changes):
    plain = {
        "experiment": "e",
        "run_name": "r",
        "params": {"fit": {"lr": 0.1}},
        "files": files,
        "home": str(folder),
    }
    return start_tracking(**{**plain, **changes})


def test_another_configuration_of_networks_is_another_run_and_another_cluster_is_not(
    mlflow, tmp_path
):
    files = MemoryFiles()
    first = start(files, tmp_path, params={"fit": {"lr": 0.1}, "scaling": {"num_workers": 1}})
    arm = first.child("mke").run_id
    again = start(files, tmp_path, params={"fit": {"lr": 0.1}, "scaling": {"num_workers": 8}})
    assert (again.run_id, again.child("mke").run_id) == (first.run_id, arm)
    other = start(files, tmp_path, params={"fit": {"lr": 0.2}, "scaling": {"num_workers": 8}})
    assert other.run_id != first.run_id and other.child("mke").run_id != arm
    assert mlflow.runs[other.run_id].data.params["fit.lr"] == "0.2"
    assert start(files, tmp_path, params={"fit": {"lr": 0.2}}).run_id == other.run_id


def test_nested_settings_become_dotted_names_with_short_texts():
    flat = flatten_params({"fit": {"lr": 0.1, "steps": [1, 2]}, "name": "x" * 9000, "none": None})
    assert flat == {
        "fit.lr": "0.1",
        "fit.steps": "[1, 2]",
        "name": "x" * MAX_PARAM_LENGTH,
        "none": "null",
    }


def test_names_that_mlflow_refuses_are_mended():
    assert list(flatten_params({"a@b": 1})) == ["a_b"]


def test_only_finite_numbers_are_kept():
    values = {"a": {"b": 1}, "nan": math.nan, "inf": math.inf, "text": "x", "none": None}
    assert finite_numbers(values) == {"a/b": 1.0}


def test_the_default_store_is_a_file_beside_the_run(mlflow, tmp_path):
    tracker = start(MemoryFiles(), tmp_path)
    assert tracker._connection.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert mlflow.artifact_location == f"{tmp_path}/mlartifacts"


def test_a_fetched_database_is_known_by_its_home_wherever_it_was_fetched_to(mlflow, tmp_path):
    files, home = MemoryFiles(), "s3://bucket/run/mlflow"
    first = start(files, home, local_folder=str(tmp_path / "one"))
    again = start(files, home, local_folder=str(tmp_path / "two"))
    assert again._client().tracking_uri == f"sqlite:///{tmp_path}/two/mlflow.db"
    assert mlflow.artifact_location == "s3://bucket/run/mlflow/mlartifacts"
    assert again.run_id == first.run_id


def test_the_environment_names_another_store(mlflow, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    tracker = start(MemoryFiles(), tmp_path)
    assert tracker._connection.uri == "http://server:5000"
    assert mlflow.artifact_location is None


def test_a_job_that_is_started_again_reuses_its_runs(mlflow, tmp_path):
    files = MemoryFiles()
    first = start(files, tmp_path)
    first_child = first.child("mke")
    first.finish("FAILED")
    again = start(files, tmp_path)
    assert again.run_id == first.run_id
    assert mlflow.runs[again.run_id].info.status == "RUNNING"
    assert again.child("mke").run_id == first_child.run_id
    assert again.child("other").run_id != first_child.run_id
    assert len(mlflow.runs) == 3


def test_another_store_gets_a_new_run(mlflow, tmp_path):
    files = MemoryFiles()
    first = start(files, tmp_path)
    second = start(files, tmp_path, uri="http://elsewhere")
    assert second.run_id != first.run_id


def test_a_run_that_was_deleted_there_is_made_anew(mlflow, tmp_path):
    files = MemoryFiles()
    first = start(files, tmp_path)
    mlflow.runs[first.run_id].info.lifecycle_stage = "deleted"
    assert start(files, tmp_path).run_id != first.run_id


def test_children_name_their_parent(mlflow, tmp_path):
    tracker = start(MemoryFiles(), tmp_path)
    child = tracker.child("mke")
    assert mlflow.runs[child.run_id].tags == {"mlflow.parentRunId": tracker.run_id}


def test_a_curve_is_sent_in_batches_and_a_repeat_sends_the_same_points(mlflow, tmp_path):
    child = start(MemoryFiles(), tmp_path).child("mke")
    records = [{"step": step, "loss": 1.0, "lr": 0.1, "bad": math.nan} for step in range(1500)]
    child.log_history(records)
    sent = list(mlflow.runs[child.run_id].metrics)
    assert len(sent) == 3000
    assert sent[2] == ("loss", 1.0, 1001, 1)
    child.log_history(records)
    assert set(mlflow.runs[child.run_id].metrics) == set(sent)


def test_settings_that_are_recorded_already_are_left_alone(mlflow, tmp_path):
    tracker = start(MemoryFiles(), tmp_path, params={"a": 1})
    tracker.log_params({"a": 2, "b": 3})
    assert mlflow.runs[tracker.run_id].data.params == {"a": "1", "b": "3"}


def test_an_error_is_one_warning_and_never_an_exception(mlflow, tmp_path, caplog):
    tracker = start(MemoryFiles(), tmp_path)
    mlflow.broken = {"log_batch"}
    with caplog.at_level(logging.WARNING):
        tracker.log_metrics({"a": 1})
        tracker.log_metrics({"a": 2})
        tracker.child("mke").finish()
        tracker.finish()
    assert len(caplog.records) == 1
    assert "log_batch failed" in caplog.text


def test_a_store_of_files_that_fails_is_one_warning_too(mlflow, tmp_path, caplog, monkeypatch):
    from botocore.exceptions import NoCredentialsError

    def refuse(self, run_id, path):
        raise NoCredentialsError

    monkeypatch.setattr(mlflow, "log_artifacts", refuse, raising=False)
    tracker = start(MemoryFiles(), tmp_path)
    with caplog.at_level(logging.WARNING):
        tracker.log_artifacts(str(tmp_path))
    assert "locate credentials" in caplog.text


def test_a_server_that_is_away_is_one_warning(mlflow, tmp_path, caplog):
    mlflow.broken = {"get_experiment_by_name"}
    with caplog.at_level(logging.WARNING):
        tracker = start(MemoryFiles(), tmp_path, uri="http://me:secret@server")
        tracker.child("mke").log_metrics({"a": 1})
    assert tracker.run_id is None
    assert len(caplog.records) == 1
    assert "secret" not in caplog.text


def test_a_password_is_never_stored(mlflow, tmp_path):
    files = MemoryFiles()
    start(files, tmp_path, uri="postgresql://me:secret@server/db")
    assert b"secret" not in files.files[RUN_IDS_NAME]


def test_a_bug_of_ours_is_not_hidden(mlflow, tmp_path):
    tracker = start(MemoryFiles(), tmp_path)
    with pytest.raises(TypeError):
        tracker.log_history([{"step": None, "loss": 1.0}])
