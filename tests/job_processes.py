"""Jobs in processes of their own, that are killed at some moment and started again."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from composed import REPOSITORY

_MOST_S = 500.0


def start_job(
    name: str, lines: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a job with a Ray of its own, where it needs one.

    Args:
        name: Name of its file in ``jobs/``.
        lines: What it is told.
        environment: Variables beside those of this process.
    """
    inherited = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "jobs" / f"{name}.py"), *lines],
        env={**inherited, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_until(is_time: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until it is time; a process that ends before, or takes too long, is a failure."""
    until_s = time.monotonic() + _MOST_S
    while not is_time():
        if process.poll() is not None or time.monotonic() > until_s:
            process.kill()
            raise AssertionError(process.communicate()[0].decode())
        time.sleep(0.05)


def kill_once(is_time: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Kill a process as soon as it is time; one that ends before is a failure."""
    wait_until(is_time, process)
    process.kill()
    process.communicate()


def end_well(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end of a process that must end well, and return what it said."""
    said, _ = process.communicate(timeout=_MOST_S)
    assert process.returncode == 0, said.decode()
    return said.decode()
