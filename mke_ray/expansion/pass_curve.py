"""The curve of a labelling pass in MLflow: rate, cost and shares of stages over samples done."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mke_ray.labels.pass_state import PassState
from mke_ray.labels.rates import PassRates
from mke_ray.labels.worker import UnitReport
from mke_ray.tracking import Tracker

GROUP = "label"
SECONDS_BETWEEN_POINTS = 30.0


@dataclass(slots=True)
class PassCurve:
    """Records how a pass goes. A watcher of ``run_pass``.

    Args:
        tracker: Returns the MLflow run, opened when first asked for, None where tracking is off;
            not asked before a unit is done.
    """

    tracker: Callable[[], Tracker | None]
    _last_s: float | None = None
    _last: PassRates = field(default_factory=PassRates)

    def __call__(self, report: UnitReport, state: PassState) -> None:
        """Record a point if the last one is a while ago."""
        now_s = time.monotonic()
        if self._last_s is None or now_s - self._last_s >= SECONDS_BETWEEN_POINTS:
            self._last_s = now_s
            self._record(_point(state, self._last), state)
            self._last = state.rates

    def finish(self, state: PassState, *, num_bytes_spilled: int) -> None:
        """Record the last point and the sums of a pass in which work was done."""
        if self._last_s is None:
            return
        point = {} if state.rates == self._last else _point(state, self._last)
        self._record({**point, **_sums(state, num_bytes_spilled)}, state)

    def _record(self, numbers: dict[str, Any], state: PassState) -> None:
        tracker = self.tracker()
        if tracker is not None:
            tracker.log_history(
                [{GROUP: numbers, "step": state.num_done, "time_s": time.time()}],
            )


def _point(state: PassState, last: PassRates) -> dict[str, Any]:
    """Return the numbers of one moment; rate and shares are those since the last point."""
    since = state.rates.plus(last, sign=-1)
    return {
        "samples_done": state.num_done,
        "samples_per_s": since.samples_per_s,
        "share": since.shares(),
        "eta_s": state.eta_s,
        "cost": state.cost,
        "cost_to_come": state.cost_to_come,
    }


def _sums(state: PassState, num_bytes_spilled: int) -> dict[str, Any]:
    """Return the sums over all starts of a pass."""
    total = state.total
    return {
        "total": {
            "samples": total.num_samples,
            "wall_s": total.wall_s,
            "media_s": total.duration_s,
            "bytes_read": total.num_bytes_read,
            "bytes_needed": total.num_bytes_needed,
            "bytes_written": total.num_bytes_written,
            "starts": total.num_starts,
            "share": total.shares(),
        },
        "bytes_spilled": num_bytes_spilled,
    }
