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
from ray.exceptions import RayTaskError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from mke_ray.errors import ConfigError, MkeRayError, TrainingError
from mke_ray.labels.living_nodes import living_nodes
from mke_ray.labels.origin import Origin
from mke_ray.schema import fingerprint
from mke_ray.storage import Root
from mke_ray.train.accumulation import StepRules
from mke_ray.train.assemble import Workplace
from mke_ray.train.deepspeed_checks import check_fit, check_resizable
from mke_ray.train.engine_settings import check_engine
from mke_ray.train.feeding import Feeding, check_pool
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.optimizers import check_optimizer, check_schedule
from mke_ray.train.progress import LocalBoard, Progress, StepCounts, polled_board, steps_known
from mke_ray.train.room import check_room
from mke_ray.train.run import Board, FitWatch, run_fit
from mke_ray.train.worker import ERROR, train_worker

logger = logging.getLogger(__name__)

LAUNCHES = ("trainer", "tasks", "local")
_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
_POLL_INTERVAL = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"


@dataclass(frozen=True, slots=True)
class Scaling:
    """What fits run on and how they are watched.

    Another number of workers sees the same rows in the same order; noise is scaled by the rows of
    a rank and dropout drawn per rank, so that numbers differ in detail.

    Args:
        num_workers: Workers of the trainer, or ``[least, most]``: then it goes on with the workers
            that there is room for, and takes more when nodes come.
        cpus_per_worker: CPUs per worker or task.
        gpus_per_worker: GPUs per worker or task.
        max_failures: Restarts of the worker group before the run fails.
        checkpoint_every_steps: Steps between checkpoints; 0 makes none but where a node is about to
            go.
        checkpoints_kept: Checkpoints that are kept while training goes on.
        resize_every_s: Seconds between looks for more workers, where ``num_workers`` allows them.
        cache_bytes: Memory for decoded units per worker.
        feed: Who makes batches, ``local`` or ``ray``; see ``Feeding`` for this and the next.
        feed_threads: Threads that make batches.
        prefetch_batches: Batches made ahead.
        prefetch_bytes: Bytes of these.
        feed_cpus: CPUs per worker of the pool of ``ray``.
        log_every_steps: Steps between logged losses.
        micro_batch: Most rows of a worker in one pass; None takes all of a worker's at once.
        skip_non_finite: Most steps of a fit that may be left out for not being finite.
        verbose: Whether Ray and DeepSpeed may talk.
        is_autoscaling: Whether nodes come when they are asked for.
    """

    num_workers: int | Sequence[int] = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    max_failures: int = 3
    checkpoint_every_steps: int = 100
    checkpoints_kept: int = 2
    resize_every_s: float = 60.0
    cache_bytes: int = 1 << 30
    feed: str = "local"
    feed_threads: int | None = None
    prefetch_batches: int | None = None
    prefetch_bytes: int = 1 << 30
    feed_cpus: int = 1
    log_every_steps: int = 10
    micro_batch: int | None = None
    skip_non_finite: int = 0
    verbose: bool = False
    is_autoscaling: bool = False

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Scaling":
        """Take the keys that belong here; others of the same section belong elsewhere."""
        return cls(**{key: plain[key] for key in cls.__slots__ if key in plain})

    @property
    def worker_bounds(self) -> tuple[int, int]:
        """Least and most workers of the trainer.

        Raises:
            ConfigError: ``num_workers`` is neither a number nor two of them.
        """
        given = self.num_workers
        bounds = tuple(given) if isinstance(given, Sequence) else (given, given)
        if len(bounds) != 2 or not all(isinstance(one, int) for one in bounds):
            raise ConfigError(
                f"scaling.num_workers={given}; give a number, or [least, most] to go on with fewer "
                "workers when nodes are lost"
            )
        if not 1 <= bounds[0] <= bounds[1]:
            raise ConfigError(f"scaling.num_workers={given}; needs 1 <= least <= most")
        return bounds

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers may change."""
        least, most = self.worker_bounds
        return least < most


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


def check_fits(
    fits: Sequence[FitSpec], *, launch: str, scaling: Scaling, engine: Mapping[str, Any]
) -> None:
    """Refuse what cannot work, on the driver.

    Raises:
        ConfigError: It names the key and the way out.
    """
    if launch not in LAUNCHES:
        raise ConfigError(f"scaling.launch={launch!r}; choose one of {list(LAUNCHES)}")
    rules, bounds = StepRules.of(asdict(scaling)), scaling.worker_bounds
    check_engine(engine, launch=launch, use_gpu=scaling.gpus_per_worker > 0)
    if Feeding.from_scaling(asdict(scaling)).feed == "ray" and scaling.is_elastic:
        raise ConfigError(
            f"scaling.feed=ray needs a fixed scaling.num_workers, found {list(bounds)}: Ray would "
            "give the CPUs of the pool to workers; use scaling.feed=local, or one number"
        )
    for one in fits:
        check_optimizer(one.optimizer)
        check_schedule(one.schedule)
        if engine["type"] == "deepspeed":
            check_fit(
                engine.get("config", {}),
                global_batch=one.global_batch,
                averages=one.ema_decay is not None,
                rules=rules,
                num_workers=bounds,
            )
            if scaling.is_elastic:
                check_resizable(engine.get("config", {}), one.optimizer)


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
    workplace = job.workplace(_own_device(job.scaling))
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
    )(_fit_task)
    with polled_board(steps_known(job.todo), job.progress) as board:
        shipped = ray.put(_without_progress(job))
        running: dict[str, ray.ObjectRef] = {}
        for spec in job.todo:
            after = running.get(spec.init_from or "")
            running[spec.fingerprint()] = task.remote(shipped, spec, board, after)
        _wait(list(running.values()))


def _fit_task(job: _Job, spec: FitSpec, board: Board, after: None) -> None:
    """Train one fit in a task; ``after`` is the fit it starts from, which is done by now."""
    torch.set_num_threads(_num_threads(job.scaling))
    run_fit(spec, job.workplace(_own_device(job.scaling)), watch=job.watch(spec, board))


def _wait(tasks: list[ray.ObjectRef]) -> None:
    """Wait for all tasks; the first error ends the others."""
    try:
        while tasks:
            done, tasks = ray.wait(tasks)
            ray.get(done)
    except RayTaskError as error:
        for one in tasks:
            ray.cancel(one)
        if isinstance(error.cause, MkeRayError):
            raise error.cause from None
        raise


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
    check_room(
        scaling.worker_bounds[0],
        cpus=scaling.cpus_per_worker,
        gpus=scaling.gpus_per_worker,
        nodes=living_nodes(),
        is_autoscaling=scaling.is_autoscaling,
    )
    if scaling.feed == "ray" and not scaling.is_autoscaling:
        check_pool(asdict(scaling), scaling.worker_bounds[0], nodes=living_nodes())
    with polled_board(steps_known(job.todo), job.progress) as board:
        trainer = TorchTrainer(
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
                elastic_resize_monitor_interval_s=scaling.resize_every_s,
            ),
            run_config=_run_config(job),
        )
        _raise_error(_fit(trainer))


def _workers_of(scaling: Scaling) -> int | tuple[int, int]:
    """Return the workers as Ray Train wants them."""
    return scaling.worker_bounds if scaling.is_elastic else scaling.worker_bounds[0]


def _run_config(job: _Job) -> RunConfig:
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
    )


def _fit(trainer: TorchTrainer) -> Any:
    """Run the trainer and return what rank 0 returned.

    Raises:
        TrainingError: Workers failed more often than allowed, for no reason of our own.
    """
    try:
        return trainer.fit().return_value
    except WorkerGroupError as error:
        for failure in error.worker_failures.values():
            cause = getattr(failure, "_base_exc", failure)
            if isinstance(cause, MkeRayError):
                raise cause from error
        raise TrainingError(f"training workers failed: {error}") from error
    except TrainingFailedError as error:
        raise TrainingError(f"training could not go on: {error}") from error


def _raise_error(returned: Any) -> None:
    """Raise the error on which all ranks agreed, if there is one."""
    if returned and ERROR in returned:
        raise TrainingError(returned[ERROR])


def _num_threads(scaling: Scaling) -> int:
    """Return the threads of a process that trains alone."""
    return max(1, int(scaling.cpus_per_worker))


def _own_device(scaling: Scaling) -> torch.device:
    """Return the device of a process that trains alone."""
    return torch.device("cuda" if scaling.gpus_per_worker > 0 else "cpu")


def _without_progress(job: _Job) -> _Job:
    """Return what a task needs, without what stays on the driver."""
    return replace(job, progress=None)
