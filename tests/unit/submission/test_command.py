"""Following and stopping look for a job by its line, and ask no more than that."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mke_ray.submission.command import run

JOB = ["jobs/expand.py", "root=/runs/1"]
LINE = "python jobs/expand.py root=/runs/1"


class Dashboard(BaseHTTPRequestHandler):
    """Speaks as much of a dashboard's protocol as stopping asks for."""

    status = "RUNNING"
    broken = ""

    def do_GET(self) -> None:
        job = {
            "type": "SUBMISSION",
            "submission_id": "raysubmit_1",
            "entrypoint": LINE,
            "status": type(self).status,
        }
        if self.broken in ("token", "login"):
            self._say(403 if self.broken == "token" else 401, "no")
        elif self.path == "/api/version":
            self._say(200, {"version": "4", "ray_version": "2.9.0", "ray_commit": "x"})
        elif self.path == "/api/jobs/":
            self._say(200, [job])
        else:
            self._say(500 if self.broken == "status" else 200, job)

    def do_POST(self) -> None:
        if self.broken == "stop":
            return self._say(500, "the head is out of order")
        type(self).status = "STOPPED"
        return self._say(200, {"stopped": True})

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _say(self, code: int, what: object) -> None:
        body = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def address() -> Iterator[str]:
    Dashboard.status, Dashboard.broken = "RUNNING", ""
    with ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def told(monkeypatch, tmp_path) -> Callable[..., object]:
    """Run the command from a folder with nothing to travel, and return its exit status."""

    def run_it(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["submit.py", *words])
        with pytest.raises(SystemExit) as ended:
            run(str(tmp_path / "jobs" / "submit.py"))
        return ended.value.code

    return run_it


def test_a_job_is_stopped_by_its_line_whatever_became_of_the_files_here(
    told, address, capsys
) -> None:
    there = ["--address", address, "--env", "NOT_EXPORTED_HERE", "--py-module", "gone"]
    assert told(*there, "--stop", "--", *JOB) == 0
    assert "raysubmit_1: STOPPED" in capsys.readouterr().err
    assert told(*there, "--stop", "--", "python", *JOB) == 2
    assert f"waits or runs with the line: {LINE}" in capsys.readouterr().err
    assert told(*there, "--", *JOB) == 2  # submitting still asks for files
    assert "runtime_env.yaml cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("broken", "said"), [("stop", "does not end raysubmit_1"), ("status", "does not say whether")]
)
def test_a_cluster_that_does_not_stop_a_job_is_an_error_of_one_line(
    told, address, capsys, broken, said
) -> None:
    Dashboard.broken = broken
    assert told("--address", address, "--stop", "--", *JOB) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["token", "login"])
def test_a_cluster_that_does_not_take_the_token_is_an_error_of_one_line(
    told, address, capsys, monkeypatch, broken
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    Dashboard.broken = broken
    assert told("--address", address, "--stop", "--", *JOB) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "RAY_AUTH_MODE is not set here; export RAY_AUTH_MODE=token" in line
    assert line.endswith("this cluster (see python jobs/submit.py --help)")


def test_an_address_without_a_scheme_is_refused_before_ray_is_asked(told, capsys) -> None:
    assert told("--address", "127.0.0.1:8391", "--stop", "--", *JOB) == 2
    assert "did you mean http://127.0.0.1:8391?" in capsys.readouterr().err
