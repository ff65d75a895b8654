"""Evaluation: what every arm says of the samples with true labels, and what that amounts to."""

from mke_ray.evaluation.evaluate import evaluate
from mke_ray.evaluation.plan import EvaluationPlan
from mke_ray.evaluation.predictions import (
    EvaluateWorker,
    FitColumn,
    PredictionPlan,
    refs_with_truth,
    run_predictions,
)
from mke_ray.evaluation.results import (
    TEACHER,
    ArmResult,
    DenseExample,
    Evaluation,
    Example,
    Flow,
    PartScores,
)

__all__ = [
    "TEACHER",
    "ArmResult",
    "DenseExample",
    "EvaluateWorker",
    "Evaluation",
    "EvaluationPlan",
    "Example",
    "FitColumn",
    "Flow",
    "PartScores",
    "PredictionPlan",
    "evaluate",
    "refs_with_truth",
    "run_predictions",
]
