"""Trials under Ray Tune: how many at once, which end early, and what becomes of each."""

import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune import FailureConfig as TuneFailureConfig
from ray.tune import RunConfig, TuneConfig, Tuner
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.schedulers import TrialScheduler

from mke_ray.config_search import SearchConfig
from mke_ray.errors import ConfigError
from mke_ray.labels.capacity import NodeRoom, check_node_pool
from mke_ray.node_pools import selector_of
from mke_ray.search.ranks import train_trial_on_ranks
from mke_ray.search.searcher import NUMBER, LedgerSearcher
from mke_ray.search.trial import TrialPlace, train_trial
from mke_ray.search.watching import TrialsWatch
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
        ConfigError: There is no room for a single one, or no node of the pool.
    """
    cpus, gpus = scaling["cpus_per_worker"], scaling["gpus_per_worker"]
    pool = scaling.get("pool")
    room = sum(room_of(node, cpus, gpus, pool) for node in nodes) // search.workers_per_trial
    if num_cores is not None and cpus > 0:  # a local Ray may count more CPUs than there are
        room = min(room, max(1, int(num_cores / (cpus * search.workers_per_trial))))
    if is_autoscaling:
        return search.max_concurrent or max(room, search.num_trials)
    check_node_pool(pool, nodes, key="scaling.pool")
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
    watch: TrialsWatch,
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
    bundles = [dict(one) for _ in range(search.workers_per_trial)]
    pool = scaling.get("pool")
    where = [selector_of(pool)] * len(bundles) if pool else None
    if search.workers_per_trial > 1:
        bundles = [{}, *bundles]
    return PlacementGroupFactory(bundles, bundle_label_selector=where)
