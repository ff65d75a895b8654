"""The temperature of a student, from the select part of the probe; how sure the teacher may be."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from mke_ray.data.manifest import UnitRef
from mke_ray.evaluation.plan import SELECT, EvaluationPlan
from mke_ray.evaluation.results import TEACHER, ConfidenceBin
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

NUM_SHOWN_BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a temperature does for the confidence of a teacher or student on the test split.

    Args:
        temperature: The temperature.
        before: Expected calibration error without it.
        after: The same with it.
        bins_before: The answers by confidence without it, rising; empty bins are left out.
        bins_after: The same with it.
    """

    temperature: float
    before: float
    after: float
    bins_before: tuple[ConfidenceBin, ...] = ()
    bins_after: tuple[ConfidenceBin, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that ``from_dict`` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Calibration":
        """Build a calibration from plain data."""
        bins = {
            name: tuple(ConfidenceBin(**one) for one in plain[name])
            for name in ("bins_before", "bins_after")
        }
        return cls(**{**plain, **bins})


def select_temperature(plan: EvaluationPlan, column: str) -> float:
    """Return the temperature that makes logits most likely on the select part.

    Args:
        plan: What is compared.
        column: The column of the teacher or a student.

    Returns:
        What to divide the logits by; 1 where there is no probe, and for dense labels, of which no
        logits are kept.
    """
    if plan.manifest.label_space.kind is LabelKind.DENSE:
        return 1.0
    logits, truths = [], []
    for ref in plan.manifest.unit_refs([Split.PROBE]):
        said = _stored_logits(plan, column, ref)
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
    if plan.manifest.label_space.kind is LabelKind.DENSE:
        return _of_pixels(plan, float(temperature))
    return _of_logits(plan, TEACHER, temperature)


def student_calibration(
    plan: EvaluationPlan, column: str, temperature: float
) -> Calibration | None:
    """Return how far a student's confidence is from its accuracy on the test split.

    Args:
        plan: What is compared.
        column: The student's column of logits.
        temperature: Temperature that was fitted on other samples.

    Returns:
        None where it answers none, and for dense labels, of which no logits are kept.
    """
    if plan.manifest.label_space.kind is LabelKind.DENSE:
        return None
    return _of_logits(plan, column, temperature)


def _of_logits(
    plan: EvaluationPlan, column: str, temperature: float | NDArray
) -> Calibration | None:
    """Return the calibration of one column of logits on the test split."""
    space, logits, truths = plan.manifest.label_space, [], []
    for ref in plan.manifest.unit_refs([Split.TEST]):
        said = _stored_logits(plan, column, ref)
        for row, logits_C in zip(plan.manifest.read_unit(ref), said, strict=True):
            is_known = row.labels is not None if space.kind is LabelKind.MULTI else bool(row.labels)
            if logits_C is not None and is_known and not row.mark:
                logits.append(logits_C)
                truths.append(_truth(row, space))
    if not logits:
        return None
    logits_NC = np.asarray(logits)
    scaled = [logits_NC / one for one in (1.0, temperature)]
    before, after = (expected_calibration_error(one, np.asarray(truths)) for one in scaled)
    bins = (_bins(one, truths) for one in scaled)
    return Calibration(float(np.mean(temperature)), before, after, *bins)


def _stored_logits(plan: EvaluationPlan, column: str, ref: UnitRef) -> list[list[float] | None]:
    """Return the logits of a unit, None where there are none."""
    store, name = (plan.labels, "logits") if column == TEACHER else (plan.predictions, column)
    return store.read(ref.unit, columns=[name]).column(name).to_pylist()


def _bins(logits_NC: NDArray, truths: Sequence[int | list[int]]) -> tuple[ConfidenceBin, ...]:
    """Return the answers by confidence; where there can be many classes each is an answer."""
    bins, truth = ConfidenceBins(NUM_SHOWN_BINS), np.asarray(truths)
    if truth.ndim == 2:
        said = expit(logits_NC)
        bins.add(np.maximum(said, 1 - said).ravel(), ((said > 0.5) == (truth > 0)).ravel())
    else:
        said = softmax(logits_NC, axis=1)
        bins.add(said.max(axis=1), said.argmax(axis=1) == truth)
    return bins.bins()


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

    def bins(self) -> tuple[ConfidenceBin, ...]:
        """Return the bins that hold anything, rising."""
        num_K, confidence_K, right_K = self._sums_3K
        return tuple(
            ConfidenceBin(
                low=one / self._num_bins,
                high=(one + 1) / self._num_bins,
                num=int(num_K[one]),
                confidence=float(confidence_K[one] / num_K[one]),
                accuracy=float(right_K[one] / num_K[one]),
            )
            for one in np.flatnonzero(num_K).tolist()
        )


def _of_pixels(plan: EvaluationPlan, temperature: float) -> Calibration | None:
    """Return the calibration of dense labels, sample by sample."""
    form, samples = DenseForm.of_spec(plan.labels.spec), plan.samples
    if form is None or samples is None:
        return None
    spec = cast(MaskSpec, decode_spec_from_dict(plan.decode)[MASK])
    before, after = ConfidenceBins(), ConfidenceBins()
    shown = ConfidenceBins(NUM_SHOWN_BINS), ConfidenceBins(NUM_SHOWN_BINS)
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
            for both, one in (((before, shown[0]), 1.0), ((after, shown[1]), temperature)):
                probability_CHW = form.soft(packed, temperature=one)
                right_HW = probability_CHW.argmax(axis=0) == truth_HW
                for bins in both:
                    bins.add(probability_CHW.max(axis=0)[counts_HW], right_HW[counts_HW])
    found, then = before.error(), after.error()
    if found is None or then is None:
        return None
    return Calibration(temperature, found, then, *(one.bins() for one in shown))
