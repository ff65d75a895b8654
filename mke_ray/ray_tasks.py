"""The same work on several things, each in a Ray task of its own."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import ray
from ray.exceptions import RayTaskError

from mke_ray.errors import MkeRayError
from mke_ray.node_pools import selector_of

_WATCH_S = 5.0
_CANCELS = 4
_CANCEL_S = 3.0

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def run_tasks(
    work: Callable[[_Given], _Made],
    given: Sequence[_Given],
    *,
    num_cpus: float,
    num_gpus: float,
    report: Callable[[int, int], None],
    pool: str | None = None,
) -> list[_Made]:
    """Do some work on several things side by side and return the results in order.

    Args:
        work: What is done on each, in the task.
        given: What it is done on.
        num_cpus: CPUs that a task takes.
        num_gpus: GPUs that a task takes.
        report: Called with how many are done, and of how many.
        pool: Label of the nodes that tasks may be on; None takes any.

    Raises:
        MkeRayError: A task ended with one that the user can mend.
    """
    where = selector_of(pool)
    task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, label_selector=where)(work)
    running = [task.remote(one) for one in given]
    wait_for(running, report=report)
    return ray.get(running)


def wait_for(
    tasks: Sequence[ray.ObjectRef],
    *,
    report: Callable[[int, int], None] | None = None,
    watch: Callable[[int], None] | None = None,
) -> None:
    """Wait until all tasks are done; after an error nobody waits for the others, and they end.

    Args:
        tasks: The tasks.
        report: Called with how many are done, and of how many.
        watch: Called every few seconds with how many are done; where it raises, the processes of
            the others are killed, since one that hangs in a library hears nothing.

    Raises:
        MkeRayError: A task ended with one that the user can mend.
    """
    left, is_hung = list(tasks), False
    try:
        while left:
            if report is not None:
                report(len(tasks) - len(left), len(tasks))
            done, left = ray.wait(left, timeout=None if watch is None else _WATCH_S)
            _raise_ours(done)
            if watch is not None and left:
                is_hung = True
                watch(len(tasks) - len(left))
                is_hung = False
    finally:
        _end(left, is_hung=is_hung)
    if report is not None:
        report(len(tasks), len(tasks))


def _end(tasks: Sequence[ray.ObjectRef], *, is_hung: bool) -> None:
    """End tasks whose results nobody wants.

    Ray tells a task once and forgets it: one that was just about to start, or that caught it, goes
    on. So each is told again until it ends, and at last its process is killed.
    """
    left = list(tasks)
    for tries_left in range(_CANCELS - 1, -1, -1):
        for one in left:
            ray.cancel(one, force=is_hung or not tries_left)
        if left:
            _, left = ray.wait(left, num_returns=len(left), timeout=_CANCEL_S)


def _raise_ours(done: list[ray.ObjectRef]) -> None:
    """Raise the error of a finished task; one that the user can mend as its own class."""
    try:
        ray.get(done)
    except RayTaskError as error:
        if isinstance(error.cause, MkeRayError):
            raise error.cause from None
        raise
