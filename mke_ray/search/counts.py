"""How far a search is: trials by state, the best so far, and what it took and is to take."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mke_ray.config_search import SearchConfig
from mke_ray.labels.pass_state import SECONDS_PER_HOUR, cost_of
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, TrialRecord

STATES = {FINISHED: "finished", STOPPED: "stopped early", FAILED: "failed"}


@dataclass(slots=True)
class Counts:
    """How far a search is.

    Args:
        ended: Trials that have ended, by their state.
        running: Trials that run.
        best: The best quality that was seen, None before any was.
        best_trial: The number of that trial.
        num_samples: Rows trained on by trials that have ended.
        ended_s: Seconds that trials took which have ended, by their state.
        running_s: Seconds that those take which run.
        before_s: Part of ``ended_s`` that an earlier start took, as far as it is on record.
        began_s: When this start began, by a clock that never goes back.
    """

    ended: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    running: int = 0
    best: float | None = None
    best_trial: int = 0
    num_samples: int = 0
    ended_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STATES, 0.0))
    running_s: float = 0.0
    before_s: float = 0.0
    began_s: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, records: Sequence[TrialRecord]) -> "Counts":
        """Count trials that have ended."""
        counts = cls()
        for one in records:
            counts.add(one.state, one.number, one.curve, took_s=one.seconds)
        counts.before_s = sum(counts.ended_s.values())
        return counts

    def add(
        self, state: str, number: int, curve: Sequence[Mapping[str, Any]], *, took_s: float
    ) -> None:
        """Count one that has ended; the best is one that was trained to its end, if any was."""
        self.ended[state] += 1
        self.ended_s[state] += took_s
        if not curve:
            return
        self.num_samples += int(curve[-1]["samples"])
        quality = curve[-1]["quality"]
        if state == FINISHED and (self.best is None or quality > self.best):
            self.best, self.best_trial = quality, number

    @property
    def num_ended(self) -> int:
        """Trials that have ended."""
        return sum(self.ended.values())

    def mean_s(self, *states: str) -> float:
        """Return the seconds that a trial of some states took, 0 where none has ended so.

        Args:
            states: The states.
        """
        number = sum(self.ended[one] for one in states)
        return sum(self.ended_s[one] for one in states) / number if number else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search is to do, and with how much.

    Args:
        num_trials: Trials in all.
        num_final_fits: Fits of the finals that no trial has trained.
        at_once: Trials side by side.
        held: What a trial holds while it runs, see ``held_by_trial``.
        cost_per_hour: Cost of the whole cluster per hour, None where it is not known.
        quality: What the search looks for, in words.
    """

    num_trials: int
    num_final_fits: int
    at_once: int
    held: Mapping[str, float]
    cost_per_hour: float | None = None
    quality: str = "quality"

    @classmethod
    def of(
        cls,
        search: SearchConfig,
        scaling: Mapping[str, Any],
        *,
        at_once: int,
        cost_per_hour: float | None,
        quality: str = "quality",
    ) -> "Plan":
        """Return the plan of a configuration.

        Args:
            search: The section ``search``.
            scaling: The section ``scaling``.
            at_once: Trials side by side.
            cost_per_hour: Cost of the whole cluster per hour.
            quality: What the search looks for, in words.
        """
        repeated = search.finalists + 1  # the configuration as it is too
        return cls(
            search.num_trials,
            repeated * (len(search.final_seeds) - 1),
            at_once,
            held_by_trial(search, scaling),
            cost_per_hour,
            quality,
        )

    def to_come_s(self, counts: Counts) -> float | None:
        """Return the seconds of trials and finals to come, None before any trial has ended."""
        if counts.num_ended == 0:
            return None
        typical_s = counts.mean_s(FINISHED, STOPPED) or counts.mean_s(FAILED)
        whole_s = counts.mean_s(FINISHED) or typical_s
        rest_s = (self.num_trials - counts.num_ended) * typical_s
        return max(rest_s - counts.running_s, 0.0) + self.num_final_fits * whole_s

    def eta_s(self, counts: Counts) -> float | None:
        """Return the seconds until the winner is known, None before any trial has ended."""
        to_come_s = self.to_come_s(counts)
        return None if to_come_s is None else to_come_s / self.at_once

    def cost(self, counts: Counts) -> float | None:
        """Return what the cluster cost so far, None where its cost is not known."""
        wall_s = time.monotonic() - counts.began_s + counts.before_s / self.at_once
        return cost_of(wall_s, self.cost_per_hour)


def held_by_trial(search: SearchConfig, scaling: Mapping[str, Any]) -> dict[str, float]:
    """Return what a trial holds while it runs: ``CPU``, and ``GPU`` where it has any.

    Args:
        search: The section ``search``.
        scaling: The section ``scaling``.
    """
    named = {"CPU": scaling["cpus_per_worker"], "GPU": scaling["gpus_per_worker"]}
    return {name: search.workers_per_trial * one for name, one in named.items() if one > 0}


def in_words(counts: Counts, plan: Plan) -> str:
    """Return how far a search is: its trials, the best, and what it took and, with a plus, will.

    Args:
        counts: How far it is.
        plan: What it is to do.
    """
    said = [f"{counts.running} running"]
    said += [f"{number} {STATES[state]}" for state, number in counts.ended.items() if number]
    if counts.best is not None:
        said.append(f"best {plan.quality} {counts.best:.4g} (trial {counts.best_trial})")
    spent_s, to_come_s = sum(counts.ended_s.values()) + counts.running_s, plan.to_come_s(counts)
    for name, held in plan.held.items():
        coming_s = None if to_come_s is None else to_come_s * held
        said.append(held_words(name, spent_s * held, coming_s))
    if (cost := plan.cost(counts)) is not None:
        eta_s = plan.eta_s(counts)
        expected = None if eta_s is None else cost_of(eta_s, plan.cost_per_hour)
        said.append(f"cost {_sum_of(cost, expected)}")
    return f"{', '.join(said)}, {counts.num_samples:,} samples"


def held_words(name: str, spent_s: float, to_come_s: float | None = None) -> str:
    """Return for how long something was held and, behind a plus, will be: minutes below an hour.

    Args:
        name: What is held, for example ``CPU``.
        spent_s: Seconds so far, those of two held at once counting twice.
        to_come_s: Seconds to come; None where nobody knows.
    """
    is_short = spent_s + (to_come_s or 0.0) < SECONDS_PER_HOUR
    unit_s, unit = (60.0, "minutes") if is_short else (SECONDS_PER_HOUR, "hours")
    coming = None if to_come_s is None else to_come_s / unit_s
    return f"{_sum_of(spent_s / unit_s, coming)} {name}-{unit}"


def _sum_of(spent: float, to_come: float | None) -> str:
    """Return what was spent and, behind a plus, what is to come."""
    return f"{spent:.2f}" if not to_come else f"{spent:.2f} + {to_come:.2f}"
