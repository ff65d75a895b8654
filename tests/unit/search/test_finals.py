"""Finalists and the winner among them."""

import math
from dataclasses import replace
from typing import Any

import pytest

from mke_ray.search.finals import Finalist, Lead, choose_finalists, interval, winner_of
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, TrialRecord


def record(number: int, state: str, quality: float | None, **more: Any) -> TrialRecord:
    seen = {"step": 1, "quality": quality, "metric": quality, "seconds": 1.0, "samples": 1}
    curve = () if quality is None else (seen,)
    return TrialRecord(number, state, {}, {}, curve, **more)


def finalist(number: int, *qualities: float, size: int = 1) -> Finalist:
    by_seed = dict(enumerate(qualities))
    return Finalist(number, dict.fromkeys(by_seed, "f"), by_seed, by_seed, 1, 1.0, size)


def test_trials_that_were_trained_to_their_end_come_before_better_ones_that_were_stopped() -> None:
    records = [
        record(0, STOPPED, 0.9),
        record(1, FINISHED, 0.7),
        record(2, FINISHED, 0.8),
        record(3, FAILED, None),
    ]
    assert [one.number for one in choose_finalists(records, 1, cost=None)] == [2, 0]
    assert [one.number for one in choose_finalists(records, 3, cost=None)] == [2, 1, 0]


def test_the_best_other_that_came_to_its_end_is_repeated_beside_what_is_there() -> None:
    records = [record(0, FINISHED, 0.9), record(1, FINISHED, 0.8), record(2, STOPPED, 0.85)]
    assert [one.number for one in choose_finalists(records, 1, cost=None)] == [1, 0]
    assert [one.number for one in choose_finalists(records, 3, cost=None)] == [1, 0]
    assert [one.number for one in choose_finalists(records[::2], 1, cost=None)] == [0]


def test_a_trial_that_failed_is_never_a_finalist() -> None:
    records = [record(0, FAILED, 0.99), record(1, FAILED, 0.95), record(2, STOPPED, 0.4)]
    assert [one.number for one in choose_finalists(records, 2, cost=None)] == [2]


def test_of_two_goals_only_those_are_kept_that_none_beats() -> None:
    records = [
        record(0, FINISHED, 0.5, num_parameters=50),
        record(1, FINISHED, 0.9, num_parameters=90),
        record(2, FINISHED, 0.8, num_parameters=95),
        record(3, FINISHED, 0.6, num_parameters=10),
    ]
    kept = choose_finalists(records, 4, cost="parameters")
    assert [one.number for one in kept] == [1, 3, 0]


def test_the_winner_is_the_best_by_its_mean_over_seeds() -> None:
    assert winner_of([finalist(0, 0.7, 0.7), finalist(1, 0.9, 0.4)], cost=None).number == 0
    assert winner_of([finalist(0, 0.7), finalist(2, 0.7)], cost=None).number == 0


def test_what_leads_the_configuration_as_it_is_by_less_than_an_error_does_not_win() -> None:
    usual, better = finalist(0, 0.7, 0.7), finalist(1, 0.8, 0.8)
    unsure = replace(better, lead=Lead(0.1, (-0.2, 0.4), bound=-0.05))
    assert winner_of([usual, unsure], cost=None).number == 0
    sure = replace(finalist(2, 0.75, 0.75), lead=Lead(0.05, (0.0, 0.1), bound=0.02))
    assert winner_of([usual, unsure, sure], cost=None).number == 2


def test_of_two_goals_the_cheapest_within_one_standard_error_wins() -> None:
    large, small = finalist(1, 0.9, 0.8, 0.85, size=9), finalist(2, 0.83, 0.83, 0.83, size=3)
    assert large.standard_error == pytest.approx(0.05 / math.sqrt(3))
    assert winner_of([large, small], cost="parameters").number == 2
    worse = finalist(3, 0.8, 0.8, 0.8, size=1)
    assert winner_of([large, worse], cost="parameters").number == 1


def test_an_interval_of_seeds_is_that_of_student() -> None:
    low, high = interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t at 97.5% with two degrees of freedom, deviation 1
    assert (low, high) == (pytest.approx(2 - half, abs=1e-5), pytest.approx(2 + half, abs=1e-5))
    assert math.isnan(interval([1.0])[0])
