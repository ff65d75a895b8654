"""The temperature of a student, from the select part of the probe; how sure the teacher may be."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from mke_ray.evaluation.plan import SELECT, EvaluationPlan
from mke_ray.labels.dense import DenseForm, mask_rows, packed_rows
from mke_ray.labels.probe import probe_part
from mke_ray.metrics import expected_calibration_error, fit_temperature
from mke_ray.schema import (
    IGNORE,
    MASK,
    LabelKind,
    LabelSpace,
    ManifestRow,
    MaskSpec,
    Split,
    decode_spec_from_dict,
)


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


def teacher_calibration(plan: EvaluationPlan, temperature: float | NDArray) -> Calibration | None:
    """Return how far the teacher's confidence is from its accuracy on the test split.

    Args:
        plan: What is compared.
        temperature: Temperature that was fitted on other samples; a number, or one for each class.

    Returns:
        None where the teacher answers none. Of dense labels every pixel with a true class counts.
    """
    space = plan.manifest.label_space
    if space.kind is LabelKind.DENSE:
        return _of_pixels(plan, float(temperature))
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
    return Calibration(float(np.mean(temperature)), before, after)


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


class ConfidenceBins:
    """The expected calibration error of answers that stream by.

    Args:
        num_bins: Bins of equal width.

    Source:
        Naeini, Cooper, Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning,
        AAAI 2015.
    """

    def __init__(self, num_bins: int = 15) -> None:
        self._num_bins = num_bins
        self._sums_3K = np.zeros((3, num_bins))

    def add(self, confidence_N: NDArray, right_N: NDArray) -> None:
        """Add answers with their confidence, and whether they are right."""
        bin_N = np.minimum((confidence_N * self._num_bins).astype(int), self._num_bins - 1)
        added = (np.ones(len(bin_N)), confidence_N, right_N)
        self._sums_3K += [
            np.bincount(bin_N, weights=one_N, minlength=self._num_bins) for one_N in added
        ]

    def error(self) -> float | None:
        """Return the mean gap between confidence and accuracy, None where nothing was added."""
        num_K, confidence_K, right_K = self._sums_3K
        return float(np.abs(confidence_K - right_K).sum() / num_K.sum()) if num_K.any() else None


def _of_pixels(plan: EvaluationPlan, temperature: float) -> Calibration | None:
    """Return the calibration of dense labels, sample by sample."""
    form, samples = DenseForm.of_spec(plan.labels.spec), plan.samples
    if form is None or samples is None:
        return None
    spec = cast(MaskSpec, decode_spec_from_dict(plan.decode)[MASK])
    before, after = ConfidenceBins(), ConfidenceBins()
    for ref in plan.manifest.unit_refs([Split.TEST]):
        table = samples.read(ref.unit, [*samples.small_columns, MASK])
        truth_BHW = mask_rows(table.column(MASK).to_pylist(), spec)
        rows = plan.manifest.read_unit(ref)
        for row, packed, truth_HW in zip(
            rows, packed_rows(plan.labels.read(ref.unit)), truth_BHW, strict=True
        ):
            if packed is None or row.mark or row.labels is None:
                continue
            counts_HW = truth_HW != IGNORE
            for bins, one in ((before, 1.0), (after, temperature)):
                probability_CHW = form.soft(packed, temperature=one)
                right_HW = probability_CHW.argmax(axis=0) == truth_HW
                bins.add(probability_CHW.max(axis=0)[counts_HW], right_HW[counts_HW])
    found, then = before.error(), after.error()
    return None if found is None or then is None else Calibration(temperature, found, then)
