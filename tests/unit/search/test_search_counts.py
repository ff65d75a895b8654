"""How far a search is, and what it took and is to take, in words."""

import pytest

from mke_ray.config_search import SearchConfig
from mke_ray.search.counts import Counts, Plan, in_words
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, TrialRecord


def record(number: int, state: str, quality: float, seconds: float) -> TrialRecord:
    look = {"quality": quality, "samples": 10, "seconds": seconds}
    return TrialRecord(number, state, {}, {}, (look,))


def plan(held: dict[str, float] | None = None, price: float | None = None) -> Plan:
    return Plan(6, 4, 2, held or {"CPU": 2.0}, cost_per_hour=price, quality="accuracy")


def test_the_best_is_one_that_was_trained_to_its_end() -> None:
    counts = Counts.of([record(0, FINISHED, 0.7, 1.0), record(1, STOPPED, 0.9, 1.0)])
    assert (counts.best, counts.best_trial, counts.num_samples) == (0.7, 0, 20)


def test_what_is_to_come_follows_from_trials_and_for_finals_from_whole_ones() -> None:
    counts = Counts.of([record(0, FINISHED, 0.7, 3600.0), record(1, STOPPED, 0.6, 1200.0)])
    counts.add(FAILED, 2, (), took_s=9999.0)
    counts.running_s = 600.0
    assert plan().to_come_s(counts) == 3 * 2400.0 - 600.0 + 4 * 3600.0
    assert plan().eta_s(counts) == (3 * 2400.0 - 600.0 + 4 * 3600.0) / 2


def test_nothing_is_expected_before_a_trial_has_ended() -> None:
    counts = Counts(running=2, running_s=360.0)
    assert plan().eta_s(counts) is None
    said = in_words(counts, plan({"CPU": 2.0, "GPU": 0.5}))
    assert said == "2 running, 12.00 CPU-minutes, 3.00 GPU-minutes, 0 samples"


def test_hours_so_far_and_to_come_are_said() -> None:
    counts = Counts.of([record(0, FINISHED, 0.75, 1800.0), record(1, STOPPED, 0.5, 1800.0)])
    assert in_words(counts, plan()) == (
        "0 running, 1 finished, 1 stopped early, best accuracy 0.75 (trial 0), "
        "2.00 + 8.00 CPU-hours, 20 samples"
    )


def test_the_price_of_the_cluster_makes_hours_money(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts.of([record(0, FINISHED, 0.75, 1800.0), record(1, STOPPED, 0.5, 1800.0)])
    monkeypatch.setattr("time.monotonic", lambda: counts.began_s + 900.0)
    said = in_words(counts, plan(price=10.0))
    assert "cost 7.50 + 20.00" in said  # an earlier start's half an hour and this quarter; 2 hours


def test_finals_train_every_seed_but_that_of_the_trials() -> None:
    search = SearchConfig(finalists=2, final_seeds=[0, 1, 2], workers_per_trial=3)
    scaling = {"cpus_per_worker": 2.0, "gpus_per_worker": 0.5}
    found = Plan.of(search, scaling, at_once=4, cost_per_hour=None)
    assert (found.num_final_fits, found.held) == (6, {"CPU": 6.0, "GPU": 1.5})
