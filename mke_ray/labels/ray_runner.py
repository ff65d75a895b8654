"""The labelling pass on a Ray cluster: Ray Data streams units to a pool of actors."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext

from mke_ray import errors
from mke_ray.batching import batched
from mke_ray.errors import MkeRayError
from mke_ray.labels.admission import fit_admitted
from mke_ray.labels.capacity import ActorPool, NodeRoom, PoolSize, missing_text
from mke_ray.labels.living_nodes import living_nodes
from mke_ray.labels.ray_actors import DecodeActor, LabelActor, UnitActor
from mke_ray.labels.tries import Tries
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.worker import WorkItem, WorkPlan
from mke_ray.node_pools import selector_of

_MAX_BLOCKS = 4096
_REFS_AT_ONCE = 16_384  # of which Python objects are made
_MAX_INIT_DEATHS = 5
_HANDED_ON_BYTES = 1 << 20
_NEVER = -1.0
_LASTING = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}

_CONSOLE = "console"  # as Ray Data names its handler


@dataclass(frozen=True, slots=True)
class RayDataRunner:
    """Works on units in actors of the running Ray cluster.

    Args:
        pool: The actors to ask for; those that decode, where teachers have actors of their own.
        teachers: The actors of the teachers; None lets each actor of the pool decode and label.
        is_scaling: Whether nodes may come that are not there yet.
        coming: The nodes that may be there at once, where that is known.
        verbose: Whether Ray Data shows its own progress.
        say: Called with what the pass waits for, until the first report comes.
    """

    pool: ActorPool = field(default_factory=ActorPool)
    teachers: ActorPool | None = None
    is_scaling: bool = False
    coming: Sequence[NodeRoom] = ()
    verbose: bool = False
    say: Callable[[str], None] | None = None

    def run(self, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
        """Work on the units and yield their reports as they come.

        Raises:
            ConfigError: The cluster cannot run the actors.
            MkeRayError: A unit ended every actor that tried it.
            StoreError: The store of the run did not answer.
        """
        steps = self._steps(plan)
        nodes = living_nodes()
        bounds = fit_admitted(
            [pool for _, pool in steps],
            self.coming or nodes,
            root=plan.root,
            is_scaling=self.is_scaling and not self.coming,
        )
        sizes = [one.at_most(len(refs)) for one in bounds]
        if self.say is not None:
            missing = missing_text([pool for _, pool in steps], nodes)
            self.say(_starting(sizes) + (f", {missing}" if missing else ""))
        tries = ray.remote(Tries).options(**_LASTING).remote()
        num_calls = sizes[0].most * plan.units_at_once
        per_call = _units_per_call(plan, len(refs), num_calls) if len(steps) == 1 else 1
        with DataContext.current(self._context([pool for _, pool in steps])):
            dataset = ray.data.from_arrow(_blocks(refs, num_calls, per_call))
            arguments = {"plan": plan, "tries": tries}
            for (actor, pool), size in zip(steps, sizes, strict=True):
                item = {"item": type(refs[0])} if actor is UnitActor else {}
                dataset = dataset.map_batches(
                    actor,
                    fn_constructor_kwargs=arguments | item,
                    batch_size=per_call,
                    batch_format="pyarrow",
                    compute=_strategy(
                        size, plan.units_at_once, at_first=self._at_first(pool, size, plan, refs)
                    ),
                    num_cpus=pool.num_cpus,
                    num_gpus=pool.num_gpus or None,
                    label_selector=selector_of(pool.node_pool) or None,
                )
        if not self.verbose:
            _silence_console()
        for batch in dataset.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=1
        ):
            yield from _reports(batch)

    def _steps(self, plan: WorkPlan) -> list[tuple[type, ActorPool]]:
        """Return what is done to every unit, one after the other, and where."""
        if self.teachers is None:
            return [(UnitActor, self.pool)]
        if plan.decodes and plan.computes:
            return [(DecodeActor, self.pool), (LabelActor, self.teachers)]
        return [(UnitActor, self.pool if plan.decodes else self.teachers)]

    def _at_first(
        self, pool: ActorPool, size: PoolSize, plan: WorkPlan, refs: Sequence[WorkItem]
    ) -> int:
        """Return how many actors are asked for at once, so that all their nodes come together.

        That is of use where nodes come, and known where the configuration says it. Elsewhere Ray
        Data asks for more as it finds work for them.
        """
        if not self.is_scaling or pool.max_actors is None:
            return size.least
        busy = math.ceil(len(refs) / plan.units_at_once)
        return max(size.least, min(size.most, busy))

    def _context(self, pools: Sequence[ActorPool]) -> DataContext:
        """Return settings that outlast dead workers and long waits for machines."""
        context = DataContext.get_current().copy()
        # Ray Data asks for more nodes by the shape of actors alone: this keeps it to their pools.
        selector = selector_of(*(one.node_pool for one in pools))
        context.execution_options.label_selector = selector or None
        if len(pools) > 1:  # a unit goes on when it is decoded; memory is counted unit by unit
            context.target_max_block_size = _HANDED_ON_BYTES
        context.execution_no_progress_timeout_s = _NEVER
        context.max_consecutive_actor_init_deaths = _MAX_INIT_DEATHS
        context.memory_usage_poll_interval_s = None  # it would walk their pages every second
        context.enable_progress_bars = self.verbose
        context.enable_operator_progress_bars = self.verbose
        context.print_on_execution_start = self.verbose
        return context


def _units_per_call(plan: WorkPlan, num_units: int, num_calls: int) -> int:
    """Return how many units a worker is given at a time, few enough for all to have work."""
    return max(1, min(plan.units_per_call, num_units // (4 * num_calls)))


def _strategy(size: PoolSize, num_calls: int, *, at_first: int) -> ActorPoolStrategy:
    """Return how Ray Data runs the actors of a pool.

    Args:
        size: Least and most actors.
        num_calls: Units that an actor works on at once.
        at_first: Actors that are asked for at once.
    """
    if num_calls == 1:
        return ActorPoolStrategy(min_size=size.least, max_size=size.most, initial_size=at_first)
    return ActorPoolStrategy(
        min_size=size.least,
        max_size=size.most,
        initial_size=at_first,
        max_concurrent_calls_per_actor=num_calls,
        enable_true_multi_threading=True,
    )


def _starting(sizes: Sequence[PoolSize]) -> str:
    words = ["worker"] if len(sizes) == 1 else ["decoder", "teacher"]
    numbers = [_number_of(size, word) for size, word in zip(sizes, words, strict=True)]
    return f"starting {' and '.join(numbers)}"


def _number_of(size: PoolSize, word: str) -> str:
    number = f"{size.least} to {size.most}" if size.least < size.most else f"{size.most}"
    return f"{number} {word}{'' if size.most == 1 else 's'}"


def _silence_console() -> None:
    """Let Ray Data say on the console only what went wrong; its log files keep everything."""
    for handler in logging.getLogger("ray.data").handlers:
        if handler.get_name() == _CONSOLE:  # not those of an application
            handler.setLevel(logging.ERROR)


def _reports(batch: pa.Table) -> Iterator[UnitReport]:
    """Yield the reports of a batch.

    Raises:
        MkeRayError: A worker met it.
    """
    for row in batch.to_pylist():
        if row["error"]:
            raise _error_from(row["error"], row["message"])
        yield UnitReport.from_json(row["report"])


def _error_from(name: str, message: str) -> MkeRayError:
    """Return a worker's error as the same class."""
    if name == errors.MediaError.__name__:
        reason, _, detail = message.partition(": ")
        return errors.MediaError(reason, detail)
    return getattr(errors, name, MkeRayError)(message)


def _blocks(refs: Sequence[WorkItem], num_calls: int, per_call: int = 1) -> list[pa.Table]:
    """Return the units as blocks made on the driver, so that no task competes with the actors.

    A block is what a dead actor repeats; a repeated unit that is committed costs one look.

    Args:
        refs: The units.
        num_calls: Calls that all actors work on at once.
        per_call: Units that an actor is given at a time; a block holds no fewer.
    """
    fair_share = max(len(refs) // (4 * num_calls), 1)
    size = max(min(math.ceil(len(refs) / _MAX_BLOCKS), fair_share), per_call)
    names = [one.name for one in fields(cast(Any, refs[0]))]
    tables = (
        pa.Table.from_pylist([{name: getattr(ref, name) for name in names} for ref in some])
        for some in batched(refs, size * max(1, _REFS_AT_ONCE // size))
    )
    return [
        table.slice(start, size).combine_chunks()
        for table in tables
        for start in range(0, table.num_rows, size)
    ]
