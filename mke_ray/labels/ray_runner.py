"""The labelling pass on a Ray cluster: Ray Data streams units to a pool of actors."""

import logging
import math
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy, DataContext

from mke_ray import errors
from mke_ray.errors import MkeRayError, StoreError
from mke_ray.labels.capacity import ActorPool, NodeRoom, fit_pool
from mke_ray.labels.worker import UnitReport, WorkItem, WorkPlan

_MAX_BLOCKS = 4096
_MAX_INIT_DEATHS = 5
_MAX_TRIES = 4
_NEVER = -1.0
_LASTING = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}

_CONSOLE = "console"  # as Ray Data names its handler


@dataclass(frozen=True, slots=True)
class RayDataRunner:
    """Works on units in actors of the running Ray cluster.

    Args:
        pool: The actors to ask for.
        verbose: Whether Ray Data shows its own progress.
        say: Called with what the pass waits for, until the first report comes.
    """

    pool: ActorPool = field(default_factory=ActorPool)
    verbose: bool = False
    say: Callable[[str], None] | None = None

    def run(self, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
        """Work on the units and yield their reports as they come.

        Raises:
            ConfigError: The cluster cannot run the actors.
            MkeRayError: A unit ended every actor that tried it.
            StoreError: The store of the run did not answer.
        """
        min_actors, max_actors = fit_pool(self.pool, _nodes())
        max_actors = max(min_actors, min(max_actors, len(refs)))
        if self.say is not None:
            self.say(_starting(min_actors, max_actors))
        tries = ray.remote(_Tries).options(**_LASTING).remote()
        with DataContext.current(self._context()):
            dataset = ray.data.from_arrow(_blocks(refs, max_actors)).map_batches(
                _UnitActor,
                fn_constructor_kwargs={"plan": plan, "tries": tries, "item": type(refs[0])},
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(min_size=min_actors, max_size=max_actors),
                num_cpus=self.pool.num_cpus,
                num_gpus=self.pool.num_gpus or None,
            )
        if not self.verbose:
            _silence_console()
        for batch in dataset.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=1
        ):
            yield from _reports(batch)

    def _context(self) -> DataContext:
        """Return settings that outlast dead workers and long waits for machines."""
        context = DataContext.get_current().copy()
        context.execution_no_progress_timeout_s = _NEVER
        context.max_consecutive_actor_init_deaths = _MAX_INIT_DEATHS
        context.enable_progress_bars = self.verbose
        context.enable_operator_progress_bars = self.verbose
        context.print_on_execution_start = self.verbose
        return context


class _Tries:
    """Counts in a process of its own how often a unit was begun: its worker may die of it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def begin(self, unit: str) -> int:
        """Count a try of a unit and return the number of those before."""
        self._counts[unit] += 1
        return self._counts[unit] - 1

    def end(self, unit: str) -> None:
        """Forget a unit that ended no worker."""
        self._counts.pop(unit, None)


class _UnitActor:
    """A worker as Ray Data calls it: one row in, one report out.

    Ray starts a dead actor again, and what it worked on, without end; the tries set the end.
    """

    def __init__(self, plan: WorkPlan, tries: Any, item: Callable[..., WorkItem]) -> None:
        torch.set_num_threads(plan.num_threads)
        self._root_uri = plan.root.uri
        self._worker = plan.worker()
        self._tries = tries
        self._item = item

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Work on one unit; an error that the user can mend travels as plain text."""
        ref = self._item(**batch.to_pylist()[0])
        row: dict[str, Any] = {"report": "", "error": "", "message": ""}
        try:
            row["report"] = self._run(ref).to_json()
        except MkeRayError as error:
            row |= {"error": type(error).__name__, "message": str(error)}
        return pa.Table.from_pylist([row])

    def _run(self, ref: WorkItem) -> UnitReport:
        """Bring one unit to its end.

        Raises:
            MkeRayError: It ended every worker that tried it, or its worker met it.
            StoreError: A file could not be read or written.
        """
        num_tried: int = ray.get(self._tries.begin.remote(ref.unit))
        if num_tried >= _MAX_TRIES:
            raise MkeRayError(_why_given_up(ref.unit))
        try:
            return self._worker.run(ref)
        except OSError as error:
            raise StoreError(_why_not_stored(ref.unit, self._root_uri, error)) from error
        finally:
            ray.get(self._tries.end.remote(ref.unit))


def _starting(min_actors: int, max_actors: int) -> str:
    number = f"{min_actors} to {max_actors}" if min_actors < max_actors else f"{max_actors}"
    return f"starting {number} {'worker' if max_actors == 1 else 'workers'}"


def _why_given_up(unit: str) -> str:
    return (
        f"unit {unit} ended its worker process {_MAX_TRIES} times, by a crash of a network or "
        f"for want of memory (now on node {socket.gethostname()}). See the worker's own error in "
        "Ray's logs, or work in this process with labelling.runner=local; where memory was short, "
        "lower labelling.max_actors. What is done stays"
    )


def _why_not_stored(unit: str, root_uri: str, error: OSError) -> str:
    return (
        f"unit {unit} of {root_uri} was not finished on node {socket.gethostname()}: "
        f"{type(error).__name__}: {error}. See that every node reaches the root and that it has "
        "room, then start the same job again; it goes on with what is left"
    )


def _nodes() -> list[NodeRoom]:
    """Return what the living nodes of the cluster offer."""
    offered = [one["Resources"] for one in ray.nodes() if one["Alive"]]
    return [NodeRoom(one.get("CPU", 0.0), one.get("GPU", 0.0)) for one in offered]


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


def _blocks(refs: Sequence[WorkItem], num_actors: int) -> list[pa.Table]:
    """Return the units as blocks made on the driver, so that no task competes with the actors.

    A block is what a dead actor repeats; a repeated unit that is committed costs one look.
    """
    fair_share = max(len(refs) // (4 * num_actors), 1)
    size = min(math.ceil(len(refs) / _MAX_BLOCKS), fair_share)
    table = pa.Table.from_pylist([asdict(cast(Any, ref)) for ref in refs])
    return [table.slice(start, size).combine_chunks() for start in range(0, len(refs), size)]
