"""One fit from start to end on this process's rank: resume, train, store."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from mke_ray.config import build
from mke_ray.models.student import build_student
from mke_ray.models.weights import student_files
from mke_ray.schema import LabelSpace
from mke_ray.train.assemble import Workplace, assemble
from mke_ray.train.checkpoints import Checkpoint, read_state, write_state
from mke_ray.train.engine import from_rank_zero, rank, world_size
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.loop import FitParts, FitState, Watch, fit, is_due
from mke_ray.train.non_finite import num_left_out
from mke_ray.train.waiting import feed_facts, warn_of_waiting

logger = logging.getLogger(__name__)


class RunWatch(Watch, Protocol):
    """Who looks at a fit from its start to its end."""

    def resumed(self, state: FitState, *, num_steps: int) -> None:
        """Take note that a fit goes on where it was interrupted."""
        ...


class Board(Protocol):
    """Where progress is reported."""

    def update(self, fit: str, done_steps: int, num_steps: int, text: str) -> None:
        """Say how far a fit is."""
        ...


class Checkpoints(Protocol):
    """Where checkpoints of a run go, and whether one is wanted at once."""

    def is_urgent(self, step: int) -> bool:
        """Return whether a node is about to go; every rank asks after the same steps."""
        ...

    def save(self, write: "Write", *, is_urgent: bool) -> None:
        """Make a checkpoint of what ``write`` writes into a folder on each rank.

        Args:
            write: Writes the part of this rank.
            is_urgent: Whether it must be stored before this returns.
        """
        ...


class Write(Protocol):
    """Writes one rank's part of a checkpoint into a folder."""

    def __call__(self, folder: Path) -> None:
        """Write."""
        ...


@dataclass(frozen=True, slots=True)
class FitWatch:
    """Reports a fit's logged steps on rank 0 and saves its checkpoints.

    Args:
        spec: The fit.
        board: Where progress goes; None keeps it.
        checkpoints: Where checkpoints go; None makes none.
        log_every_steps: Steps between logged losses; at most a tenth of a fit.
        checkpoint_every_steps: Steps between checkpoints; 0 makes only urgent ones.
    """

    spec: FitSpec
    board: Board | None
    checkpoints: Checkpoints | None
    log_every_steps: int
    checkpoint_every_steps: int

    def log(self, record: Mapping[str, Any], *, num_steps: int) -> None:
        """Write one line, and tell the board."""
        if rank() != 0:
            return
        text = (
            f"{self.spec.name} loss {record['loss']:.3f} {record['samples_per_s']:,.0f} "
            f"samples/s wait {100 * record['data_wait']:.0f}%"
        )
        logger.info("step %d of %d %s", record["step"], num_steps, text)
        if self.board is not None:
            self.board.update(self.spec.fingerprint(), record["step"], num_steps, text)

    def resumed(self, state: FitState, *, num_steps: int) -> None:
        """Say that a fit goes on where it was interrupted."""
        if rank() != 0:
            return
        text = f"{self.spec.name} goes on at step {state.cursor} of {num_steps}"
        logger.info(text)
        if self.board is not None:
            self.board.update(self.spec.fingerprint(), state.cursor, num_steps, text)

    def after_step(self, parts: FitParts, state: FitState) -> None:
        """Save everything that a resume needs, where it is time or a node is about to go."""
        if self.checkpoints is None:
            return
        is_urgent = self.checkpoints.is_urgent(state.cursor)
        if not is_urgent and not is_due(state.cursor - 1, self.checkpoint_every_steps):
            return
        fit_id = self.spec.fingerprint()
        self.checkpoints.save(
            lambda folder: write_state(folder, fit_id, parts=parts, state=state),
            is_urgent=is_urgent,
        )


def run_fit(
    spec: FitSpec,
    workplace: Workplace,
    *,
    watch: RunWatch,
    resume_from: Checkpoint | None = None,
) -> None:
    """Train a fit to its end and store it; a finished one is left alone.

    Args:
        spec: The fit.
        workplace: Where it is trained.
        watch: Who looks on.
        resume_from: The checkpoint to go on from; one of another fit is left alone.
    """
    store, fit_id = FitStore(workplace.root), spec.fingerprint()
    if from_rank_zero(store.has(fit_id)):
        return
    began = time.perf_counter()
    is_resized = resume_from is not None and resume_from.is_resized(fit_id)
    parts = assemble(spec, workplace, is_resized=is_resized)
    state = read_state(resume_from, fit_id, parts) if resume_from else FitState()
    start_s = time.perf_counter() - began
    if state.cursor:
        watch.resumed(state, num_steps=spec.total_steps(parts.feed.batches_per_epoch))
    fed_before, before_s = dict(parts.feed.times.seconds), state.seconds
    state = fit(spec, parts, state=state, watch=watch)
    fed = parts.feed.times.since(fed_before)
    label_space = workplace.reader(spec).targets.label_space
    facts = fit_facts(spec, parts, state=state, engine=workplace.engine)
    facts["start_s"] = round(start_s, 3)
    facts["feed"] = feed_facts(fed, state.seconds - before_s)
    files = finished_files(spec, parts, state=state, label_space=label_space, facts=facts)
    if files is not None:
        store.save(fit_id, files)
        feed = workplace.feeding.feed
        warn_of_waiting(spec.name, fed, state.seconds - before_s, feed=feed)
    parts.engine.close()
    logger.info(
        "%s: %.1f s, of which start %.1f s", spec.name, time.perf_counter() - began, start_s
    )


def fit_facts(
    spec: FitSpec, parts: FitParts, *, state: FitState, engine: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is worth knowing of a finished fit, as plain data."""
    feed = parts.feed
    return {
        "spec": spec.to_dict(),
        "fingerprint": spec.fingerprint(),
        "num_rows": feed.plan.num_rows,
        "num_steps": state.cursor,
        "num_epochs": state.cursor / feed.batches_per_epoch,
        "seconds": round(state.seconds, 3),
        "num_left_out_steps": num_left_out(state.history),
        "world_size": world_size(),
        "engine": json.loads(json.dumps(dict(engine))),
        "torch": torch.__version__,
    }


def finished_files(
    spec: FitSpec,
    parts: FitParts,
    *,
    state: FitState,
    label_space: LabelSpace,
    facts: Mapping[str, Any],
) -> dict[str, bytes] | None:
    """Return the files of a finished fit on rank 0, None elsewhere; every rank must call it."""
    weights = parts.engine.weights()
    if parts.average is not None:
        weights = parts.average.over(weights, device=parts.engine.device)
    if rank() != 0:
        return None
    student = build_student(spec.student, label_space.num_classes, build=build)
    student.load_state_dict(weights)
    num_parameters = sum(one.numel() for one in student.parameters())
    facts = {**facts, "num_parameters": num_parameters}
    return {
        **student_files(
            student,
            spec=spec.student,
            label_space=label_space,
            extra={"fit": spec.fingerprint(), "arm": spec.arm, "seed": spec.seed},
        ),
        "history.json": json.dumps(state.history).encode(),
        "fit.json": json.dumps(facts, indent=1).encode(),
    }
