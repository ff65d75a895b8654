"""Ends trials that run and give no sign of life."""

import time
from collections.abc import Sequence
from typing import Any

import ray

LEAST_SILENCE_S = 30.0  # a trial gives a sign every ten seconds

_LONGEST_GAP_S = 5.0


class Silence:
    """Listens to running trials, and kills the process of one that is silent for too long.

    Only time in which this process listened counts: a driver that was held up takes no trial for
    hung before it has heard what they said meanwhile.

    Args:
        most_s: Seconds without a sign after which a trial is killed; None waits without end.
    """

    def __init__(self, most_s: float | None) -> None:
        self._most_s = most_s
        self._listened_s, self._looked_s = 0.0, time.monotonic()
        self._heard_s: dict[str, float] = {}
        self._killed: dict[str, str] = {}

    def heard(self, trial: Any) -> None:
        """Take note of a sign of life.

        Args:
            trial: A trial of Ray Tune.
        """
        self._heard_s[trial.trial_id] = self._listened_s

    def end_silent(self, running: Sequence[Any]) -> None:
        """Kill the processes of the trials that were silent for too long.

        Args:
            running: Trials of Ray Tune that run.
        """
        now_s = time.monotonic()
        self._listened_s += min(now_s - self._looked_s, _LONGEST_GAP_S)
        self._looked_s = now_s
        for one in running:
            since_s = self._heard_s.setdefault(one.trial_id, self._listened_s)
            actor = one.temporary_state.ray_actor
            if self._most_s is None or actor is None or self._listened_s - since_s < self._most_s:
                continue
            self._killed[one.trial_id] = (
                f"it made no step for {self._most_s:g} s and was ended; raise search.silence_s "
                "where a step may take longer"
            )
            one.max_failures = 0  # begun again, it would hang again
            ray.kill(actor)
            self.heard(one)

    def reason_of(self, trial: Any) -> str:
        """Return why a trial was killed, "" where it was not.

        Args:
            trial: A trial of Ray Tune.
        """
        return self._killed.get(trial.trial_id, "")
