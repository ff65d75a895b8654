"""Secrets that a run needs are in nothing that it leaves: stores, tracking, output, logs."""

import shutil
import sqlite3
import uuid
from pathlib import Path

import pytest
from composed import composed
from job_processes import end_well, start_job
from left_behind import traces

from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_job
from mke_ray.filesystems import check_uri
from mke_ray.storage import open_root

pytestmark = pytest.mark.s3

ENVIRONMENT = {
    "MLFLOW_TRACKING_PASSWORD": "planted-password-of-mlflow",
    "RAY_AUTH_TOKEN": "planted0token0of0ray" * 3,
    "HF_TOKEN": "planted-token-of-a-hub",
}


def holding(folder: Path, needles: list[bytes]) -> list[Path]:
    """Return the files of a folder that hold something of what was planted."""
    files = [one for one in folder.rglob("*") if one.is_file() and not one.is_symlink()]
    assert len(files) > 20
    return [one for one in files if any(needle in one.read_bytes() for needle in needles)]


def test_a_run_leaves_no_secret_of_its_options_and_environment(
    s3_server, s3_environment, tmp_path, monkeypatch
) -> None:
    names_of_keys = {"key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY"}
    options = {name: s3_environment[variable] for name, variable in names_of_keys.items()}
    for variable in names_of_keys.values():
        monkeypatch.delenv(variable)  # the options are all that the job has
    needles = [one.encode() for one in [*options.values(), *ENVIRONMENT.values()]]
    root = open_root(s3_server.uri(uuid.uuid4().hex), options)
    session = Path(f"/tmp/mrs{uuid.uuid4().hex[:6]}")  # sockets below it need a short path
    session.mkdir()
    lines = [
        *("experiment=tiny", f"root={root.uri}", "verbose=true", "arms=[mke]"),
        f"+storage.options={{key: {options['key']}, secret: '{options['secret']}'}}",
        *("source.num_unlabeled=32", "source.num_test=32", "teacher.fit.num_steps=4"),
        *("fit.num_steps=4", "fit.validate_every_steps=2"),
    ]
    try:
        said = end_well(start_job("expand", lines, {**ENVIRONMENT, "RAY_TMPDIR": str(session)}))
        assert holding(session, needles) == []
    finally:
        shutil.rmtree(session, ignore_errors=True)
    assert not [one for one in needles if one.decode() in said]
    names = set(root.names())
    assert {"report/index.html", "report/metrics.json", "mlflow/mlflow.db"} <= names
    assert traces(root, needles) == set()
    kept = tmp_path / "mlflow.db"
    kept.write_bytes(root.read("mlflow/mlflow.db"))
    with sqlite3.connect(kept) as database:
        params = dict(database.execute("select key, value from params"))
    assert params["storage.options.secret"] == "***"
    assert params["source.storage_options.secret"] == "***"


def test_secrets_that_ray_or_a_uri_would_show_are_refused_and_not_repeated() -> None:
    signed = "https://host/x.mp4?X-Amz-Signature=planted"
    for lines, key in (
        (["+ray.env_vars.AWS_SECRET_ACCESS_KEY=planted"], r"ray\.env_vars\.AWS_SECRET_ACCESS_KEY"),
        (["+ray.env_vars.LINK='" + signed + "'"], r"ray\.env_vars\.LINK"),
        (["root='" + signed + "'"], "root="),
    ):
        with pytest.raises(ConfigError, match=key) as refused:
            check_job(composed("experiment=tiny", *lines)[0])
        assert "planted" not in str(refused.value)
    with pytest.raises(ConfigError) as refused:
        check_uri(signed, key="uri")
    assert "planted" not in str(refused.value)
