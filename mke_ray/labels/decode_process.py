"""A process that reads untrusted samples, as its worker sees it: requests, answers, its end."""

import contextlib
import glob
import queue
import signal
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import psutil

from mke_ray.data.child_process import StartError, end, launch, started
from mke_ray.errors import MkeRayError
from mke_ray.labels.decode_child import Outcome, Setup
from mke_ray.schema import ManifestRow, Status

_COMMAND = "from mke_ray.labels.decode_child import main; main()"
_START_S = 300.0
_WAIT_S = 10.0
# A reader that was busy less often than this was waiting for its store.
_BUSY_SHARE = 0.5
_SIGNALS_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_ENDED = object()


@dataclass(frozen=True, slots=True)
class SampleLimits:
    """What one sample may take before the process that reads it is ended.

    Args:
        timeout_s: Time by the clock, with fetching.
        memory_bytes: Resident memory.
    """

    timeout_s: float = 60.0
    memory_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a process has to be ended, or ended itself.

    Args:
        status: What that makes of the sample, if it was the only one.
        reason: ``crashed``, ``timeout``, ``too_large`` or ``io``.
        detail: What was seen, for a person.
    """

    status: Status
    reason: str
    detail: str


class DecodeProcess:
    """One running process; it has its own process group, and ends when this object goes.

    Args:
        setup: What it works with.

    Raises:
        MkeRayError: The process says so: the source cannot be built.
        StartError: It is not ready, for a reason that may lie in the machine.
    """

    def __init__(self, setup: Setup) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self._process = launch(_COMMAND, theirs.fileno())
        self.end = weakref.finalize(self, end, self._process)
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._connection, self._inbox), daemon=True).start()
        self._has_ended = False
        self._since_s, self._looks, self._busy_looks = 0.0, 0, 0
        self._send(setup)
        self._wait_until_ready()

    def send(self, rows: Sequence[ManifestRow]) -> None:
        """Ask for some samples; those asked for before are answered."""
        self._mark()
        self._send(rows)

    def receive(self, wait_s: float) -> tuple[int, Outcome] | None:
        """Return the number and the outcome of a sample, None if there is none yet."""
        try:
            answer = self._inbox.get(timeout=wait_s)
        except queue.Empty:
            return None
        if answer is _ENDED:
            self._has_ended = True
            return None
        self._mark()
        return answer

    def failure(self, limits: SampleLimits) -> Failure | None:
        """Return why the process cannot go on with what it was asked for, None if it can.

        The memory is that of the whole process, however many samples it reads side by side.

        Args:
            limits: What one sample may take.
        """
        if self._has_ended:
            return _why_ended(self._process, limits)
        with contextlib.suppress(psutil.NoSuchProcess):
            memory_bytes = self._process.memory_info().rss
            if memory_bytes > limits.memory_bytes:
                return _too_large(memory_bytes, limits)
            self._looks += 1
            self._busy_looks += _is_busy(self._process.pid)
            waited_s = time.monotonic() - self._since_s
            if waited_s > limits.timeout_s:
                return _too_slow(waited_s, self._busy_looks / self._looks)
        return None

    def _mark(self) -> None:
        """Begin to measure the time of the next answer."""
        self._since_s, self._looks, self._busy_looks = time.monotonic(), 0, 0

    def _send(self, request: object) -> None:
        """Send a request; that the process ended is found when its answer is awaited."""
        with contextlib.suppress(ConnectionError):
            self._connection.send(request)

    def _wait_until_ready(self) -> None:
        """Wait until the process has built its reader."""
        answer: Any = _ENDED
        with contextlib.suppress(queue.Empty):
            answer = self._inbox.get(timeout=_START_S)
        if answer is None:
            return
        self.end()
        if isinstance(answer, MkeRayError):
            raise answer
        raise StartError(
            f"not ready after {_START_S:.0f} s, or it ended before "
            f"(exit status {self._process.returncode})"
        )


def start_process(setup: Setup) -> DecodeProcess:
    """Return a process that is ready; start it again where that fails, for about a minute.

    Raises:
        MkeRayError: The source cannot be built.
        ConfigError: This machine starts none.
    """
    way_out = "labelling.sample_timeout_s=null reads in the worker itself"
    return started(lambda: DecodeProcess(setup), way_out=way_out)


def _pump(connection: Connection, inbox: "queue.SimpleQueue[Any]") -> None:
    """Take answers as they come: one that stops in the middle must hold up nobody else."""
    try:
        with contextlib.suppress(EOFError, OSError):
            while True:
                inbox.put(connection.recv())
    finally:
        inbox.put(_ENDED)


def _is_busy(pid: int) -> bool:
    """Return whether a thread of a process runs now, or waits to run on a full machine."""
    states = []
    for thread in glob.glob(f"/proc/{pid}/task/*/stat"):
        with contextlib.suppress(OSError), open(thread) as file:
            states.append(file.read().rpartition(")")[2].split()[0])
    return "R" in states or not states


def _why_ended(process: psutil.Popen, limits: SampleLimits) -> Failure:
    """Return what became of a process that ended itself."""
    try:
        status = process.wait(_WAIT_S)
    except psutil.TimeoutExpired:
        return Failure(Status.BAD, "crashed", "the process that read it closed its connection")
    if status is None or status >= 0:
        return Failure(Status.BAD, "crashed", f"the process that read it exited with {status}")
    if -status == signal.SIGALRM:
        return Failure(Status.BAD, "timeout", f"not read in {limits.timeout_s:g} s")
    name = signal.Signals(-status).name
    detail = f"the process that read it died of {name}"
    is_from_outside = -status in _SIGNALS_FROM_OUTSIDE
    return Failure(Status.RETRY if is_from_outside else Status.BAD, "crashed", detail)


def _too_large(memory_bytes: int, limits: SampleLimits) -> Failure:
    """Return the failure of a process that took too much memory."""
    detail = f"reading took {memory_bytes >> 20} MiB, at most {limits.memory_bytes >> 20}"
    return Failure(Status.BAD, "too_large", detail)


def _too_slow(waited_s: float, busy_share: float) -> Failure:
    """Return the failure of a process that gave no answer: it was busy, or its store is silent."""
    if busy_share < _BUSY_SHARE:
        return Failure(Status.RETRY, "io", f"no answer of the store in {waited_s:.0f} s")
    return Failure(Status.BAD, "timeout", f"not read in {waited_s:.0f} s")
