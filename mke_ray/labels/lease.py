"""The lease on a root: which driver works on it, and what happens when that driver is gone."""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from mke_ray.errors import StoreError
from mke_ray.storage import Root

STALE_AFTER_S = 60.0
HEARTBEAT_S = 15.0

_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in which Ray tells a driver what it submitted
_SMALL_FOLDERS = ("lease", "progress", "report")  # what else killed drivers leave is swept there


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, as it is written in the store.

    Args:
        driver: Name of the job.
        machine: Host and process namespace.
        pid: Process id on that machine.
        token: Random name of this holder.
        since_s: When it took the lease, seconds since 1970.
        heartbeat_s: When it was last known to live, seconds since 1970.
        released: Whether it gave the lease back.
        submission: Name under which a cluster knows it as a submitted job, None for any other.
    """

    driver: str
    machine: str
    pid: int
    token: str
    since_s: float
    heartbeat_s: float
    released: bool = False
    submission: str | None = None


class Lease:
    """Keeps a second driver away from a root. Every new holder gets the next generation.

    The lease saves work and names the culprit; that nothing is written twice does not depend on
    it, since every unit is claimed by a create-only record.

    Args:
        root: Folder of the run.
        heartbeat_s: Seconds between signs of life.
        stale_after_s: Seconds without a sign of life after which another driver may take over.
    """

    def __init__(
        self,
        root: Root,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        stale_after_s: float = STALE_AFTER_S,
    ) -> None:
        self._run = root
        self._root = root.child("lease")
        self._heartbeat_s = heartbeat_s
        self._stale_after_s = stale_after_s
        self._generation = 0
        self._holder: Holder | None = None
        self._lost = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def held(self, driver: str) -> Iterator["Lease"]:
        """Hold the lease inside a ``with`` block.

        Args:
            driver: Name of the job, for whoever is kept away.

        Raises:
            StoreError: Another driver that lives holds it.
        """
        self.acquire(driver)
        try:
            yield self
        finally:
            self.release()

    def acquire(self, driver: str) -> None:
        """Take the lease and begin to give signs of life.

        Raises:
            StoreError: Another driver that lives holds it; the error names it.
        """
        generation, other = self._newest()
        if other is not None and not self._is_gone(other):
            raise StoreError(self._explain(other))
        now_s = time.time()
        holder = Holder(
            driver=driver,
            machine=_machine(),
            pid=os.getpid(),
            token=uuid.uuid4().hex,
            since_s=now_s,
            heartbeat_s=now_s,
            submission=submission_id(),
        )
        self._generation = generation + 1
        if not self._root.create(_name(self._generation), _to_bytes(holder)):
            winner = self._read(self._generation)
            if winner.token != holder.token:
                raise StoreError(self._explain(winner))
        self._holder, self._lost = holder, False
        for number in self._numbers():
            if number < generation:
                self._root.delete(_name(number))
        for folder in _SMALL_FOLDERS:
            self._run.delete_unfinished(folder)
        self._begin_heartbeat()

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._holder is not None and not self._lost and self._is_newest():
            self._write(released=True)
        self._holder = None

    def check(self, *, now: bool = False) -> None:
        """Stop a driver that lost the lease, because it slept too long to give signs of life.

        Args:
            now: Look into the store instead of trusting the last heartbeat.

        Raises:
            StoreError: Another driver took over.
        """
        if now and self._holder is not None:
            self._look()
        if self._lost:
            raise StoreError(
                f"another driver took over {self._root.uri} while this one gave no sign of life; "
                "this one stops, and nothing is lost"
            )

    def _begin_heartbeat(self) -> None:
        """Start the thread that gives signs of life."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="mke-ray-lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        """Give signs of life until the lease is released or lost; it is lost if this fails."""
        try:
            while not self._stop.wait(self._heartbeat_s) and not self._lost:
                with contextlib.suppress(OSError):  # a store that does not answer is tried again
                    self._look()
                    if not self._lost:
                        self._write(released=False)
        finally:
            self._lost = self._lost or not self._stop.is_set()

    def _look(self) -> None:
        """Find out whether somebody took over."""
        if not self._is_newest():
            self._lost = True

    def _write(self, *, released: bool) -> None:
        """Write our own entry anew; nobody else writes it."""
        if self._holder is None:
            return
        fields = asdict(self._holder) | {"heartbeat_s": time.time(), "released": released}
        self._root.write(_name(self._generation), _to_bytes(Holder(**fields)))

    def _newest(self) -> tuple[int, Holder | None]:
        """Return the newest generation and its holder, (0, None) where there never was one."""
        newest = max(self._numbers(), default=0)
        return newest, self._read(newest) if newest else None

    def _is_newest(self) -> bool:
        """Return whether nobody took over."""
        return max(self._numbers(), default=0) == self._generation

    def _numbers(self) -> list[int]:
        """Return the generations whose entries are there."""
        return [int(name.removesuffix(".json")) for name in self._root.names()]

    def _read(self, generation: int) -> Holder:
        """Read the entry of a generation."""
        return Holder(**json.loads(self._root.read(_name(generation))))

    def _is_gone(self, holder: Holder) -> bool:
        """Return whether a holder released the lease or can be taken for dead."""
        if holder.released or time.time() - holder.heartbeat_s > self._stale_after_s:
            return True
        return holder.machine == _machine() and not _is_running(holder.pid)

    def _explain(self, holder: Holder) -> str:
        """Say who holds the lease."""
        since = datetime.fromtimestamp(holder.since_s, UTC).isoformat(timespec="seconds")
        host = holder.machine.split("/")[0]
        job = "" if holder.submission is None else f", submitted as {holder.submission}"
        ends = (
            f"on host {host}: kill {holder.pid}"
            if holder.submission is None
            else f"ray job stop {holder.submission}"
        )
        return (
            f"{self._run.uri}: driver {holder.driver!r} (host {host}, pid {holder.pid}{job}) has "
            f"worked on this root since {since}; wait for it, or end it ({ends}) and start again, "
            "which goes on where it stopped; or name another root. A driver that died is forgotten "
            f"{self._stale_after_s:g} s after its last sign of life"
        )


def submission_id() -> str | None:
    """Return the name of the submitted job that this process drives, None where it is none."""
    told = os.environ.get(_JOB_VARIABLE)
    return None if told is None else json.loads(told).get("metadata", {}).get("job_submission_id")


def _name(generation: int) -> str:
    """Return the name of the entry of a generation."""
    return f"{generation:06d}.json"


def _to_bytes(holder: Holder) -> bytes:
    """Return an entry as it is written."""
    return json.dumps(asdict(holder)).encode()


def _machine() -> str:
    """Return the host and, on Linux, the process namespace, outside which a pid means nothing."""
    namespace = "/proc/self/ns/pid"
    inode = os.stat(namespace).st_ino if os.path.exists(namespace) else 0
    return f"{socket.gethostname()}/{inode}"


def _is_running(pid: int) -> bool:
    """Return whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
