"""Who is right on which sample, and what that makes of an arm."""

# N samples of a part, C classes, R resamples.

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mke_ray.evaluation.answers import LOWEST, Part
from mke_ray.evaluation.average_precision import ResampledMAP
from mke_ray.evaluation.further import further_figures
from mke_ray.evaluation.results import TEACHER, ArmResult, Flow
from mke_ray.metrics import bootstrap_by_group, mean_average_precision

Estimate = tuple[float, tuple[float, float] | None]


def measure_arms(
    arms: Mapping[str, Mapping[int, str]],
    *,
    test: Part,
    select: Part,
    flows: Mapping[str, Flow | None],
    reference: str = TEACHER,
    is_multi: bool = False,
) -> dict[str, ArmResult]:
    """Return the result of every arm on test.

    Args:
        arms: ``{arm: {seed: column}}``, the teacher among them.
        test: What is kept of the test set.
        select: What is kept of the select part of the probe.
        flows: What each arm did to the teacher's answers.
        reference: Column that gains are measured against.
        is_multi: Whether a sample may have many classes.
    """
    measure = _MultiMeasure(test) if is_multi else _SingleMeasure(test)
    results = {}
    for arm, seeds in arms.items():
        columns = list(seeds.values())
        value, ci95 = measure.value(columns)
        gain, gain_ci95 = (0.0, (0.0, 0.0)) if arm == TEACHER else measure.gain(columns, reference)
        results[arm] = ArmResult(
            arm=arm,
            value=value,
            ci95=ci95,
            num_test=len(test.groups),
            num_groups=len(set(test.groups)),
            seeds={} if arm == TEACHER else {s: measure.value([c])[0] for s, c in seeds.items()},
            gain=gain,
            gain_ci95=gain_ci95,
            select=_select_value(select, columns),
            flow=flows.get(arm),
            further=_further(test, columns, is_multi=is_multi),
        )
    return results


class _SingleMeasure:
    """Accuracy: means of scores of single samples."""

    def __init__(self, part: Part) -> None:
        self._group_N = np.asarray(part.groups)
        self._scores = {name: np.concatenate(rows) for name, rows in part.scores.items()}

    def value(self, columns: list[str]) -> Estimate:
        """Return the mean over columns and its interval."""
        return self._interval(self._mean(columns))

    def gain(self, columns: list[str], reference: str) -> Estimate:
        """Return the paired difference to another column and its interval."""
        return self._interval(self._mean(columns) - self._scores[reference])

    def _mean(self, columns: list[str]) -> NDArray:
        return np.stack([self._scores[name] for name in columns]).mean(axis=0, dtype=np.float64)

    def _interval(self, value_N: NDArray) -> Estimate:
        found = bootstrap_by_group(value_N, self._group_N)
        return found.value, None if found.ends() is None else (found.low, found.high)


class _MultiMeasure:
    """Mean average precision over classes."""

    def __init__(self, part: Part) -> None:
        self._truth_NC = np.concatenate(part.truths)
        self._logits = {
            name: np.nan_to_num(np.concatenate(rows), nan=LOWEST)
            for name, rows in part.logits.items()
        }
        self._resampled = ResampledMAP(self._truth_NC, np.asarray(part.groups))
        self._values: dict[str, tuple[float, NDArray]] = {}

    def value(self, columns: list[str]) -> Estimate:
        """Return the mean over columns and its interval."""
        return _with_quantiles(*self._mean(columns))

    def gain(self, columns: list[str], reference: str) -> Estimate:
        """Return the difference to a column under the same resamples and its interval."""
        (value, value_R), (other, other_R) = self._mean(columns), self._mean([reference])
        return _with_quantiles(value - other, value_R - other_R)

    def _mean(self, columns: list[str]) -> tuple[float, NDArray]:
        for name in columns:
            if name not in self._values:
                logits_NC = self._logits[name]
                self._values[name] = (
                    mean_average_precision(logits_NC, self._truth_NC),
                    self._resampled.values(logits_NC),
                )
        some = [self._values[name] for name in columns]
        return (
            float(np.mean([value for value, _ in some])),
            np.mean([value_R for _, value_R in some], axis=0),
        )


def _with_quantiles(value: float, value_R: NDArray) -> Estimate:
    """Return a value and its 95% interval."""
    low, high = np.quantile(value_R, [0.025, 0.975])
    return value, (float(low), float(high))


def _further(part: Part, columns: list[str], *, is_multi: bool) -> dict[str, float]:
    """Return further figures, the mean over columns; none where their logits are not kept."""
    if not part.truths:
        return {}
    truth_NC = np.concatenate(part.truths)
    found = [
        further_figures(np.concatenate(part.logits[name]), truth_NC, is_multi=is_multi)
        for name in columns
    ]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _select_value(part: Part, columns: list[str]) -> float | None:
    """Return the metric on the select part, None where it is empty."""
    if not part.groups:
        return None
    if not part.truths:
        return float(np.mean([np.concatenate(part.scores[name]).mean() for name in columns]))
    truth_NC = np.concatenate(part.truths)
    if not truth_NC.any():
        return None
    logits = [np.nan_to_num(np.concatenate(part.logits[name]), nan=LOWEST) for name in columns]
    return float(np.mean([mean_average_precision(one, truth_NC) for one in logits]))
