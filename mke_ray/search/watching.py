"""What becomes of trials while Ray Tune runs them: records, and an end where nothing runs."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.tune import Callback

from mke_ray.errors import DeviceMemoryError, MkeRayError, TrainingError
from mke_ray.search.counts import Counts
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED
from mke_ray.search.searcher import LedgerSearcher
from mke_ray.search.silence import Silence
from mke_ray.search.trial import CURVE, FAILURE, LOOK

_NAMES_ERROR = re.compile(r"^[\w.]+(Error|Exception)\b")
_MOST_LETTERS = 300
_SECONDS_BETWEEN_LOOKS = 5.0

Tell = Callable[[Counts], None]


class TrialsWatch(Callback):
    """Writes what becomes of trials, tells how far the search is, and ends one that starts nothing.

    Args:
        searcher: Writes the records.
        last_look: The look that ends a trial.
        counts: What is known before.
        patience_s: Seconds without a trial that runs or ends before the search stops.
        silence_s: Seconds without a step after which a trial is ended; None waits without end.
        tell: Called whenever something has changed, and every few seconds.
    """

    def __init__(
        self,
        searcher: LedgerSearcher,
        *,
        last_look: int,
        counts: Counts,
        patience_s: float,
        silence_s: float | None,
        tell: Tell,
    ) -> None:
        self._searcher, self._last_look = searcher, last_look
        self._counts, self._patience_s, self._tell = counts, patience_s, tell
        self._silence = Silence(silence_s)
        self._started_s: dict[str, float] = {}
        self._moved_s = self._told_s = time.monotonic()

    def __reduce__(self) -> Any:
        """Stand for nothing in what Tune keeps to go on from: a search goes on from its ledger."""
        return object, ()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look whether anything runs, and end what runs without a sign of life.

        Raises:
            TrainingError: Nothing has run for too long.
        """
        running = [one for one in trials if one.status == "RUNNING"]
        self._silence.end_silent(running)
        is_due = time.monotonic() - self._told_s > _SECONDS_BETWEEN_LOOKS
        if len(running) != self._counts.running or is_due:
            self._counts.running, self._told_s = len(running), time.monotonic()
            self._counts.running_s = sum(self._took_s(one) for one in running)
            self._tell(self._counts)
        if running:
            self._moved_s = time.monotonic()
        waited_s = time.monotonic() - self._moved_s
        if waited_s > self._patience_s:
            free = ray.available_resources()
            raise TrainingError(
                f"no trial could start for {waited_s:.0f} s: the cluster has {free.get('CPU', 0):g}"
                f" CPUs and {free.get('GPU', 0):g} GPUs free; see what else runs on it, lower "
                "search.max_concurrent, or raise search.patience_s. Start the job again to go on"
            )

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Take note of when a trial started; one that is begun again took the time before too."""
        self._silence.heard(trial)
        self._started_s.setdefault(trial.trial_id, time.monotonic())

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take note of a sign of life."""
        self._silence.heard(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Write the record of a trial that was trained to its end, was stopped, or said why not."""
        result = trial.last_result or {}
        if FAILURE in result:
            self._end(trial, FAILED, result, result[FAILURE])
            return
        is_finished = result.get(LOOK, 0) >= self._last_look
        self._end(trial, FINISHED if is_finished else STOPPED, result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Write the record of a trial that failed for good."""
        reason = self._silence.reason_of(trial) or reason_of(trial)
        self._end(trial, FAILED, trial.last_result or {}, reason)

    def _end(self, trial: Any, state: str, result: Mapping[str, Any], reason: str = "") -> None:
        """Write a record and count it."""
        number = self._searcher.number_of(trial.trial_id)
        if number is None:
            return
        self._searcher.ended(trial.trial_id, state, result, reason)
        took_s, curve = self._took_s(trial), result.get(CURVE, ())
        trained_s = curve[-1]["seconds"] if curve else 0.0  # by an earlier search, if by no trial
        self._counts.add(state, number, curve, took_s=max(took_s, trained_s))
        self._counts.running = max(0, self._counts.running - 1)
        self._counts.running_s = max(0.0, self._counts.running_s - took_s)
        self._moved_s = time.monotonic()
        self._tell(self._counts)

    def _took_s(self, trial: Any) -> float:
        """Return the seconds since a trial started."""
        now_s = time.monotonic()
        return now_s - self._started_s.get(trial.trial_id, now_s)


def reason_of(trial: Any) -> str:
    """Return in one line why a trial failed, from what Ray Tune kept of it.

    Args:
        trial: A trial of Ray Tune.
    """
    error = trial.get_pickled_error()
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, OutOfMemoryError | MemoryError | DeviceMemoryError):
        return f"out of memory: {_first_line(str(cause))}"
    if isinstance(cause, RayActorError):
        return f"its process was lost: {_first_line(str(cause))}"
    if isinstance(cause, MkeRayError):
        return _first_line(str(cause))
    return _last_error(Path(trial.error_file).read_text(encoding="utf-8"))


def _last_error(text: str) -> str:
    """Return the last line of a traceback that names an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if _NAMES_ERROR.match(line)]
    return (named or lines or ["unknown"])[-1][:_MOST_LETTERS]


def _first_line(text: str) -> str:
    """Return the first line of what an error says."""
    return (text.strip().splitlines() or [""])[0][:_MOST_LETTERS]
