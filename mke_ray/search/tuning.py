"""Trials under Ray Tune: how many at once, which end early, and what becomes of each."""

import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
from ray.tune import Callback, RunConfig, TuneConfig, Tuner
from ray.tune import FailureConfig as TuneFailureConfig
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from mke_ray.config_search import SearchConfig
from mke_ray.errors import ConfigError, DeviceMemoryError, MkeRayError, TrainingError
from mke_ray.labels.capacity import NodeRoom
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, TrialRecord
from mke_ray.search.ranks import train_trial_on_ranks
from mke_ray.search.searcher import NUMBER, LedgerSearcher
from mke_ray.search.trial import CURVE, LOOK, QUALITY, TrialPlace, train_trial
from mke_ray.train.room import room_of

SCHEDULERS = ("asha", "fifo")
LOOKS_WITHOUT_STOPS = 8

_TUNE_ENV = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no files of Tune's own
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt is one, and no end of the search
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are on record
    "RAY_AIR_NEW_OUTPUT": "0",  # says nothing of its own
}


_NAMES_ERROR = re.compile(r"^[\w.]+(Error|Exception)\b")
_MOST_LETTERS = 300

Tell = Callable[["Counts"], None]


def rungs_of(search: SearchConfig) -> tuple[int, ...]:
    """Return after which looks trials are compared, the last being the end.

    Raises:
        ConfigError: A number makes no sense.
    """
    if search.scheduler not in SCHEDULERS:
        raise ConfigError(
            f"search.scheduler={search.scheduler!r}; choose one of {list(SCHEDULERS)}"
        )
    if search.scheduler == "fifo":
        return (LOOKS_WITHOUT_STOPS,)
    if search.cost is not None:
        raise ConfigError(
            f"search.scheduler=asha compares by quality alone, but search.cost={search.cost} is a "
            "second goal; set search.scheduler=fifo, or search.cost=null"
        )
    if search.reduction < 2 or search.rungs < 2:
        raise ConfigError(
            f"search.reduction={search.reduction} and search.rungs={search.rungs}; give at least 2"
        )
    return tuple(search.reduction**power for power in range(search.rungs))


def scheduler_of(
    search: SearchConfig, rungs: Sequence[int], records: Sequence[TrialRecord]
) -> TrialScheduler:
    """Return what ends trials early; it knows of the trials that have ended before.

    Args:
        search: The section ``search``.
        rungs: See ``rungs_of``.
        records: Trials that have ended.
    """
    if search.scheduler == "fifo":
        return FIFOScheduler()
    asha = AsyncHyperBandScheduler(
        time_attr=LOOK,
        metric=QUALITY,
        mode="max",
        max_t=rungs[-1],
        grace_period=rungs[0],
        reduction_factor=search.reduction,
    )
    for one in records:
        known: Any = SimpleNamespace(trial_id=f"ended-{one.number}")
        controller: Any = None
        asha.on_trial_add(controller, known)
        for look in (seen for seen in one.curve if seen["look"] in rungs[:-1]):
            asha.on_trial_result(controller, known, {LOOK: look["look"], QUALITY: look["quality"]})
        asha.on_trial_remove(controller, known)
    return asha


def num_at_once(
    search: SearchConfig,
    scaling: Mapping[str, Any],
    nodes: Sequence[NodeRoom],
    *,
    is_autoscaling: bool,
    num_cores: int | None = None,
) -> int:
    """Return how many trials may run side by side, so that none waits for room.

    Args:
        search: The section ``search``.
        scaling: The section ``scaling``.
        nodes: The nodes that are there.
        is_autoscaling: Whether nodes come when they are asked for.
        num_cores: Cores of this machine where Ray runs on it alone; None where it does not.

    Raises:
        ConfigError: There is no room for a single one.
    """
    cpus, gpus = scaling["cpus_per_worker"], scaling["gpus_per_worker"]
    room = sum(room_of(node, cpus, gpus) for node in nodes) // search.workers_per_trial
    if num_cores is not None and cpus > 0:  # a local Ray may count more CPUs than there are
        room = min(room, max(1, int(num_cores / (cpus * search.workers_per_trial))))
    if is_autoscaling:
        return search.max_concurrent or max(room, search.num_trials)
    if room < 1:
        offer = f"{sum(n.cpus for n in nodes):g} CPUs and {sum(n.gpus for n in nodes):g} GPUs"
        raise ConfigError(
            f"a trial of {search.workers_per_trial} workers of {cpus:g} CPUs and {gpus:g} GPUs "
            f"does not fit the cluster ({offer}); lower search.workers_per_trial, "
            "scaling.cpus_per_worker or scaling.gpus_per_worker, or set ray.autoscaling=true where "
            "nodes come when they are asked for"
        )
    return min(room, search.max_concurrent or room)


def run_trials(
    searcher: LedgerSearcher,
    scheduler: TrialScheduler,
    place: TrialPlace,
    *,
    search: SearchConfig,
    scaling: Mapping[str, Any],
    at_once: int,
    watch: "TrialsWatch",
) -> None:
    """Run the trials that a searcher gives until it gives no more.

    Args:
        searcher: Gives trials and writes what becomes of them.
        scheduler: Ends trials early.
        place: Where they are trained.
        search: The section ``search``.
        scaling: The section ``scaling``.
        at_once: Most trials side by side.
        watch: Looks on.

    Raises:
        TrainingError: No trial could start or go on for ``search.patience_s``.
    """
    for name, value in _TUNE_ENV.items():
        os.environ.setdefault(name, value)
    # It looks for the files of trials, which are not written.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    train = train_trial if search.workers_per_trial == 1 else train_trial_on_ranks
    with tempfile.TemporaryDirectory(prefix="mke_ray-search-") as folder:
        tuner = Tuner(
            tune.with_resources(
                tune.with_parameters(train, place=place), _resources(search, scaling)
            ),
            tune_config=TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=at_once,
                reuse_actors=search.workers_per_trial == 1,
                trial_dirname_creator=lambda trial: f"trial-{trial.config[NUMBER]}",
            ),
            run_config=RunConfig(
                name="search",
                storage_path=folder,
                callbacks=[watch],
                verbose=0,
                failure_config=TuneFailureConfig(max_failures=search.max_failures),
            ),
        )
        tuner.fit()


def _resources(search: SearchConfig, scaling: Mapping[str, Any]) -> Any:
    """Return what a trial takes; that of several workers in one piece, with nothing for itself."""
    one = {"CPU": scaling["cpus_per_worker"]}
    if scaling["gpus_per_worker"] > 0:
        one["GPU"] = scaling["gpus_per_worker"]
    if search.workers_per_trial == 1:
        return PlacementGroupFactory([one])
    return PlacementGroupFactory([{}, *(dict(one) for _ in range(search.workers_per_trial))])


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
    """Writes what becomes of trials, tells how far the search is, and ends one that is stuck.

    Args:
        searcher: Writes the records.
        last_look: The look that ends a trial.
        counts: What is known before.
        patience_s: Seconds without a trial that runs or ends before the search stops.
        tell: Called whenever something has changed.
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
        self._moved_s = time.monotonic()

    def __reduce__(self) -> Any:
        """Stand for nothing in what Tune keeps to go on from: a search goes on from its ledger."""
        return object, ()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look whether anything runs.

        Raises:
            TrainingError: Nothing has for too long.
        """
        running = sum(one.status == "RUNNING" for one in trials)
        if running != self._counts.running:
            self._counts.running = running
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
        """Write the record of a trial that was trained to its end, or stopped."""
        result = trial.last_result or {}
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
