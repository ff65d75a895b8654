"""Notice of nodes that are about to go: asked for every few seconds, by all ranks together."""

import logging
import time

import ray.train

from mke_ray.train.engine import from_rank_zero, rank

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0

_MOST_STEPS = 1000


class PreemptionLook:
    """Asks Ray, during one fit, whether a node of the worker group is draining.

    Asking is a barrier, so all ranks ask after the same steps: how many steps it is to the next
    time, rank 0 says.

    Args:
        every_s: Seconds between two times, about.
    """

    def __init__(self, every_s: float = LOOK_EVERY_S) -> None:
        self._every_s = every_s
        self._next_step = 0
        self._last: tuple[int, float] | None = None
        self._known: frozenset[str] = frozenset()

    def is_told(self, step: int) -> bool:
        """Return whether nodes are about to go of which nothing was said before.

        Args:
            step: Steps done; every rank asks after the same ones.
        """
        if step < self._next_step:
            return False
        self._next_step = step + from_rank_zero(self._steps_to_next(step))
        self._last = (step, time.monotonic())
        told = ray.train.get_preemption_info()
        nodes = frozenset() if told is None else frozenset(told.preempted_node_to_ranks)
        new, self._known = nodes - self._known, self._known | nodes
        if new and rank() == 0:
            logger.warning("nodes %s are about to go: step %d is saved", sorted(new), step)
        return bool(new)

    def _steps_to_next(self, step: int) -> int:
        """Return how many steps take as long as there shall be between two times."""
        if self._last is None:
            return 1
        last_step, last_s = self._last
        step_s = (time.monotonic() - last_s) / max(step - last_step, 1)
        return max(1, min(_MOST_STEPS, round(self._every_s / max(step_s, 1e-6))))
