"""A trial of several processes: ranks in the room that Ray Tune reserved for the trial.

They are actors of the trial and not a trainer of their own beside it: Tune reserves all that a
trial needs at once, so that trials which wait for one another's workers cannot be, and when a trial
ends its room is free. (A trainer inside a trial reserves its room apart. Where a trial is ended
early that room may stay taken, and the trials after it wait for ever.)
"""

import os
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray import tune
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mke_ray.errors import TrainingError
from mke_ray.search.trial import TrialPlace, TrialWatch, told_failures, workplace_of
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.run import run_fit


def train_trial_on_ranks(config: Mapping[str, Any], *, place: TrialPlace) -> None:
    """Train the fit of a trial on several ranks and report to Ray Tune.

    Args:
        config: ``fit``, ``engine`` and ``scaling``, all plain; ``num_workers`` is the number of
            ranks.
        place: Where it is trained.
    """
    group = ray.util.get_current_placement_group()
    if group is None:
        raise TrainingError("a trial of several workers needs a placement group of Ray Tune")
    ranks = [_start(config, place, group, rank) for rank in range(_num_ranks(config))]
    try:
        with told_failures(tune.report):
            _train(ranks)
    finally:
        for one in ranks:
            ray.kill(one)


def _train(ranks: list[Any]) -> None:
    """Let the ranks train, and report what the first one sees."""
    host, port = ray.get(ranks[0].address.remote())
    others = [one.train.remote(host, port) for one in ranks[1:]]
    reports = ranks[0].train_and_report.remote(host, port)
    for report in _reports(reports, others):
        tune.report(report)


def _num_ranks(config: Mapping[str, Any]) -> int:
    """Return the number of ranks of a trial."""
    return int(config["scaling"]["num_workers"])


def _start(config: Mapping[str, Any], place: TrialPlace, group: PlacementGroup, rank: int) -> Any:
    """Start the actor of a rank."""
    scaling = config["scaling"]
    actor = ray.remote(_Rank).options(
        num_cpus=scaling["cpus_per_worker"],
        num_gpus=scaling["gpus_per_worker"],
        scheduling_strategy=PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=rank
        ),
    )
    return actor.remote(dict(config), place, rank)


def _reports(reports: Any, others: list[Any]) -> Iterator[Any]:
    """Yield what rank 0 reports, one report at a time; the error of any rank ends it."""
    while True:
        done, _ = ray.wait([reports, *others], num_returns=1, fetch_local=False)
        if done[0] is reports:
            try:
                yield ray.get(next(reports))
            except StopIteration:
                return
        else:
            ray.get(done[0])
            others.remove(done[0])


class _Rank:
    """One rank of a trial."""

    def __init__(self, config: dict[str, Any], place: TrialPlace, rank: int) -> None:
        self._config, self._place, self._rank = config, place, rank

    def address(self) -> tuple[str, int]:
        """Return where the ranks meet: this node and a port that is free now."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as free:
            free.bind(("", 0))
            return host, free.getsockname()[1]

    def train(self, host: str, port: int) -> None:
        """Train without a report."""
        self._join(host, port)
        self._fit(lambda _: None)

    @ray.method(_generator_backpressure_num_objects=1)
    def train_and_report(self, host: str, port: int) -> Iterator[dict[str, Any]]:
        """Train, and wait after every report until it was taken."""
        self._join(host, port)
        handed: queue.Queue[Any] = queue.Queue(maxsize=1)
        taken = threading.Semaphore(0)

        def report(seen: dict[str, Any]) -> None:
            handed.put(seen)
            taken.acquire()

        def train() -> None:
            try:
                self._fit(report)
                handed.put(None)
            except BaseException as error:  # noqa: BLE001  raised again by the generator below
                handed.put(error)

        threading.Thread(target=train, daemon=True).start()
        while (seen := handed.get()) is not None:
            if isinstance(seen, BaseException):
                raise seen
            yield seen
            taken.release()

    def _join(self, host: str, port: int) -> None:
        """Join the process group of the trial."""
        num_ranks = _num_ranks(self._config)
        os.environ.update(
            MASTER_ADDR=host,
            MASTER_PORT=str(port),
            RANK=str(self._rank),
            LOCAL_RANK="0",
            WORLD_SIZE=str(num_ranks),
        )
        use_gpu = self._config["scaling"]["gpus_per_worker"] > 0
        dist.init_process_group("nccl" if use_gpu else "gloo")

    def _fit(self, report: Any) -> None:
        """Train this rank's part of the fit."""
        config, place = self._config, self._place
        torch.set_num_threads(max(1, int(config["scaling"]["cpus_per_worker"])))
        spec = FitSpec.from_dict(config["fit"])
        watch = TrialWatch(spec, place, report)
        if not FitStore(place.root).has(spec.fingerprint()):
            run_fit(spec, workplace_of(config, place), watch=watch)
        if self._rank == 0:
            watch.end()
