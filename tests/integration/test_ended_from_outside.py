"""A job that is told to end, before it has anything to do with Ray, closes what it opened."""

import json
import signal
import sqlite3

from job_processes import start_job, wait_until

HELD = {"mode": "delay", "point": "create:linked:labels/commit", "occurrence": 1, "delay_s": 15}


def test_a_job_that_gets_sigterm_gives_its_root_back_and_closes_its_run(tmp_path) -> None:
    lines = ["experiment=tiny", f"root={tmp_path}", "labelling.runner=local"]
    lines += ["scaling.launch=local", "engine=torch", "teacher.fit.num_steps=2"]
    lines += ["source.num_unlabeled=16", "source.num_test=16"]
    process = start_job("expand", lines, {"MKE_RAY_FAULTS": json.dumps(HELD)})
    wait_until(lambda: any(tmp_path.glob("labels/*/commits/**/*.json")), process)
    process.terminate()
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == signal.SIGTERM, said
    assert "the same line goes on where this one stopped" in said
    (lease,) = (tmp_path / "lease").glob("*.json")
    assert json.loads(lease.read_text())["released"] is True
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        found = {one for (one,) in database.execute("select status from runs")}
    assert "KILLED" in found and "RUNNING" not in found
