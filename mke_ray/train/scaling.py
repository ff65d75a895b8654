"""What fits run on and how they are watched, checked on the driver before any worker starts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mke_ray.errors import ConfigError
from mke_ray.train.accumulation import StepRules
from mke_ray.train.deepspeed_checks import check_fit, check_resizable
from mke_ray.train.engine_settings import check_engine
from mke_ray.train.feeding import Feeding
from mke_ray.train.fits import FitSpec
from mke_ray.train.optimizers import check_optimizer, check_schedule

LAUNCHES = ("trainer", "tasks", "local")


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
        pool: Label of the nodes that workers and tasks may be on; None takes any.
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
        feed_pool: Label of the nodes that this pool may be on; None takes any.
        feed_timeout_s: How long a worker waits for a batch of the pool.
        log_every_steps: Steps between logged losses; at most a tenth of a fit.
        micro_batch: Most rows of a worker in one pass; None takes all of a worker's at once.
        skip_non_finite: Most steps of a fit that may be left out for not being finite.
        verbose: Whether Ray and DeepSpeed may talk.
        is_autoscaling: Whether nodes come when they are asked for.
        silence_s: Seconds without a step of any task that runs after which tasks are ended; None
            waits without end. A search sets it for its finalists.
    """

    num_workers: int | Sequence[int] = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    pool: str | None = None
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
    feed_pool: str | None = None
    feed_timeout_s: float = 600.0
    log_every_steps: int = 10
    micro_batch: int | None = None
    skip_non_finite: int = 0
    verbose: bool = False
    is_autoscaling: bool = False
    silence_s: float | None = None

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
    if scaling.pool is not None and scaling.is_elastic:
        raise ConfigError(
            f"scaling.pool={scaling.pool} needs a fixed scaling.num_workers, found {list(bounds)}: "
            "Ray would count room on nodes of other pools; give one number, or scaling.pool=null"
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
