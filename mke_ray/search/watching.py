"""What becomes of trials while Ray Tune runs them: records, and an end where nothing runs."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.tune import Callback

from mke_ray.errors import DeviceMemoryError, MkeRayError, TrainingError
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, TrialRecord
from mke_ray.search.searcher import LedgerSearcher
from mke_ray.search.trial import CURVE, FAILURE, LOOK

_NAMES_ERROR = re.compile(r"^[\w.]+(Error|Exception)\b")
_MOST_LETTERS = 300
_SECONDS_BETWEEN_LOOKS = 5.0

Tell = Callable[["Counts"], None]


@dataclass(slots=True)
class Counts:
    """How far a search is.

    Args:
        ended: Trials that have ended, by their state.
        running: Trials that run.
        best: The best quality that was seen, None before any was.
        best_trial: The number of that trial.
        num_samples: Rows trained on by trials that have ended.
    """

    ended: dict[str, int]
    running: int = 0
    best: float | None = None
    best_trial: int = 0
    num_samples: int = 0

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> "Counts":
        """Count trials that have ended."""
        counts = cls(dict.fromkeys((FINISHED, STOPPED, FAILED), 0))
        for one in records:
            counts.add(one.state, one.number, one.curve)
        return counts

    def add(self, state: str, number: int, curve: Sequence[Mapping[str, Any]]) -> None:
        """Count one that has ended; the best is one that was trained to its end, if any was."""
        self.ended[state] += 1
        if not curve:
            return
        self.num_samples += int(curve[-1]["samples"])
        quality = curve[-1]["quality"]
        if state == FINISHED and (self.best is None or quality > self.best):
            self.best, self.best_trial = quality, number

    @property
    def num_ended(self) -> int:
        """Trials that have ended."""
        return sum(self.ended.values())


class TrialsWatch(Callback):
    """Writes what becomes of trials, tells how far the search is, and ends one that starts nothing.

    Args:
        searcher: Writes the records.
        last_look: The look that ends a trial.
        counts: What is known before.
        patience_s: Seconds without a trial that runs or ends before the search stops.
        tell: Called whenever something has changed, and every few seconds.
    """

    def __init__(
        self,
        searcher: LedgerSearcher,
        *,
        last_look: int,
        counts: Counts,
        patience_s: float,
        tell: Tell,
    ) -> None:
        self._searcher, self._last_look = searcher, last_look
        self._counts, self._patience_s, self._tell = counts, patience_s, tell
        self._moved_s = self._told_s = time.monotonic()

    def __reduce__(self) -> Any:
        """Stand for nothing in what Tune keeps to go on from: a search goes on from its ledger."""
        return object, ()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look whether anything runs.

        Raises:
            TrainingError: Nothing has for too long.
        """
        running = sum(one.status == "RUNNING" for one in trials)
        is_due = time.monotonic() - self._told_s > _SECONDS_BETWEEN_LOOKS
        if running != self._counts.running or is_due:
            self._counts.running, self._told_s = running, time.monotonic()
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
        self._end(trial, FAILED, trial.last_result or {}, reason_of(trial))

    def _end(self, trial: Any, state: str, result: Mapping[str, Any], reason: str = "") -> None:
        """Write a record and count it."""
        number = self._searcher.number_of(trial.trial_id)
        if number is None:
            return
        self._searcher.ended(trial.trial_id, state, result, reason)
        self._counts.add(state, number, result.get(CURVE, ()))
        self._moved_s = time.monotonic()
        self._tell(self._counts)


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
