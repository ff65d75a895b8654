"""How sure teacher and student may be, measured once: a finished run reads no logits again."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mke_ray.evaluation import TEACHER, EvaluationPlan
from mke_ray.evaluation.calibration import (
    Calibration,
    select_temperature,
    student_calibration,
    teacher_calibration,
)
from mke_ray.expansion.findings import REFINE_FOLDER, kept
from mke_ray.expansion.rounds import Refined
from mke_ray.expansion.run import Run
from mke_ray.expansion.stages import Labels
from mke_ray.schema import LabelKind, Split
from mke_ray.train.fits import revisions_of

_VERSION = 2


def calibration_stage(
    run: Run, labels: Labels, plan: EvaluationPlan, refined: Refined | None
) -> tuple[Calibration | None, Calibration | None]:
    """Return how far confidence is from accuracy on the test split, of teacher and student.

    The teacher's temperature is that of its refined labels, else one of the select part. That of a
    student that learnt from the select part is 1: there it would look surer than it may be.

    Args:
        run: The run.
        labels: The stores.
        plan: What the evaluation compared.
        refined: How the labels of our student were made; None where it is not trained.
    """
    column = next(one.fit for one in plan.columns if one.arm == run.shipped)
    is_biased = run.shipped in plan.trained_on_select
    divisor = None
    if refined is not None and refined.rounds:
        divisor = refined.rounds[refined.chosen].posterior.divisor
    elif plan.manifest.label_space.kind is LabelKind.DENSE:
        divisor = 1.0

    def of_teacher() -> Calibration | None:
        fitted = select_temperature(plan, TEACHER) if divisor is None else divisor
        return teacher_calibration(plan, fitted)

    def of_student() -> Calibration | None:
        fitted = 1.0 if is_biased else select_temperature(plan, column)
        return student_calibration(plan, column, fitted)

    given = None if divisor is None else np.asarray(divisor).tolist()
    return (
        _known(run, labels, plan, [TEACHER, given], of_teacher),
        _known(run, labels, plan, [column, is_biased], of_student),
    )


def _known(
    run: Run,
    labels: Labels,
    plan: EvaluationPlan,
    of_what: list[Any],
    make: Callable[[], Calibration | None],
) -> Calibration | None:
    """Return a calibration that was measured before, or measure and keep it."""
    splits = [Split.TEST, Split.PROBE]
    rows = [plan.manifest.digest(splits), revisions_of(labels.samples, splits)]
    made_of = [labels.labels.name, *rows, "calibration", _VERSION, plan.select_fraction, *of_what]

    def made() -> dict[str, Any]:
        measured = make()
        return {"calibration": None if measured is None else measured.to_dict()}

    found = kept(run.root.child(REFINE_FOLDER), made_of, made)["calibration"]
    return None if found is None else Calibration.from_dict(found)
