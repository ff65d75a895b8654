"""Finalists repeated over seeds, the winner among them, and its result on the test split."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from mke_ray.search.ledger import FAILED, FINISHED, USUAL, TrialRecord
from mke_ray.search.trial import METRIC_KEYS, quality_of, rows_per_step
from mke_ray.train.fits import FitStore


@dataclass(frozen=True, slots=True)
class Lead:
    """By how much a finalist is better than the configuration as it is, over the same samples.

    Args:
        value: Mean difference of quality over the select part, of the mean over seeds.
        ci95: Its interval over groups of samples.
        bound: Its one-sided lower bound over groups, as the gate takes it (``gate.confidence``).
    """

    value: float
    ci95: tuple[float, float]
    bound: float


@dataclass(frozen=True, slots=True)
class Finalist:
    """One configuration, repeated over seeds.

    Args:
        number: Number of its trial.
        fits: Fingerprints of its fits by seed.
        qualities: What the search looks for, by seed.
        metrics: Metric on the select part by seed.
        num_samples: Rows that all its fits were trained on.
        seconds: Seconds of training of all its fits.
        num_parameters: Parameters of the network.
        lead: How far it leads the configuration as it is; None where that is not known.
    """

    number: int
    fits: Mapping[int, str]
    qualities: Mapping[int, float]
    metrics: Mapping[int, float]
    num_samples: int
    seconds: float
    num_parameters: int
    lead: Lead | None = None

    @property
    def mean(self) -> float:
        """Mean quality over seeds."""
        return float(np.mean(list(self.qualities.values())))

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over seeds; NaN for a single seed."""
        values = list(self.qualities.values())
        return float(stats.sem(values)) if len(values) > 1 else math.nan

    def cost(self, kind: str) -> float:
        """Return what one fit cost.

        Args:
            kind: ``seconds`` or ``parameters``.
        """
        is_size = kind == "parameters"
        return float(self.num_parameters) if is_size else self.seconds / len(self.fits)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with the mean and its interval over seeds."""
        low, high = interval(list(self.qualities.values()))
        return {**asdict(self), "mean": self.mean, "ci95": [low, high]}


def choose_finalists(
    records: Sequence[TrialRecord], num_wanted: int, *, cost: str | None
) -> list[TrialRecord]:
    """Return the trials that are repeated: the best, or of two goals the best that are not beaten.

    The configuration as it is (trial 0) is always among them where it can be trained, beside the
    number that is wanted. Where it was, others count if they were trained to their end too: those
    that were stopped are behind it.

    Args:
        records: The trials that have ended.
        num_wanted: How many.
        cost: The second goal; None where there is none.
    """
    seen = [one for one in records if one.quality is not None and one.state != FAILED]
    order = sorted(seen, key=lambda one: (one.state != FINISHED, -_quality(one), one.number))
    if cost is not None:
        ended = [one for one in seen if one.state == FINISHED]
        order = [one for one in order if not any(_beats(other, one, cost) for other in ended)]
        chosen = order[:num_wanted]
        return [*chosen, *(one for one in seen if one.number == USUAL and one not in chosen)]
    usual = [one for one in seen if one.number == USUAL]
    has_end = any(one.state == FINISHED for one in usual)
    others = [one for one in order if one.number != USUAL]
    chosen = [one for one in others if one.state == FINISHED or not has_end][:num_wanted]
    return [*chosen, *usual]


def winner_of(finalists: Sequence[Finalist], *, cost: str | None) -> Finalist:
    """Return the best finalist by its mean over seeds.

    Another than the configuration as it is has to lead it by a lower bound above zero, where that
    is known: of few samples the best of many trials is better than it by luck. Of two goals it is
    the cheapest whose quality is within one standard error of the best.

    Args:
        finalists: The finalists.
        cost: The second goal; None where there is none.

    Source:
        The rule of one standard error: Breiman, Friedman, Olshen, Stone, Classification and
        Regression Trees, 1984, section 3.4.3.
    """
    best = max(finalists, key=lambda one: (one.mean, -one.number))
    if cost is None:
        sure = [one for one in finalists if one.lead is None or one.lead.bound > 0]
        return max(sure or finalists, key=lambda one: (one.mean, -one.number))
    slack = 0.0 if math.isnan(best.standard_error) else best.standard_error
    close = [one for one in finalists if one.mean >= best.mean - slack]
    return min(close, key=lambda one: (one.cost(cost), -one.mean))


def finalist_of(number: int, fits: Mapping[int, str], store: FitStore, quality: str) -> Finalist:
    """Return a finalist whose fits are all trained.

    Args:
        number: Number of its trial.
        fits: Fingerprints of its fits by seed.
        store: Where they are.
        quality: ``metric`` or ``log_likelihood``.
    """
    facts = {seed: store.facts(fit) for seed, fit in fits.items()}
    looks = {seed: _last_look(store, fit) for seed, fit in fits.items()}
    metrics = {
        seed: next(one[key] for key in METRIC_KEYS if key in one) for seed, one in looks.items()
    }
    qualities = {s: quality_of(one, metrics[s], quality) for s, one in looks.items()}
    return Finalist(
        number,
        dict(fits),
        qualities,
        metrics,
        num_samples=sum(_num_samples(one) for one in facts.values()),
        seconds=sum(one["seconds"] for one in facts.values()),
        num_parameters=next(iter(facts.values()))["num_parameters"],
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of a mean by Student's distribution; NaN of fewer than two values."""
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def _last_look(store: FitStore, fit: str) -> dict[str, Any]:
    """Return the last look of a fit at the select part of the probe."""
    looks = [one for one in store.history(fit) if any(key in one for key in METRIC_KEYS)]
    return looks[-1]


def _num_samples(facts: Mapping[str, Any]) -> int:
    """Return the rows that a fit was trained on, each as often as it was."""
    return facts["num_steps"] * rows_per_step(facts)


def _quality(record: TrialRecord) -> float:
    """Return the quality of a trial that was looked at."""
    return -math.inf if record.quality is None else record.quality


def _beats(one: TrialRecord, other: TrialRecord, cost: str) -> bool:
    """Return whether a trial is better in one goal and not worse in the other."""
    gain, saving = _quality(one) - _quality(other), other.cost(cost) - one.cost(cost)
    return gain >= 0 and saving >= 0 and (gain > 0 or saving > 0)
