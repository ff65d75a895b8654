"""The length of a video by its header, read in a process of its own; ``spans.py`` cuts by it.

Headers come from anywhere: one that crashes the library, keeps it busy or fills the memory ends
the process that reads it, and nothing else.
"""

import os
import resource
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import BinaryIO, cast

import av

from mke_ray.data.containers import DECODE_ERRORS, LIMITS, open_container
from mke_ray.data.places import Places
from mke_ray.data.ranges import RangeFile
from mke_ray.errors import MediaError, MkeRayError

_MAX_HEADER_BYTES = 64 << 20
_MAX_MEMORY_BYTES = 4 << 30
_MAX_BUSY_S = 30.0
# The process looks after itself should who asked be gone; else it is ended a little earlier.
_ALARM_S = 330.0
_PASSING = (408, 429)


@dataclass(frozen=True, slots=True)
class Header:
    """What a header said.

    Args:
        duration_s: Length of the video, None where that cannot be read.
        why: Why it cannot, for a person.
        failure: What the whole listing has to stop for.
    """

    duration_s: float | None
    why: str = ""
    failure: OSError | MkeRayError | None = None


def main() -> None:
    """Answer requests on the connection whose descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked decides when this process ends
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    connection = Connection(int(sys.argv[1]))
    try:
        connection.send(None)
        while True:
            places, key, size = connection.recv()
            connection.send(_limited(places, key, size))
    except (EOFError, ConnectionError):
        os._exit(0)  # nobody asks any more


def _limited(places: Places, key: str, size: int) -> Header:
    """Read a header while the kernel watches the time: its signals end this process."""
    signal.setitimer(signal.ITIMER_PROF, _MAX_BUSY_S)
    signal.setitimer(signal.ITIMER_REAL, _ALARM_S)
    try:
        return read_header(places, key, size)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def read_header(places: Places, key: str, size: int) -> Header:
    """Return what the header of a file says.

    Args:
        places: Where keys are.
        key: Key of the file.
        size: Its size in bytes.
    """
    try:
        duration_s = _declared_duration_s(places, key, size)
    except MkeRayError as error:
        return Header(None, failure=error)
    except OSError as error:
        why = f"{type(error).__name__}: {error}"
        return Header(None, why, None if _is_of_one_file(error) else OSError(error.errno, why))
    return Header(duration_s, "" if duration_s else "its header says no length")


def _declared_duration_s(places: Places, key: str, size: int) -> float | None:
    """Return the length of a video by its header, None where that cannot be read.

    Raises:
        OSError: The store did not give it, also after retries.
    """
    root, name = places.find_to_read(key)
    if root.is_local:
        with open(root.path(name), "rb") as local:
            return _duration_s(local)
    file = RangeFile(
        lambda begin, end: root.read_range(name, begin, end), size, max_bytes=_MAX_HEADER_BYTES
    )
    duration_s = _duration_s(cast(BinaryIO, file))
    if isinstance(file.failure, OSError):
        raise file.failure
    return duration_s


def _duration_s(file: BinaryIO) -> float | None:
    try:
        with open_container(file, LIMITS) as container:
            duration_s = (container.duration or 0) / av.time_base
    except (MediaError, OSError, *DECODE_ERRORS):
        return None
    return duration_s if duration_s > 0 else None


def _is_of_one_file(error: OSError) -> bool:
    """Return whether an error says something of this file, and nothing of its store."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return True
    response = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return 400 <= status < 500 and status not in _PASSING
