"""A runner that is made, and Ray connected to, only when there is work."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mke_ray.labels.labelling import Runner
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.labels.spilling import Spilling
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.worker import WorkItem, WorkPlan

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LazyRunner:
    """Makes the runner of a run when there is work.

    Args:
        make: Returns the runner, connected to Ray where it needs that; it is given ``say``.
        say: Called with what the work waits for.
        spilling: Asked to begin when the work does.
        is_light: Whether it is no work for GPUs, so that actors ask for none.
    """

    make: Callable[[Say | None], Runner]
    say: Say | None = None
    spilling: Spilling | None = None
    is_light: bool = False

    def run(self, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
        """Work on the units; called only if there are any."""
        runner = self.make(self.say)
        if self.is_light and isinstance(runner, RayDataRunner):
            runner = replace(runner, pool=replace(runner.pool, num_gpus=0.0))
        if self.spilling is not None:
            self.spilling.begin()
        yield from runner.run(plan, refs)
