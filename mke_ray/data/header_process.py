"""The processes that read headers, as the driver sees them."""

import queue
import weakref
from multiprocessing import Pipe

from mke_ray.data.child_process import StartError, end, launch, started
from mke_ray.data.headers import Header
from mke_ray.data.places import Places

_COMMAND = "from mke_ray.data.headers import main; main()"
_START_S = 300.0
_ANSWER_S = 300.0
_TRIES = 2


class HeaderReader:
    """Reads headers in other processes, one for each thread that asks at the same time.

    They are started when needed, used again, and end with this object.
    """

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[_HeaderProcess] = queue.LifoQueue()

    def read(self, places: Places, key: str, size: int) -> Header:
        """Return what the header of a file says; a file that ends its reader twice says nothing.

        Raises:
            OSError: The store did not answer, also after retries.
            MkeRayError: The key names nothing, or no process can be started.
        """
        for _ in range(_TRIES):
            process = self._take()
            try:
                header = process.ask(places, key, size)
            except (EOFError, ConnectionError):
                process.end()
                continue
            self._idle.put(process)
            if header.failure is not None:
                raise header.failure
            return header
        return Header(None, f"it ended the process that read its header {_TRIES} times")

    def _take(self) -> "_HeaderProcess":
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return started(_HeaderProcess, way_out="source.clip_seconds=null reads no headers")


class _HeaderProcess:
    """One running process.

    Raises:
        StartError: It ended before it was ready.
    """

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            process = launch(_COMMAND, theirs.fileno())
        self.end = weakref.finalize(self, end, process)
        try:
            if not self._connection.poll(_START_S):
                raise StartError(f"not ready after {_START_S:.0f} s")
            self._connection.recv()
        except (EOFError, ConnectionError):
            raise StartError("it ended before it was ready") from None

    def ask(self, places: Places, key: str, size: int) -> Header:
        """Return the answer for one file.

        Raises:
            EOFError: The process died of it.
            TimeoutError: It waits without end.
        """
        self._connection.send((places, key, size))
        if not self._connection.poll(_ANSWER_S):
            self.end()
            raise TimeoutError(f"{key}: no answer of the store in {_ANSWER_S:.0f} s")
        return self._connection.recv()
