"""A cluster started by our own script, and the real `ray job submit` on it."""

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from composed import REPOSITORY

AGENT_PORTS = ("ray-client-server", "dashboard-agent-listen", "metrics-export")
START_TIMEOUT_S = 180
JOB_TIMEOUT_S = 540


@dataclass(frozen=True)
class Head:
    """A running head."""

    address: str
    environment: dict[str, str]


def ports_outside_ray(num: int) -> list[int]:
    """Return free ports that Ray's workers (10002 to 19999) will not want."""
    found: list[int] = []
    for port in random.sample(range(20_500, 32_000), 200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == num:
            return found
    raise RuntimeError(f"only {len(found)} free ports of {num}")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("head")
    port, dashboard_port, *rest = ports_outside_ray(5)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    started = subprocess.run(
        ["bash", str(REPOSITORY / "cluster" / "local_head.sh"), str(folder)],
        env={
            **environment,
            "RAY_PORT": str(port),
            "DASHBOARD_PORT": str(dashboard_port),
            "RAY_TEMP_DIR": f"/tmp/mrh{port}",
            "RAY_EXTRA": " ".join(
                f"--{name}-port={one}" for name, one in zip(AGENT_PORTS, rest, strict=False)
            ),
            "NUM_CPUS": "6",
        },
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert started.returncode == 0, started.stdout + started.stderr
    assert "ray job submit" in started.stdout
    group = int((folder / "head.pid").read_text())
    try:
        yield Head(
            f"http://127.0.0.1:{dashboard_port}",
            {
                **environment,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            },
        )
    finally:
        os.killpg(group, signal.SIGTERM)
        for _ in range(50):
            if not Path(f"/proc/{group}").exists():
                break
            time.sleep(0.2)


def test_the_main_job_is_submitted_and_leaves_its_report(head: Head, tmp_path: Path) -> None:
    submitted = subprocess.run(
        [
            str(REPOSITORY / ".venv" / "bin" / "ray"),
            *("job", "submit", "--address", head.address, "--working-dir", "."),
            *("--runtime-env", "cluster/runtime_env.yaml", "--"),
            *("python", "jobs/expand.py", "experiment=tiny", f"root={tmp_path / 'run'}"),
            "arms=[mke]",
        ],
        cwd=REPOSITORY,
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=JOB_TIMEOUT_S,
        check=False,
    )
    assert submitted.returncode == 0, submitted.stdout[-4000:] + submitted.stderr[-2000:]
    metrics = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    assert metrics["counts"]["samples"] == 208
    assert "mke" in metrics["arms"]
