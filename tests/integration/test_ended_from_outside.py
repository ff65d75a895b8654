"""A job that is told to end, before it has anything to do with Ray, closes what it opened."""

import json
import signal
import sqlite3
import time

from job_processes import start_job

HELD = {"mode": "delay", "point": "create:linked:labels/commit", "occurrence": 1, "delay_s": 15}


def test_a_job_that_gets_sigterm_gives_its_root_back_and_closes_its_run(tmp_path) -> None:
    lines = ["experiment=tiny", f"root={tmp_path}", "labelling.runner=local"]
    lines += ["source.num_unlabeled=16", "source.num_test=16", "teacher.fit.num_steps=2"]
    process = start_job("expand", lines, {"MKE_RAY_FAULTS": json.dumps(HELD)})
    until_s = time.monotonic() + 300
    while not list(tmp_path.glob("labels/*/commits/**/*.json")) and process.poll() is None:
        assert time.monotonic() < until_s
        time.sleep(0.1)
    process.terminate()
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == signal.SIGTERM, said
    assert "the same line goes on where this one stopped" in said
    (lease,) = (tmp_path / "lease").glob("*.json")
    assert json.loads(lease.read_text())["released"] is True
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        found = {one for (one,) in database.execute("select status from runs")}
    assert "KILLED" in found and "RUNNING" not in found
