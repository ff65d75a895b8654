"""What one worker of the Ray Train group does: all fits in order, resuming at the last one."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray.train import CheckpointConsistencyMode, CheckpointUploadMode

from mke_ray.train.accumulation import StepRules
from mke_ray.train.assemble import Workplace
from mke_ray.train.engine import from_rank_zero, rank
from mke_ray.train.feeding import Feeding
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.preemption import PreemptionLook
from mke_ray.train.resuming import newest_whole
from mke_ray.train.run import FitWatch, Write, run_fit

logger = logging.getLogger(__name__)

WARNING = "warning"

_PREFIX = "mke_ray-checkpoint-"
_REPORTS_S = 60.0  # Ray would wait without end for reports that it expects and nobody made


def train_worker(config: Mapping[str, Any]) -> dict[str, str]:
    """Train all fits of a run on this rank.

    Args:
        config: ``fits`` (plain), ``root``, ``engine``, ``scaling`` (plain), ``board`` and
            ``origin``.

    Returns:
        ``warning`` where a damaged checkpoint cost steps.
    """
    scaling = config["scaling"]
    torch.set_num_threads(max(1, int(scaling["cpus_per_worker"])))
    _set_up_logging(verbose=scaling["verbose"])
    workplace = Workplace(
        config["root"],
        config["engine"],
        device=ray.train.torch.get_device(),
        cache_bytes=scaling["cache_bytes"],
        feeding=Feeding.from_scaling(scaling),
        verbose=scaling["verbose"],
        origin=config["origin"],
        rules=StepRules.of(scaling),
    )
    sweep_checkpoints()
    if rank() == 0:
        config["board"].begin()
    warning = _train_all(config, workplace)
    return {WARNING: warning} if warning else {}


def _train_all(config: Mapping[str, Any], workplace: Workplace) -> str:
    """Train all fits, the one that the last whole checkpoint is of from there on.

    Returns:
        What a damaged checkpoint cost, "" where none did.
    """
    scaling = config["scaling"]
    specs = [FitSpec.from_dict(plain) for plain in config["fits"]]
    with newest_whole(_stored(), _unfinished(specs, workplace)) as (checkpoint, warning):
        # Of one fit alone: Ray deletes the folder when there are newer checkpoints.
        begun = None if checkpoint is None else checkpoint.head["fit"]
        for spec in specs:
            watch = FitWatch(
                spec,
                config["board"],
                TrainCheckpoints(PreemptionLook()),
                scaling["log_every_steps"],
                scaling["checkpoint_every_steps"],
            )
            resume_from = checkpoint if spec.fingerprint() == begun else None
            run_fit(spec, workplace, watch=watch, resume_from=resume_from)
    return warning


def _unfinished(specs: Sequence[FitSpec], workplace: Workplace) -> frozenset[str]:
    """Return the fits that are not finished; every rank must call it."""
    store = FitStore(workplace.root)
    ids = [one.fingerprint() for one in specs]
    return from_rank_zero(frozenset(one for one in ids if not store.has(one)))


def _stored() -> list[ray.train.Checkpoint]:
    """Return the checkpoints that are kept, oldest first; every rank must call it."""
    if ray.train.get_checkpoint() is None:
        return []
    kept = ray.train.get_all_reported_checkpoints(
        CheckpointConsistencyMode.COMMITTED, timeout_s=_REPORTS_S
    )
    return from_rank_zero([one.checkpoint for one in kept])


class TrainCheckpoints:
    """Checkpoints of one fit through ``ray.train.report``: each rank's files, merged by Ray.

    They are written to the node's own disk and stored from there while training goes on. Where
    the one before is not stored yet, training waits, so that no disk fills up. A checkpoint counts
    once the files of all ranks are stored.

    Args:
        look: Says whether a node is about to go.
    """

    def __init__(self, look: PreemptionLook) -> None:
        self._look = look
        self._last: Path | None = None

    def is_urgent(self, step: int) -> bool:
        """Return whether a node is about to go; every rank asks after the same steps."""
        return self._look.is_told(step)

    def save(self, write: Write, *, is_urgent: bool) -> None:
        """Make a checkpoint; a barrier, so every rank must call it."""
        must_wait = is_urgent or is_still_there(self._last)
        mode = CheckpointUploadMode.SYNC if must_wait else CheckpointUploadMode.ASYNC
        folder = self._last = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        try:
            write(folder)
            ray.train.report(
                {},
                checkpoint=ray.train.Checkpoint.from_directory(str(folder)),
                checkpoint_upload_mode=mode,
                delete_local_checkpoint_after_upload=True,
            )
        except BaseException:  # also where Ray ends the thread: nobody else deletes the folder
            shutil.rmtree(folder, ignore_errors=True)
            raise


def sweep_checkpoints() -> None:
    """Delete from this node's disk what workers that were killed had written of checkpoints."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def is_still_there(folder: Path | None) -> bool:
    """Return whether a checkpoint is not stored yet: Ray deletes its folder when it is."""
    return folder is not None and folder.exists()


def _set_up_logging(*, verbose: bool) -> None:
    """Let rank 0 write one line per logged step; other ranks only warn."""
    level = logging.INFO if verbose and rank() == 0 else logging.WARNING
    logging.getLogger("mke_ray").setLevel(level)
