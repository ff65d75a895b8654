"""Wall-clock seconds of the stages that did work, summed over all starts of a run."""

import contextlib
import json
import time
from collections.abc import Iterator

from mke_ray.storage import Root

SECONDS_NAME = "seconds.json"


class StageClock:
    """Times one stage after the other and keeps the sums with the run.

    Args:
        root: Root of the run.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._is_working = False

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block, and keep its seconds if work began in it, however it ends."""
        self._is_working = False
        start_s = time.perf_counter()
        try:
            yield
        finally:
            if self._is_working:
                self._keep(name, time.perf_counter() - start_s)

    def work_begins(self) -> None:
        """Say that the stage has something to do, so that its time counts."""
        self._is_working = True

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every stage over all starts of the run, and their ``total``."""
        by_stage = self._kept()
        return {**by_stage, "total": sum(by_stage.values())}

    def _keep(self, name: str, spent_s: float) -> None:
        """Add seconds to those of a stage."""
        by_stage = self._kept()
        by_stage[name] = by_stage.get(name, 0.0) + spent_s
        self._root.write(SECONDS_NAME, json.dumps(by_stage, indent=1).encode())

    def _kept(self) -> dict[str, float]:
        """Return the seconds of every stage that are kept."""
        try:
            return json.loads(self._root.read(SECONDS_NAME))
        except FileNotFoundError:
            return {}
