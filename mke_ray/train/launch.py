"""Where fits run: one Ray Train worker group for all, Ray tasks side by side, or this process."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow.fs
import ray
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from mke_ray.errors import MkeRayError, TrainingError
from mke_ray.labels.capacity import NodeRoom
from mke_ray.labels.living_nodes import living_nodes
from mke_ray.labels.origin import Origin
from mke_ray.models.device import training_device
from mke_ray.node_pools import selector_of
from mke_ray.ray_tasks import wait_for
from mke_ray.schema import fingerprint
from mke_ray.storage import Root
from mke_ray.train.accumulation import StepRules
from mke_ray.train.assemble import Workplace
from mke_ray.train.ending import EndsAtOurErrors, own_error
from mke_ray.train.feeding import Feeding, check_pool
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.progress import (
    ActorBoard,
    LocalBoard,
    Progress,
    StepCounts,
    StepWatch,
    polled_board,
    steps_known,
)
from mke_ray.train.room import check_room
from mke_ray.train.run import Board, FitWatch, run_fit
from mke_ray.train.scaling import Scaling, check_fits
from mke_ray.train.worker import WARNING, train_worker

logger = logging.getLogger(__name__)

_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
_POLL_INTERVAL = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"


def run_fits(
    fits: Sequence[FitSpec],
    *,
    root: Root,
    launch: str,
    scaling: Mapping[str, Any],
    engine: Mapping[str, Any],
    progress: Progress | None = None,
    origin: Origin | None = None,
) -> None:
    """Train fits in order and store them; finished ones are skipped, an interrupted one resumes.

    Args:
        fits: The fits; one that starts from another comes after it.
        root: Root of the run.
        launch: ``trainer``, ``tasks`` or ``local``.
        scaling: See ``Scaling``; unknown keys are left alone.
        engine: ``type`` (torch or deepspeed) and its keys, see ``engine_settings``.
        progress: Called with steps done, steps in all and a line of text.
        origin: Where samples are read again if their store keeps no media.

    Raises:
        ConfigError: Something cannot work; raised before any worker starts.
        MkeRayError: A worker met it; a restart would not help.
        TrainingError: A loss is not finite, or workers failed more often than allowed.
    """
    settings = Scaling.from_dict(scaling)
    check_fits(fits, launch=launch, scaling=settings, engine=engine)
    store = FitStore(root)
    unique = list({one.fingerprint(): one for one in fits}.values())
    todo = [one for one in unique if not store.has(one.fingerprint())]
    if not todo:
        return
    run = {"trainer": _run_trainer, "tasks": _run_tasks, "local": _run_local}[launch]
    run(_Job(root, tuple(unique), tuple(todo), settings, dict(engine), progress, origin))


@dataclass(frozen=True, slots=True)
class _Job:
    """What a launch needs."""

    root: Root
    fits: tuple[FitSpec, ...]
    todo: tuple[FitSpec, ...]
    scaling: Scaling
    engine: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    origin: Origin | None = None

    def workplace(self, device: torch.device) -> Workplace:
        """Return the workplace of a process that trains alone."""
        return Workplace(
            self.root,
            self.engine,
            device=device,
            cache_bytes=self.scaling.cache_bytes,
            feeding=replace(Feeding.from_scaling(asdict(self.scaling)), feed="local"),
            verbose=self.scaling.verbose,
            origin=self.origin,
            rules=StepRules.of(asdict(self.scaling)),
        )

    def watch(self, spec: FitSpec, board: Board) -> FitWatch:
        """Return the watch of a fit that makes no checkpoints."""
        return FitWatch(spec, board, None, self.scaling.log_every_steps, 0)


def _run_local(job: _Job) -> None:
    """Train one fit after the other in this process, with the threads a worker would have."""
    board = LocalBoard(StepCounts(steps_known(job.todo)), job.progress)
    workplace = job.workplace(training_device(job.scaling.gpus_per_worker))
    num_threads = torch.get_num_threads()
    torch.set_num_threads(_num_threads(job.scaling))
    try:
        for spec in job.todo:
            run_fit(spec, workplace, watch=job.watch(spec, board))
    finally:
        torch.set_num_threads(num_threads)


def _run_tasks(job: _Job) -> None:
    """Train fits side by side, each a Ray task; one that starts from another waits for it."""
    scaling = job.scaling
    task = ray.remote(
        num_cpus=scaling.cpus_per_worker,
        num_gpus=scaling.gpus_per_worker,
        max_retries=scaling.max_failures,
        label_selector=selector_of(scaling.pool),
    )(_fit_task)
    with polled_board(steps_known(job.todo), job.progress) as board:
        shipped = ray.put(_without_progress(job))
        running: dict[str, ray.ObjectRef] = {}
        for spec in job.todo:
            after = running.get(spec.init_from or "")
            running[spec.fingerprint()] = task.remote(shipped, spec, board, after)
        watch = None if scaling.silence_s is None else StepWatch(board, scaling.silence_s)
        wait_for(list(running.values()), watch=watch)


def _fit_task(job: _Job, spec: FitSpec, board: ActorBoard, after: None) -> None:
    """Train one fit in a task; ``after`` is the fit it starts from, which is done by now."""
    board.begin()
    torch.set_num_threads(_num_threads(job.scaling))
    workplace = job.workplace(training_device(job.scaling.gpus_per_worker))
    run_fit(spec, workplace, watch=job.watch(spec, board))


def _run_trainer(job: _Job) -> None:
    """Train all fits in one worker group, one after the other."""
    # A fixed group may have to wait for nodes; one that may be smaller asks again what is there.
    os.environ.setdefault(_START_TIMEOUT, "60" if job.scaling.is_elastic else "600")
    os.environ.setdefault(_POLL_INTERVAL, "0.5")
    scaling = job.scaling
    use_gpu = scaling.gpus_per_worker > 0
    resources = {"CPU": scaling.cpus_per_worker}
    if use_gpu:
        resources["GPU"] = scaling.gpus_per_worker
    check_group(scaling, living_nodes())
    with polled_board(steps_known(job.todo), job.progress) as board:
        trainer = _Trainer(
            train_worker,
            train_loop_config={
                "fits": [spec.to_dict() for spec in job.todo],
                "root": job.root,
                "engine": dict(job.engine),
                "scaling": asdict(scaling),
                "board": board,
                "origin": job.origin,
            },
            torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=_workers_of(scaling),
                use_gpu=use_gpu,
                resources_per_worker=resources,
                label_selector=selector_of(scaling.pool) or None,
                elastic_resize_monitor_interval_s=scaling.resize_every_s,
            ),
            run_config=_run_config(job, board),
        )
        _fit(trainer)


def check_group(scaling: Scaling, nodes: Sequence[NodeRoom]) -> bool:
    """Refuse a worker group, and a pool for its feed, that some nodes have no room for.

    Args:
        scaling: What the fits run on.
        nodes: The nodes that are there.

    Returns:
        Whether there is room now; not needed where nodes come when they are asked for.

    Raises:
        ConfigError: It names the number to change.
    """
    least = scaling.worker_bounds[0]
    fits = check_room(
        least,
        cpus=scaling.cpus_per_worker,
        gpus=scaling.gpus_per_worker,
        nodes=nodes,
        is_autoscaling=scaling.is_autoscaling,
        pool=scaling.pool,
    )
    if scaling.feed == "ray" and not scaling.is_autoscaling:
        check_pool(asdict(scaling), least, nodes=nodes)
    return fits


def _workers_of(scaling: Scaling) -> int | tuple[int, int]:
    """Return the workers as Ray Train wants them."""
    return scaling.worker_bounds if scaling.is_elastic else scaling.worker_bounds[0]


def _run_config(job: _Job, board: ActorBoard) -> RunConfig:
    """Return where checkpoints go and how often workers may fail.

    The name depends on all fits, also the finished ones, so that a run that is started again
    finds its own checkpoints.
    """
    plain = [[one.fingerprint() for one in job.fits], job.engine]
    filesystem = None
    if not job.root.is_local:
        handler = pyarrow.fs.FSSpecHandler(job.root.filesystem())
        filesystem = pyarrow.fs.PyFileSystem(handler)
    return RunConfig(
        name=fingerprint(json.loads(json.dumps(plain))),
        storage_path=job.root.path("train"),
        storage_filesystem=filesystem,
        failure_config=FailureConfig(
            max_failures=job.scaling.max_failures,
            # Each wait for nodes that ends without them counts as one.
            controller_failure_limit=-1 if job.scaling.is_autoscaling else 3,
        ),
        checkpoint_config=CheckpointConfig(num_to_keep=job.scaling.checkpoints_kept),
        callbacks=[EndsAtOurErrors(board)],
    )


class _Trainer(TorchTrainer):
    """A trainer that leaves Ctrl-C as it is.

    Ray's handler stays for the rest of the process, which it ends as if all were well.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        """Register nothing."""


def _fit(trainer: TorchTrainer) -> None:
    """Run the trainer, and say what the ranks warn of.

    Raises:
        MkeRayError: A worker met it.
        TrainingError: Workers failed more often than allowed, for no reason of our own.
    """
    try:
        told = trainer.fit().return_value or {}
    except ControllerError as error:
        if isinstance(error.controller_failure, MkeRayError):
            raise error.controller_failure from None
        raise TrainingError(f"training could not go on: {error}") from error
    except WorkerGroupError as error:
        if cause := own_error(error.worker_failures):
            raise cause from None
        raise TrainingError(f"training workers failed: {error}") from error
    except TrainingFailedError as error:
        raise TrainingError(f"training could not go on: {error}") from error
    if WARNING in told:
        logger.warning(told[WARNING])


def _num_threads(scaling: Scaling) -> int:
    """Return the threads of a process that trains alone."""
    return max(1, int(scaling.cpus_per_worker))


def _without_progress(job: _Job) -> _Job:
    """Return what a task needs, without what stays on the driver."""
    return replace(job, progress=None)
