"""Trials are given under numbers, written once, and a search goes on from what is on record."""

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from mke_ray.errors import ConfigError
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, Begun, Ledger, TrialRecord
from mke_ray.search.searcher import NUMBER, LedgerSearcher, StudySettings, study_of
from mke_ray.search.space import Space
from mke_ray.storage import open_root

SPACE = Space.parse({"x": {"type": "uniform", "low": 0.0, "high": 1.0}})


class FakeFit:
    """Stands for a fit: the searcher sends it on and reads its fingerprint."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def to_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def fingerprint(self) -> str:
        return f"fit-{self.values}"


class FakeCandidate:
    def __init__(self, values: Any) -> None:
        self.fit, self.engine, self.scaling = FakeFit(values), {}, {}


def searcher_of(folder: Path, num_trials: int = 4, **changes: Any) -> LedgerSearcher:
    given = {"candidate": FakeCandidate, "usual": {"x": 0.5}, **changes}
    ledger = Ledger(open_root(str(folder)))
    settings = StudySettings("tpe", 0)
    return LedgerSearcher(ledger, SPACE, settings, num_trials=num_trials, **given)


def look(quality: float, step: int = 10) -> dict[str, Any]:
    return {
        "look": 1,
        "step": step,
        "quality": quality,
        "metric": quality,
        "seconds": 1.0,
        "samples": 640,
    }


def report(quality: float) -> dict[str, Any]:
    return {"curve": [look(quality)], "num_parameters": 7}


def test_the_first_trial_is_the_configuration_as_it_is(tmp_path: Path) -> None:
    first = searcher_of(tmp_path).suggest("t0")
    assert first[NUMBER] == 0 and first["fit"]["values"] == {"x": 0.5}


def test_a_configuration_outside_the_space_is_tried_as_it_is(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path, usual={"x": 7.0})
    assert searcher.suggest("t0")["fit"]["values"] == {}
    searcher.ended("t0", FINISHED, report(0.5))
    (record,) = Ledger(open_root(str(tmp_path))).ended()
    assert record.params == {} and record.quality == 0.5


def test_what_is_drawn_does_not_depend_on_when_a_search_was_started(tmp_path: Path) -> None:
    whole = searcher_of(tmp_path / "whole", num_trials=6)
    drawn = [whole.suggest(f"t{i}")["fit"]["values"]["x"] for i in range(6)]
    assert len(set(drawn)) == 6
    parts = []
    for _ in range(6):
        part = searcher_of(tmp_path / "parts", num_trials=6)
        parts.append(part.suggest("t")["fit"]["values"]["x"])
        part.ended("t", FAILED, {})
    assert parts == drawn


def test_as_many_trials_are_given_as_are_wanted_and_no_more(tmp_path: Path) -> None:
    searcher = searcher_of(tmp_path)
    numbers = [searcher.suggest(f"t{i}")[NUMBER] for i in range(4)]
    assert numbers == [0, 1, 2, 3]
    assert searcher.suggest("t4") == Searcher.FINISHED


def test_a_search_that_was_interrupted_goes_on_with_what_was_begun(tmp_path: Path) -> None:
    before = searcher_of(tmp_path)
    given = [before.suggest(f"t{i}") for i in range(3)]
    before.ended("t1", FINISHED, report(0.4))
    after = searcher_of(tmp_path)
    again = [after.suggest(f"u{i}") for i in range(3)]
    assert [one[NUMBER] for one in again] == [0, 2, 3]
    assert again[0]["fit"] == given[0]["fit"] and again[1]["fit"] == given[2]["fit"]
    for number in range(3):
        after.ended(f"u{number}", STOPPED, report(0.1))
    assert [one.number for one in Ledger(open_root(str(tmp_path))).ended()] == [0, 1, 2, 3]
    assert searcher_of(tmp_path).suggest("v") == Searcher.FINISHED


def test_the_first_record_of_a_trial_counts(tmp_path: Path) -> None:
    ledger = Ledger(open_root(str(tmp_path)))
    ledger.end(TrialRecord(0, FINISHED, {"x": 0.1}, {"x": 0.1}, (look(0.9),)))
    ledger.end(TrialRecord(0, FAILED, {"x": 0.1}, {"x": 0.1}, reason="late"))
    assert [one.state for one in ledger.ended()] == [FINISHED]


def test_values_that_do_not_fit_are_on_record_as_failed_and_the_next_are_given(
    tmp_path: Path,
) -> None:
    def candidate(values: Any) -> FakeCandidate:
        if values == {"x": 0.5}:
            raise ConfigError("x=0.5: does not fit")
        return FakeCandidate(values)

    searcher = searcher_of(tmp_path, candidate=candidate)
    assert searcher.suggest("t0")[NUMBER] == 1
    (record,) = Ledger(open_root(str(tmp_path))).ended()
    assert (record.state, record.reason) == (FAILED, "x=0.5: does not fit")


def test_optuna_is_told_how_every_trial_ended() -> None:
    records = [
        TrialRecord(0, FINISHED, {"x": 0.1}, {"x": 0.1}, (look(0.7), look(0.9, 20))),
        TrialRecord(1, STOPPED, {"x": 0.2}, {"x": 0.2}, (look(0.3),)),
        TrialRecord(2, FAILED, {"x": 0.3}, {"x": 0.3}, reason="lost"),
        TrialRecord(3, FINISHED, {}, {}, (look(0.5),)),
    ]
    trials = study_of(StudySettings("tpe", 0), SPACE, records).trials
    assert [one.state for one in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
    ]
    assert trials[0].value == 0.9 and trials[0].intermediate_values == {10: 0.7, 20: 0.9}


def test_two_goals_are_both_told() -> None:
    record = TrialRecord(0, FINISHED, {"x": 0.1}, {"x": 0.1}, (look(0.9),), num_parameters=50)
    settings = StudySettings("tpe", 0, cost="parameters")
    assert study_of(settings, SPACE, [record]).trials[0].values == [0.9, 50.0]


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"search\.sampler='grid'"):
        StudySettings("grid", 0).study()


def test_what_was_begun_is_known_until_it_ends(tmp_path: Path) -> None:
    ledger = Ledger(open_root(str(tmp_path)))
    ledger.begin(Begun(3, {"x": 0.2}, {"x": 0.2}))
    assert [one.number for one in ledger.interrupted()] == [3]
    ledger.end(TrialRecord(3, FAILED, {"x": 0.2}, {"x": 0.2}))
    assert ledger.interrupted() == []
