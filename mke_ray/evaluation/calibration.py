"""The temperature of a student, from the select part of the probe; how sure the teacher may be."""

from dataclasses import dataclass

import numpy as np

from mke_ray.evaluation.plan import SELECT, EvaluationPlan
from mke_ray.labels.probe import probe_part
from mke_ray.metrics import expected_calibration_error, fit_temperature
from mke_ray.schema import LabelKind, LabelSpace, ManifestRow, Split


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a temperature does for the teacher's confidence on the test split.

    Args:
        temperature: The temperature.
        before: Expected calibration error without it.
        after: The same with it.
    """

    temperature: float
    before: float
    after: float


def select_temperature(plan: EvaluationPlan, column: str) -> float:
    """Return the temperature that makes a student's logits most likely on the select part.

    Args:
        plan: What is compared.
        column: The student's column of logits.

    Returns:
        What to divide its logits by; 1 where there is no probe, and for dense labels, of which no
        logits are kept.
    """
    if plan.manifest.label_space.kind is LabelKind.DENSE:
        return 1.0
    logits, truths = [], []
    for ref in plan.manifest.unit_refs([Split.PROBE]):
        table = plan.predictions.read(ref.unit, columns=[column])
        said = table.column(column).to_pylist()
        for row, logits_C in zip(plan.manifest.read_unit(ref), said, strict=True):
            if logits_C is not None and row.labels is not None and _is_select(plan, row):
                logits.append(logits_C)
                truths.append(_truth(row, plan.manifest.label_space))
    return fit_temperature(np.asarray(logits), np.asarray(truths)) if logits else 1.0


def teacher_calibration(plan: EvaluationPlan, temperature: float) -> Calibration | None:
    """Return how far the teacher's confidence is from its accuracy on the test split.

    Args:
        plan: What is compared.
        temperature: Temperature that was fitted on other samples.

    Returns:
        None for dense labels, and where the teacher answers none.
    """
    space = plan.manifest.label_space
    if space.kind is LabelKind.DENSE:
        return None
    logits, truths = [], []
    for ref in plan.manifest.unit_refs([Split.TEST]):
        said = plan.labels.read(ref.unit, columns=["logits"]).column("logits").to_pylist()
        for row, logits_C in zip(plan.manifest.read_unit(ref), said, strict=True):
            is_known = row.labels is not None if space.kind is LabelKind.MULTI else bool(row.labels)
            if logits_C is not None and is_known and not row.mark:
                logits.append(logits_C)
                truths.append(_truth(row, space))
    if not logits:
        return None
    logits_NC = np.asarray(logits)
    before, after = (
        expected_calibration_error(logits_NC / one, np.asarray(truths))
        for one in (1.0, temperature)
    )
    return Calibration(temperature, before, after)


def _is_select(plan: EvaluationPlan, row: ManifestRow) -> bool:
    """Return whether a row of the probe may be used and belongs to its select part."""
    part = probe_part(row.group, seed=plan.probe_seed, select_fraction=plan.select_fraction)
    return part == SELECT and not row.mark


def _truth(row: ManifestRow, space: LabelSpace) -> int | list[int]:
    """Return the true class, or 0 and 1 per class where there can be many."""
    labels = row.labels or ()
    if space.kind is LabelKind.SINGLE:
        return next(iter(labels))
    return [int(number in labels) for number in range(space.num_classes)]
