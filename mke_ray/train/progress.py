"""Progress of many fits: workers tell a small actor, a thread on the driver asks it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from mke_ray.errors import TrainingError

Progress = Callable[[int, int, str], None]

_POLL_S = 1.0
_STARTING, _TRAINING = "starting workers", "training"


class StepCounts:
    """Steps done and to do, over all fits of a run.

    Args:
        num_steps: Per fit its number of steps, None where only its epochs are known so far.
    """

    def __init__(self, num_steps: Mapping[str, int | None]) -> None:
        self._num_steps = dict(num_steps)
        self._done = dict.fromkeys(num_steps, 0)
        self._text = _STARTING
        self._num_signs = self._num_begun = self._num_restarts = 0

    def begin(self) -> None:
        """Take note of a process that begins a fit, perhaps again."""
        self._num_begun += 1
        self._num_signs += 1
        if self._text.startswith(_STARTING):
            self._text = _TRAINING

    def restart(self, why: str) -> None:
        """Take note of workers that are started again, and why."""
        self._num_restarts += 1
        self._text = f"{_STARTING} again: {why}"

    def update(self, fit: str, done_steps: int, num_steps: int, text: str) -> None:
        """Take note of how far a fit is."""
        self._num_steps[fit] = num_steps
        self._done[fit] = done_steps
        self._text = text
        self._num_signs += 1

    def signs(self) -> tuple[int, int]:
        """Return how many fits were begun, and how many signs of life there were of all."""
        return self._num_begun, self._num_signs

    def read(self) -> tuple[int, int, str]:
        """Return steps done, steps in all (fits not begun count like those known), last text."""
        known = [num for num in self._num_steps.values() if num is not None]
        unknown = len(self._num_steps) - len(known)
        total = sum(known) + unknown * (sum(known) // len(known) if known else 0)
        return sum(self._done.values()), total, self._text + self._restarts()

    def _restarts(self) -> str:
        """Say how often workers were started again."""
        if not self._num_restarts or self._text.startswith(_STARTING):
            return ""
        return f", restarted {self._num_restarts} time{'s' * (self._num_restarts > 1)}"


class LocalBoard:
    """Tells the caller at once; for fits in this process.

    Args:
        counts: Steps of all fits.
        progress: Called with steps done, steps in all and a line of text.
    """

    def __init__(self, counts: StepCounts, progress: Progress | None) -> None:
        self._counts = counts
        self._progress = progress

    def update(self, fit: str, done_steps: int, num_steps: int, text: str) -> None:
        """Say how far a fit is."""
        self._counts.update(fit, done_steps, num_steps, text)
        if self._progress is not None:
            self._progress(*self._counts.read())


class ActorBoard:
    """Sends progress to an actor without waiting for it; cheap to send to workers.

    Args:
        actor: Handle of a ``StepCounts`` actor.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def update(self, fit: str, done_steps: int, num_steps: int, text: str) -> None:
        """Say how far a fit is."""
        self._actor.update.remote(fit, done_steps, num_steps, text)

    def begin(self) -> None:
        """Say that a process begins a fit."""
        self._actor.begin.remote()

    def restart(self, why: str) -> None:
        """Say that workers are started again, and why."""
        self._actor.restart.remote(why)

    def signs(self) -> tuple[int, int]:
        """Return how many fits were begun, and how many signs of life there were of all."""
        return ray.get(self._actor.signs.remote())


class StepWatch:
    """Ends tasks that were begun and make no step any more.

    Args:
        board: Where they say how far they are.
        most_s: Seconds without a sign of life of any of them after which they are ended.
    """

    def __init__(self, board: ActorBoard, most_s: float) -> None:
        self._board, self._most_s = board, most_s
        self._heard, self._heard_s = (0, 0), time.monotonic()

    def __call__(self, num_done: int) -> None:
        """Look at the board.

        Args:
            num_done: Tasks that have ended.

        Raises:
            TrainingError: None of those that run has made a step for too long.
        """
        heard = self._board.signs()
        if heard != self._heard or heard[0] <= num_done:  # others wait for room, which is no fault
            self._heard, self._heard_s = heard, time.monotonic()
        if time.monotonic() - self._heard_s > self._most_s:
            raise TrainingError(
                f"it made no step for {self._most_s:g} s and was ended; raise search.silence_s "
                "where a step may take longer"
            )


@contextlib.contextmanager
def polled_board(
    num_steps: Mapping[str, int | None], progress: Progress | None
) -> Iterator[ActorBoard]:
    """Start a board and tell the caller of it once a second, and a last time at the end.

    Args:
        num_steps: Per fit its number of steps, None where unknown.
        progress: Called with steps done, steps in all and a line of text; None polls nothing.
    """
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(StepCounts).remote(num_steps)
    stopped = threading.Event()
    thread = threading.Thread(target=_poll, args=(actor, progress, stopped), daemon=True)
    if progress is not None:
        thread.start()
    try:
        yield ActorBoard(actor)
    finally:
        stopped.set()
        if progress is not None:
            thread.join()
        ray.kill(actor)


def _poll(actor: Any, progress: Progress, stopped: threading.Event) -> None:
    """Ask the actor again and again."""
    is_last = False
    while not is_last:
        is_last = stopped.wait(_POLL_S)
        with contextlib.suppress(RayError):  # progress never stops training
            progress(*ray.get(actor.read.remote(), timeout=10 * _POLL_S))


def steps_known(fits: Sequence[Any]) -> dict[str, int | None]:
    """Return the number of steps of each fit, None where it follows from the number of rows."""
    return {one.fingerprint(): one.num_steps for one in fits}
