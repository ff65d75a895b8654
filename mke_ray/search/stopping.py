"""Which trials end early: by ASHA, and where they are behind the configuration as it is."""

import math
from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from mke_ray.config_search import SearchConfig
from mke_ray.search.ledger import FAILED, USUAL, TrialRecord
from mke_ray.search.searcher import NUMBER
from mke_ray.search.trial import CURVE, LOOK, QUALITY

# From there on looks rank trials as the end does: correlations of .6 on the demo (24 trials) and .7
# on AV-MNIST (36); before, -.1 to .4 on the demo.
_LEARNT = 0.6


def rungs_from(
    rungs: Sequence[int], usual: TrialRecord | None, *, chance: float
) -> tuple[int, ...]:
    """Return after which looks trials are compared, from the curve of the configuration as it is.

    The first is the look from which on it has made three fifths of its way: before, trials differ
    by little but luck.

    Args:
        rungs: The rungs of a trial that learns at once, see ``rungs_of``.
        usual: What became of the configuration as it is; None where that is not known.
        chance: What a network that has learnt nothing reaches.
    """
    if usual is None or usual.state == FAILED or len(rungs) < 2:
        return tuple(rungs)
    enough = chance + _LEARNT * (usual.curve[-1]["quality"] - chance)
    late = [one["look"] for one in usual.curve if one["quality"] < enough]
    first, last, reduction = max(late, default=0) + 1, rungs[-1], rungs[1] // rungs[0]
    return (*(one for power in range(len(rungs)) if (one := first * reduction**power) < last), last)


def rungs_words(rungs: Sequence[int], num_looks: int) -> str:
    """Return when trials are compared, in words.

    Args:
        rungs: See ``rungs_from``.
        num_looks: Looks of the configuration as it is.
    """
    if all(one >= num_looks for one in rungs[:-1]):
        return "no trial is stopped early, since the configuration as it is learns up to its end"
    shares = " and ".join(f"{one / num_looks:.0%}" for one in rungs[:-1] if one < num_looks)
    return (
        f"trials are compared after {shares} of their steps; before, the configuration as it is "
        "has not learnt most of what it will"
    )


def scheduler_of(
    search: SearchConfig, rungs: Sequence[int], records: Sequence[TrialRecord]
) -> TrialScheduler:
    """Return what ends trials early; it knows of the trials that have ended before.

    Args:
        search: The section ``search``.
        rungs: See ``rungs_of``.
        records: Trials that have ended.
    """
    if search.scheduler == "fifo":
        return FIFOScheduler()
    asha = AshaAgainstUsual(
        rungs,
        time_attr=LOOK,
        metric=QUALITY,
        mode="max",
        max_t=rungs[-1],
        grace_period=rungs[0],
        reduction_factor=search.reduction,
    )
    controller: Any = None
    for one in records:
        known: Any = SimpleNamespace(trial_id=f"ended-{one.number}", config={NUMBER: one.number})
        asha.on_trial_add(controller, known)
        for look in (seen for seen in one.curve if seen["look"] in rungs[:-1]):
            asha.on_trial_result(controller, known, {LOOK: look["look"], QUALITY: look["quality"]})
        asha.on_trial_remove(controller, known)
    return asha


class AshaAgainstUsual(AsyncHyperBandScheduler):
    """Ends trials as ASHA does, and those behind the configuration as it is at the same rung.

    ASHA compares with those that came before, and lets most of the first ones go on: there a trial
    has to beat what is there anyhow. The configuration as it is always runs to its end, since all
    are compared with it.

    Source:
        Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar, A System for
        Massively Parallel Hyperparameter Tuning, MLSys 2020, for the rule of ASHA.
    """

    def __init__(self, rungs: Collection[int], **settings: Any) -> None:
        super().__init__(**settings)
        self._rungs = rungs
        self._usual: dict[int, float] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Return whether a trial goes on.

        Args:
            tune_controller: Of Tune.
            trial: Of Tune.
            result: What the trial reported.
        """
        if result[LOOK] == 0:  # a sign of life, or a failure
            return super().on_trial_result(tune_controller, trial, dict(result))
        self._learn_curve(tune_controller, trial, result)
        action = super().on_trial_result(tune_controller, trial, dict(result))
        look, quality = result[LOOK], result[QUALITY]
        if look >= self._max_t or (action == TrialScheduler.STOP and not is_usual(trial)):
            return action
        if is_usual(trial):
            self._usual[look] = quality
            return TrialScheduler.CONTINUE
        is_behind = quality < self._usual.get(look, -math.inf)
        return TrialScheduler.STOP if is_behind else action

    def _learn_curve(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        """Compare with the rungs of the configuration as it is that it did not report one by one.

        Its fit may be there from an earlier search: then its end is all that it reports.
        """
        if not is_usual(trial):
            return
        for one in result.get(CURVE, ()):
            if one["look"] in self._rungs and one["look"] < min(result[LOOK], self._max_t):
                seen = {LOOK: one["look"], QUALITY: one["quality"]}
                super().on_trial_result(tune_controller, trial, seen)
                self._usual.setdefault(one["look"], one["quality"])


def is_usual(trial: Any) -> bool:
    """Return whether a trial of Tune is the configuration as it is."""
    return trial.config[NUMBER] == USUAL
