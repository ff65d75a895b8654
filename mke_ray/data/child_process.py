"""Processes of our own in which what nobody vouches for is read: their start and their end."""

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import TypeVar

import psutil
import tenacity

from mke_ray.errors import ConfigError

_TRIES = 5
_AGAIN_S = 4.0
_END_S = 10.0

_Child = TypeVar("_Child")
_logger = logging.getLogger(__name__)


class StartError(Exception):
    """A process did not start, or ended before it was ready; the next one may."""


def launch(command: str, descriptor: int) -> psutil.Popen:
    """Start a process, in a group of its own.

    Args:
        command: Python code that it runs; its first argument is the descriptor.
        descriptor: An open file that it inherits.

    Raises:
        OSError: The machine has no room for it.
    """
    return psutil.Popen(
        [sys.executable, "-c", command, str(descriptor)],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        process_group=0,
        # The client of S3 would have a thread for every core of the machine.
        env={"TOKIO_WORKER_THREADS": "2"}
        | os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def started(make: Callable[[], _Child], *, way_out: str) -> _Child:
    """Return a process that is ready; try again where that fails, for about a minute.

    Args:
        make: Starts one; raises ``StartError`` or ``OSError`` where the next try may succeed.
        way_out: What else the user can do, for the error.

    Raises:
        ConfigError: This machine starts none.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((StartError, OSError)),
        wait=tenacity.wait_exponential_jitter(initial=_AGAIN_S, max=30.0, jitter=_AGAIN_S / 4),
        stop=tenacity.stop_after_attempt(_TRIES),
        before_sleep=tenacity.before_sleep_log(_logger, logging.WARNING),
        reraise=True,
    )
    try:
        return retrying(make)
    except (StartError, OSError) as error:
        raise ConfigError(
            f"the process that reads samples did not start on node {socket.gethostname()} in "
            f"{_TRIES} tries ({error}); its own error is on the standard error. Free memory or "
            f"processes there and start again; {way_out}"
        ) from error


def end_with_parent() -> None:
    """Let this process of ``multiprocessing`` end when its parent does, however that ends.

    A pool's worker holds both ends of the queues on which it waits, so it would wait for ever.
    """
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def end(process: psutil.Popen) -> None:
    """End a process and those that it started; one that the kernel holds is left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_END_S)
    except psutil.TimeoutExpired:
        _logger.warning("process %d does not die of SIGKILL, going on without it", process.pid)


def _end_after(parent: BaseProcess) -> None:
    """End this process once its parent is gone."""
    parent.join()
    os._exit(1)  # nobody is left to report to; threads and libraries may be in any state
