"""Which trials end early."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from mke_ray.config_search import SearchConfig
from mke_ray.schema import LabelKind
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, TrialRecord
from mke_ray.search.run import Search
from mke_ray.search.stopping import rungs_from, rungs_words, scheduler_of
from mke_ray.search.tuning import rungs_of

KEYS = SearchConfig(reduction=2, rungs=3)


class Trial:
    """A trial of Tune, as far as its scheduler looks at it."""

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)
        self.config = {"number": number}


def look(quality: float, number: int = 1) -> dict[str, Any]:
    return {"look": number, "quality": quality, "step": 10, "samples": 10, "seconds": 1.0}


def said(asha: Any, trial: Trial, quality: float, number: int = 1) -> str:
    if trial.trial_id not in asha._trial_info:
        asha.on_trial_add(None, trial)
    return asha.on_trial_result(None, trial, look(quality, number))


def test_a_scheduler_knows_the_trials_of_an_earlier_start() -> None:
    ended = [TrialRecord(n, STOPPED, {}, {}, (look(0.9 + n / 100),)) for n in range(1, 5)]
    assert said(scheduler_of(KEYS, rungs_of(KEYS), ended), Trial(9), 0.1) == "STOP"
    assert said(scheduler_of(KEYS, rungs_of(KEYS), []), Trial(9), 0.1) == "CONTINUE"


def test_a_trial_behind_the_configuration_as_it_is_ends() -> None:
    asha = scheduler_of(KEYS, rungs_of(KEYS), [])
    assert said(asha, Trial(0), 0.5) == "CONTINUE"
    assert said(asha, Trial(1), 0.2) == "STOP"
    assert said(asha, Trial(2), 0.4) == "STOP"  # by ASHA it would go on
    assert said(asha, Trial(3), 0.6) == "CONTINUE"
    assert said(asha, Trial(3), 0.6, 2) == "CONTINUE"  # of the usual one nothing is known there
    usual = TrialRecord(0, FINISHED, {}, {}, (look(0.5), look(0.7, 2), look(0.7, 4)))
    assert said(scheduler_of(KEYS, rungs_of(KEYS), [usual]), Trial(4), 0.6, 2) == "STOP"


def usual_with(*qualities: float) -> TrialRecord:
    curve = tuple(look(quality, number) for number, quality in enumerate(qualities, 1))
    return TrialRecord(0, FINISHED, {}, {}, curve)


def test_trials_are_compared_from_where_the_configuration_as_it_is_has_learnt_most() -> None:
    slow = usual_with(*[-2.3, -2.2, -0.9, -1.3], *[-0.6] * 20, -0.2)
    assert rungs_from((1, 5, 25), slow, chance=-2.3) == (5, 25)  # look 4 is behind again
    assert rungs_from((1, 5, 25), usual_with(*[0.5] * 25), chance=0.0) == (1, 5, 25)
    assert rungs_from((1, 5, 25), usual_with(*[0.1, 0.2], *[0.9] * 23), chance=0.0) == (3, 15, 25)
    assert rungs_from((1, 5, 25), usual_with(*[0.0] * 24, 1.0), chance=0.0) == (25,)
    assert rungs_from((1, 5, 25), None, chance=0.0) == (1, 5, 25)
    assert rungs_from((1, 5, 25), TrialRecord(0, FAILED, {}, {}), chance=0.0) == (1, 5, 25)


def test_when_trials_are_compared_is_said() -> None:
    assert rungs_words((5, 25), 25).startswith("trials are compared after 20% of their steps;")
    assert rungs_words((25,), 25).startswith("no trial is stopped early")


def test_a_sign_of_life_is_no_comparison() -> None:
    asha: Any = scheduler_of(KEYS, rungs_of(KEYS), [])
    usual, other = Trial(0), Trial(1)
    for one in (usual, other):
        asha.on_trial_add(None, one)
        assert asha.on_trial_result(None, one, {"look": 0}) == "CONTINUE"
    assert said(asha, usual, 0.5) == "CONTINUE" and said(asha, other, 0.6) == "CONTINUE"


def test_the_configuration_as_it_is_runs_to_its_end() -> None:
    ended = [TrialRecord(n, STOPPED, {}, {}, (look(0.9),)) for n in range(1, 5)]
    asha = scheduler_of(KEYS, rungs_of(KEYS), ended)
    usual = Trial(0)
    assert [said(asha, usual, 0.1, n) for n in (1, 2, 4)] == ["CONTINUE", "CONTINUE", "STOP"]


def test_others_are_compared_with_a_curve_that_was_there_before() -> None:
    asha: Any = scheduler_of(KEYS, rungs_of(KEYS), [])
    usual, curve = Trial(0), [look(0.5), look(0.6, 2), look(0.7, 3), look(0.8, 4)]
    asha.on_trial_add(None, usual)
    assert asha.on_trial_result(None, usual, {**look(0.8, 4), "curve": curve}) == "STOP"
    assert said(asha, Trial(1), 0.4) == "STOP"
    assert said(asha, Trial(2), 0.55) == "CONTINUE"
    assert said(asha, Trial(2), 0.55, 2) == "STOP"


@pytest.mark.parametrize(
    ("kind", "quality", "chance"),
    [
        (LabelKind.SINGLE, "log_likelihood", -math.log(4)),
        (LabelKind.SINGLE, "metric", 0.25),
        (LabelKind.MULTI, "log_likelihood", -math.log(2)),
        (LabelKind.MULTI, "metric", 0.0),
        (LabelKind.DENSE, "metric", 0.0),
    ],
)
def test_chance_is_what_a_network_reaches_that_has_learnt_nothing(
    kind: LabelKind, quality: str, chance: float
) -> None:
    space = SimpleNamespace(kind=kind, num_classes=4)
    candidates: Any = SimpleNamespace(manifest=SimpleNamespace(label_space=space))
    run: Any = SimpleNamespace(job=SimpleNamespace(search=SearchConfig(quality=quality)))
    unread: Any = None
    search = Search(run, unread, candidates, unread, {}, (1, 5, 25))
    assert search.chance == pytest.approx(chance)
