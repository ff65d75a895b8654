"""The order of the stages: teach, label, expand, evaluate, gate, report; each idempotent."""

import logging
from collections.abc import Sequence

from mke_ray.config_schema import JobConfig
from mke_ray.expansion.checks import open_run
from mke_ray.expansion.doubles import doubles_stage
from mke_ray.expansion.draws import expand_draws
from mke_ray.expansion.mechanism import measure_mechanism, rehearse_mechanism
from mke_ray.expansion.rehearsal import rehearse
from mke_ray.expansion.stages import (
    known_labels,
    known_teacher,
    label_stage,
    teach_stage,
    train_stage,
)
from mke_ray.expansion.teacher_lines import teacher_lines
from mke_ray.expansion.verifying import verify_stage
from mke_ray.expansion.whole import finish, fits_of, refine_stage, run_stages
from mke_ray.labels.pass_words import in_all
from mke_ray.report.terminal import counts_line, terminal
from mke_ray.train.fits import FitStore

__all__ = ["evaluate", "expand", "label", "teach", "train"]

logger = logging.getLogger(__name__)


def expand(jobs: Sequence[JobConfig]) -> None:
    """Carry out every stage, of one draw of the data or of several side by side."""
    if _rehearsed(jobs):
        return
    if jobs[0].mechanism.enabled:
        measure_mechanism(jobs)
        return
    if len(jobs) > 1:
        expand_draws(jobs)
        return
    run_stages(jobs[0], console=terminal())


def teach(jobs: Sequence[JobConfig]) -> None:
    """Train the teacher of every draw."""
    if _rehearsed(jobs):
        return
    for job in jobs:
        with open_run(job) as run:
            teacher = teach_stage(run, run.manifest(refresh=True))
            spec = teacher.spec.get("teacher", teacher.spec)  # of one that averages, the inner one
            logger.info("the teacher is %s", spec.get("path", spec["_target_"]))


def label(jobs: Sequence[JobConfig]) -> None:
    """Label every draw."""
    if _rehearsed(jobs):
        return
    for job in jobs:
        with open_run(job) as run:
            manifest = run.manifest(refresh=True)
            labels = label_stage(run, manifest, known_teacher(run, manifest))
            marked, doubles = doubles_stage(run, manifest)
            logger.info("%s", counts_line(labels.report.counts))
            if not labels.report.num_units_run and (said := in_all(labels.report.state)):
                logger.info("nothing to do; %s", said)
            for line in teacher_lines(run, marked, labels):
                logger.info("%s", line)
            if doubles is not None and doubles.num_found:
                logger.info("%d samples occur twice: %s", doubles.num_found, doubles.to_dict())
            if job.verify:
                verify_stage(manifest, labels)


def train(jobs: Sequence[JobConfig]) -> None:
    """Train the arms of every draw."""
    if _rehearsed(jobs):
        return
    for job in jobs:
        with open_run(job) as run:
            manifest = run.manifest()
            teacher = known_teacher(run, manifest)
            labels = known_labels(run, manifest, teacher)
            manifest, _ = doubles_stage(run, manifest)
            refined = refine_stage(run, manifest, labels, teacher)
            fits = fits_of(run, manifest, labels, teacher, refined)
            train_stage(run, fits)
            store = FitStore(run.root)
            for fit in fits:
                logger.info("%s is %s", fit.name, store.student_folder(fit.fingerprint()).uri)


def evaluate(jobs: Sequence[JobConfig]) -> None:
    """Evaluate every draw, open its gate and write its report."""
    if _rehearsed(jobs):
        return
    for job in jobs:
        with open_run(job) as run:
            finish(run, console=terminal())


def _rehearsed(jobs: Sequence[JobConfig]) -> bool:
    """Rehearse the first job if that is all that is asked for."""
    if not jobs[0].dry_run:
        return False
    if jobs[0].mechanism.enabled:
        rehearse_mechanism(jobs, terminal())
    rehearse(jobs[0], terminal())
    return True
