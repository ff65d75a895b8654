"""Named points of all that is done to stores, at which a test kills, stops or fails the process.

A testing aid. Nothing happens at a point unless the environment variable ``MKE_RAY_FAULTS`` held
the JSON of a ``Fault`` when the process started, or ``arm`` was called since::

    MKE_RAY_FAULTS='{"mode": "record", "file": "/tmp/points"}' python jobs/label.py ...
    MKE_RAY_FAULTS='{"mode": "kill", "point": "create:linked:labels/commit", "occurrence": 2}' ...

The name of a point is what is done, how far it is, and the kind of the file. Each process counts
for itself how often it reaches a point.
"""

import errno
import json
import os
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

_VARIABLE = "MKE_RAY_FAULTS"
_STORES = ("manifest", "samples", "labels", "predictions", "fits", "student", "report", "doubles")
_KINDS = (
    ("attempt", re.compile(r"(^|/)attempts/[^/]+$")),
    ("part", re.compile(r"(^|/)part-[^/]+$|(^|/)parts/[^/]+$")),
    ("commit", re.compile(r"(^|/)commits/([^/]+/)*[^/]+$")),
    ("index", re.compile(r"(^|/)index-\d+\.parquet$")),
    ("lease", re.compile(r"(^|/)lease/\d+\.json$")),
    ("spec", re.compile(r"(^|/)spec\.json$")),
    ("meta", re.compile(r"(^|/)meta(-\d+)?\.json$")),
    ("marks", re.compile(r"(^|/)marks-[^/]+$")),
    ("progress", re.compile(r"(^|/)progress\.json$")),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at which point.

    Args:
        mode: ``record`` appends the name of every point that is reached to a file; ``kill`` ends
            the process by SIGKILL; ``stop`` holds it by SIGSTOP until somebody sends SIGCONT;
            ``delay`` sleeps; ``fail`` raises ``OSError``.
        point: The point; not needed to record.
        occurrence: At the how manieth time the point is reached, from 1.
        file: File of ``record``.
        delay_s: How long ``delay`` sleeps.
        errno: Number of the error of ``fail``; by default one that is not tried again.
    """

    mode: Literal["record", "kill", "stop", "delay", "fail"]
    point: str = ""
    occurrence: int = 1
    file: str = ""
    delay_s: float = 0.0
    errno: int = errno.ENOSPC


class _Armed:
    """A fault with the number of times that each point was reached."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reach(self, point: str) -> None:
        """Count a point, and do what is to be done there."""
        with self._lock:
            self._counts[point] += 1
            number = self._counts[point]
        if self._fault.mode == "record":
            _append(self._fault.file, point)
        elif (point, number) == (self._fault.point, self._fault.occurrence):
            _happen(self._fault)


def arm(fault: Fault | None) -> None:
    """Let a fault happen in this process from now on, or none any more; counts begin anew."""
    global _armed  # noqa: PLW0603
    _armed = None if fault is None else _Armed(fault)


def reach(step: str, path: str) -> None:
    """Say that a step of a write is reached.

    Args:
        step: What is done and how far it is, for example ``create:linked``.
        path: The file it is done to.
    """
    if _armed is not None:
        _armed.reach(f"{step}:{kind_of(path)}")


def kind_of(path: str) -> str:
    """Return the kind of a file, with the store that it belongs to where it is of one.

    Args:
        path: Path or name; the names of the folders of a run say what it is.
    """
    stores = [part for part in path.split("/")[:-1] if part in _STORES]
    kind = next((name for name, pattern in _KINDS if pattern.search(path)), "other")
    return f"{stores[-1]}/{kind}" if stores and kind != "lease" else kind


def _happen(fault: Fault) -> None:
    """Let a fault happen."""
    if fault.mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.mode == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.mode == "delay":
        time.sleep(fault.delay_s)
    else:
        raise OSError(fault.errno, f"{os.strerror(fault.errno)} ({_VARIABLE}: {fault.point})")


def _append(path: str, line: str) -> None:
    """Append a line at once, so that those of several processes do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def _from_environment() -> _Armed | None:
    """Return the fault that the environment names."""
    text = os.environ.get(_VARIABLE)
    return _Armed(Fault(**json.loads(text))) if text else None


_armed = _from_environment()
