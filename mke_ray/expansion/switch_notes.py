"""Switches that a configuration asks for and that something else in it undoes."""

import logging

from mke_ray.config_schema import JobConfig

logger = logging.getLogger(__name__)


def note_switches(job: JobConfig) -> None:
    """Warn where gradients are scaled for an optimizer that divides them by their own size."""
    if job.objective.get("balance") and job.fit.optimizer.get("type") == "adamw":
        logger.warning(
            "objective.balance scales gradients, and fit.optimizer.type=adamw divides each by its "
            "own size, which undoes a scale that lasts: expect next to no effect, or use sgd"
        )
