"""The MLflow server as ``cluster/mlflow`` starts it, on a real PostgreSQL: names only."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cluster_files import CLUSTER, COMPOSE, document
from conftest import free_ports

PASSWORD = "a password of twelve letters or more"
START_S = 540.0  # migrations of a fresh database, on a busy machine


def as_composed(uri: str, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of the server, with the addresses of this machine."""
    at = urlsplit(uri)
    here = f"postgresql+psycopg://{at.username}@{at.hostname}:{at.port}{at.path}"
    there = "postgresql+psycopg://mlflow@postgres/mlflow"
    ini = (CLUSTER / "mlflow" / "basic_auth.ini").read_text()
    assert there in ini
    (folder / "basic_auth.ini").write_text(ini.replace(there, here))
    service = document(COMPOSE[0])["services"]["mlflow"]
    options, jobs = service["command"], "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"
    changed = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": here,
        "--artifacts-destination": str(folder / "artifacts"),
        "--allowed-hosts": f"127.0.0.1:{port}",
    }
    names = [one.split("=")[0] for one in options]
    command = [
        f"{name}={changed[name]}" if name in changed else one
        for name, one in zip(names, options, strict=True)
    ]
    environment = {
        "PGPASSWORD": at.password or "",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
        jobs: service["environment"][jobs],
    }
    return [str(Path(sys.executable).with_name("mlflow")), *command[1:]], environment


@pytest.fixture
def server(postgres_uri: str, tmp_path: Path) -> Iterator[str]:
    port = free_ports(1)[0]
    command, environment = as_composed(postgres_uri, port, tmp_path)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_S
        while status(f"{url}/health") != 200:
            said = (tmp_path / "log").read_text()[-3000:]
            assert process.poll() is None and time.monotonic() < until, said
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=60)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.timeout(800)
def test_a_run_is_tracked_with_a_name_and_refused_without(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=1", "/graphql"):
        assert status(f"{server}{path}") == 401, path
    client = MlflowClient(server)
    with pytest.raises(MlflowException, match="not authenticated"):
        client.create_experiment("no name")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    run = client.create_run(client.create_experiment("first")).info.run_id
    client.log_metric(run, "label/samples", 3.0)
    client.log_text(run, "stored", "note.txt")
    assert client.get_run(run).data.metrics == {"label/samples": 3.0}
    assert [one.path for one in client.list_artifacts(run)] == ["note.txt"]
    assert [one.read_text() for one in (tmp_path / "artifacts").rglob("note.txt")] == ["stored"]
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "password1234")
    with pytest.raises(MlflowException, match="not authenticated"):
        client.get_run(run)
