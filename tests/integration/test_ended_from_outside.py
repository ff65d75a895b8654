"""A job that is told to end closes what it opened, without any help of Ray."""

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from job_processes import start_job, wait_until
from search_runs import command_line, write_rows


def found_in(database: Path, what: str) -> set[str]:
    """Return what MLflow has of its runs, nothing as long as there is no table of it."""
    if not database.exists():
        return set()
    try:
        with closing(sqlite3.connect(database)) as opened:
            return {one for (one,) in opened.execute(f"select {what}")}
    except sqlite3.OperationalError:
        return set()


def test_a_job_that_gets_sigterm_gives_its_root_back_and_closes_its_run(tmp_path) -> None:
    lines = ["experiment=tiny", f"root={tmp_path}", "labelling.runner=local"]
    lines += ["scaling.launch=local", "engine=torch", "teacher.fit.num_steps=2"]
    lines += ["source.num_unlabeled=16", "source.num_test=16", "tracking=mlflow"]
    lines += ["fit.num_steps=2000"]
    process = start_job("expand", lines)
    wait_until(lambda: bool(found_in(tmp_path / "mlflow.db", "key from params")), process)
    process.terminate()
    said = process.communicate(timeout=120)[0].decode()
    assert process.returncode == signal.SIGTERM, said
    assert "the same line goes on where this one stopped" in said
    (lease,) = (tmp_path / "lease").glob("*.json")
    assert json.loads(lease.read_text())["released"] is True
    assert found_in(tmp_path / "mlflow.db", "status from runs") == {"KILLED"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_told_to_end_while_workers_train_says_so(tmp_path, number) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip(f"whoever started the tests had signal {number} ignored, here and in all jobs")
    write_rows(tmp_path / "rows.parquet")
    lines = command_line(tmp_path, "scaling.launch=trainer", "scaling.num_workers=2")
    steps = ["fit.num_steps=100000", "scaling.checkpoint_every_steps=10", "ray.num_cpus=4"]
    process = start_job("expand", [*lines, *steps])
    wait_until(lambda: any((tmp_path / "run" / "train").rglob("state.json")), process)
    process.send_signal(number)
    said = process.communicate(timeout=120)[0].decode()
    if number == signal.SIGTERM:
        assert process.returncode == number, said
        assert "the same line goes on where this one stopped" in said
    else:
        assert process.returncode not in (0, -signal.SIGABRT) and "KeyboardInterrupt" in said, said
    newest = max((tmp_path / "run" / "lease").glob("*.json"))
    assert json.loads(newest.read_text())["released"] is True
