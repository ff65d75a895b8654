"""What runs in the process in which untrusted samples are read; ``decode_process.py`` watches it.

It ends by itself: when its worker is gone, and, should a decoder hold it up, by an alarm of the
kernel that no decoder can hold up.
"""

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from mke_ray.config import build
from mke_ray.data.sources import Reader
from mke_ray.errors import MkeRayError
from mke_ray.labels.row_pool import RowPool
from mke_ray.labels.rows import StoredRow
from mke_ray.schema import DecodeSpec, ManifestRow


@dataclass(frozen=True, slots=True)
class Setup:
    """What a decode process works with all its life.

    Args:
        source: What ``mke_ray.config.build`` makes the source from.
        decode: What is stored of every modality.
        num_threads: Samples decoded side by side.
        alarm_s: Time after the last finished sample at which the kernel ends the process.
    """

    source: Mapping[str, Any]
    decode: DecodeSpec
    num_threads: int
    alarm_s: float


@dataclass(frozen=True, slots=True)
class Escaped:
    """An error that no reader should raise, of one sample.

    Args:
        kind: Name of its class.
        text: What it says.
        traceback: Where it was raised, for the log.
    """

    kind: str
    text: str
    traceback: str


Outcome = StoredRow | Escaped | MkeRayError


def main() -> None:
    """Serve requests on the connection whose descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker decides when this process ends
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        _serve(Connection(int(sys.argv[1])))
    except (EOFError, ConnectionError):
        os._exit(0)  # the worker is gone; threads and libraries may be in any state


def _serve(connection: Connection) -> None:
    """Build the reader, say so, and answer one list of samples after the other.

    Raises:
        EOFError: The worker is gone.
    """
    setup: Setup = connection.recv()
    try:
        reader: Reader = build(setup.source).reader(setup.decode)
    except MkeRayError as error:
        connection.send(error)
        return
    connection.send(None)
    pool = RowPool(reader, setup.decode, setup.num_threads)
    while True:
        for answer in _answers(pool, setup, connection.recv()):
            connection.send(answer)


def _answers(
    pool: RowPool, setup: Setup, rows: Sequence[ManifestRow]
) -> Iterator[tuple[int, Outcome]]:
    """Yield the number and the outcome of every sample, in the order in which they finish."""
    signal.setitimer(signal.ITIMER_REAL, setup.alarm_s)
    numbers = {pool.submit(row): number for number, row in enumerate(rows)}
    for future in as_completed(numbers):
        signal.setitimer(signal.ITIMER_REAL, setup.alarm_s)
        yield numbers[future], _outcome(future)
    signal.setitimer(signal.ITIMER_REAL, 0.0)


def _outcome(future: Future[StoredRow]) -> Outcome:
    """Return the row of a sample, or the error that reading it raised."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, MkeRayError):
        return error
    trace = "".join(traceback.format_exception(error))
    return Escaped(type(error).__name__, str(error), trace)
