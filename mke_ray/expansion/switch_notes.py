"""Switches that a configuration asks for and that something else in it undoes."""

import logging

from mke_ray.config_preflight import STOP
from mke_ray.config_schema import JobConfig

logger = logging.getLogger(__name__)


def note_switches(job: JobConfig) -> None:
    """Warn of scaled gradients that the optimizer undoes, and of a pre-flight that there is not."""
    if job.objective.get("balance") and job.fit.optimizer.get("type") == "adamw":
        logger.warning(
            "objective.balance scales gradients, and fit.optimizer.type=adamw divides each by its "
            "own size, which undoes a scale that lasts: expect next to no effect, or use sgd"
        )
    if job.preflight.mode == STOP and not job.expansion.enabled:
        logger.warning(
            "preflight=stop has no effect: without expansion.enabled (objective=mke, "
            "experiment=two_moon) there is no pre-flight, since no witnesses are trained"
        )
