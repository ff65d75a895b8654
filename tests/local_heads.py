"""Heads that our own script starts, jobs that are submitted to them, and the loss of one."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from composed import REPOSITORY

AGENT_PORTS = ("ray-client-server", "dashboard-agent-listen", "metrics-export")
START_TIMEOUT_S = 400
# What Ray gives up with after 30 s, which a machine with other work may take to start a node.
BUSY = ("Timed out waiting for node info", "The current node timed out during startup")
MOST_S = 540.0


@dataclass
class Head:
    """A running head.

    Args:
        address: URL of its dashboard.
        folder: What the script keeps: token, log, process id.
        session: Ray's own folder, with the logs.
        environment: Of whoever submits.
    """

    address: str
    folder: Path
    session: Path
    environment: dict[str, str] = field(repr=False)

    def add_node(self, num_cpus: int) -> Path:
        """Add a node by the script that does, and return the folder of its Ray."""
        started = subprocess.run(
            ["bash", str(REPOSITORY / "cluster" / "local_node.sh"), str(self.folder)],
            env={**self.environment, "NUM_CPUS": str(num_cpus)},
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        assert started.returncode == 0, started.stdout + started.stderr
        (logs,) = [one.split()[1] for one in started.stdout.splitlines() if one.startswith("Logs:")]
        return Path(logs).parents[1]

    def kill(self) -> None:
        """End the head and all that it started, as if its machine were gone."""
        leader = psutil.Process(int((self.folder / "head.pid").read_text()))
        below = leader.children(recursive=True)  # workers and drivers are groups of their own
        os.killpg(leader.pid, signal.SIGKILL)
        for one in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        _, alive = psutil.wait_procs([leader, *below], timeout=60)
        assert not alive


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


@contextlib.contextmanager
def started_head(folder: Path, more: Mapping[str, str]) -> Iterator[Head]:
    """Start a head with some variables in its environment, and end it if it still lives."""
    port, dashboard_port, *rest = ports_outside_ray(5)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    session = Path(f"/tmp/mrh{port}")  # sockets below it need a short path
    agents = zip(AGENT_PORTS, rest, strict=True)
    try:
        _start(
            folder,
            {
                **environment,
                "NUM_CPUS": "6",
                **more,
                "RAY_PORT": str(port),
                "DASHBOARD_PORT": str(dashboard_port),
                "RAY_TEMP_DIR": str(session),
                "RAY_EXTRA": " ".join(f"--{name}-port={one}" for name, one in agents),
            },
        )
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        address = f"http://127.0.0.1:{dashboard_port}"
        yield Head(address, folder, session, {**environment, **token})
    finally:
        groups = [int(one.read_text()) for one in sorted(folder.glob("*.pid"), reverse=True)]
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)
        wait_until(lambda: not any(Path(f"/proc/{one}").exists() for one in groups), most_s=30)
        shutil.rmtree(session, ignore_errors=True)


def _start(folder: Path, environment: Mapping[str, str], tries: int = 3) -> None:
    """Run the script that starts a head; again where the machine was too busy for Ray."""
    started = subprocess.run(
        ["bash", str(REPOSITORY / "cluster" / "local_head.sh"), str(folder)],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    log = (folder / "head.log").read_text()
    if started.returncode and tries > 1 and any(one in log for one in BUSY):
        return _start(folder, environment, tries - 1)
    assert started.returncode == 0, started.stdout + started.stderr
    assert "python jobs/submit.py --address" in started.stdout
    return None


def submit(head: Head, *words: str) -> subprocess.CompletedProcess[str]:
    """Run jobs/submit.py against a head."""
    command = [sys.executable, str(REPOSITORY / "jobs" / "submit.py"), "--address", head.address]
    return run([*command, *words], head)


def run(command: list[str], head: Head) -> subprocess.CompletedProcess[str]:
    """Run a command as whoever submits would."""
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=MOST_S,
        check=False,
    )


def wait_until(is_so: Callable[[], bool], *, most_s: float = MOST_S) -> None:
    """Wait for something; what does not come is left to the assertions that follow."""
    until_s = time.monotonic() + most_s
    while not is_so() and time.monotonic() < until_s:
        time.sleep(0.2)
