"""Figures of a search: nothing hides anything, and the range is that of what can be compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mke_ray.report.style import Picture
from mke_ray.search.figures import search_pictures
from mke_ray.search.key_figures import comparable, fanned, shown_range, side_by_side
from mke_ray.search.ledger import FAILED, FINISHED, STOPPED, TrialRecord
from mke_ray.search.searcher import StudySettings, study_of
from mke_ray.search.space import Space

SPACE = Space.parse(
    {
        "fusion": {"type": "choice", "values": ["concat", "gated"]},
        "lr": {"type": "loguniform", "low": 0.001, "high": 0.1},
    }
)


def record(number: int, state: str, quality: float) -> TrialRecord:
    look = {"step": 10, "quality": quality, "metric": quality, "seconds": 1.0, "samples": 10}
    params = {"fusion": ["concat", "gated"][number % 2], "lr": 0.001 * (1 + number)}
    return TrialRecord(number, state, params, params, (look,))


def pictures(records: list[TrialRecord]) -> dict[str, Picture]:
    study = study_of(StudySettings("tpe", 0), SPACE, records)
    return {one.name: one for one in search_pictures(records, 1, study, "accuracy")}


def test_marks_that_would_hide_one_another_stand_side_by_side() -> None:
    x_T, y_T = np.asarray([0.5, 0.5, 0.5, 0.1]), np.asarray([0.7, 0.7, 0.9, 0.7])
    moved_T = side_by_side(x_T, y_T)
    assert (moved_T[0], moved_T[2], moved_T[3]) == (0.5, 0.5, 0.1)
    assert 0.02 < abs(moved_T[1] - 0.5) < 0.06
    crowd_T = side_by_side(np.full(9, 0.5), np.full(9, 0.7))
    assert np.diff(np.sort(crowd_T)).min() > 0.03
    assert np.mean(crowd_T) == pytest.approx(0.5, abs=0.02)


def test_equal_heights_are_spread_around_their_value_and_others_left() -> None:
    spread_T = fanned(np.asarray([0.5, 0.2, 0.5, np.nan, 0.5]))
    assert len(set(spread_T[[0, 2, 4]])) == 3 and np.mean(spread_T[[0, 2, 4]]) == 0.5
    assert spread_T[1] == 0.2 and np.isnan(spread_T[3])


def test_trials_that_lie_far_below_do_not_press_the_others_together() -> None:
    qualities = [0.9, 0.94, 0.92, 0.91, 0.1]
    low, high = shown_range([record(n, FINISHED, one) for n, one in enumerate(qualities)])
    assert 0.8 < low < 0.9 and 0.94 < high < 0.96
    assert shown_range([record(0, FINISHED, 0.9)]) == (0.89, 0.91)


def test_trials_are_compared_at_the_last_look_that_all_came_to() -> None:
    long, short = record(0, FINISHED, 0.5), record(1, STOPPED, 0.7)
    more = replace(long, curve=(*long.curve, {**long.curve[0], "step": 20, "quality": 0.9}))
    failed = TrialRecord(2, FAILED, {}, {})
    assert [one.quality for one in comparable([more, short, failed])] == [0.5, 0.7]
    assert comparable([failed]) == []


def test_a_search_of_equal_trials_is_drawn(tmp_path: Path) -> None:
    records = [record(number, FINISHED, 0.9) for number in range(6)]
    drawn = pictures([*records, record(6, STOPPED, 0.2), record(7, STOPPED, 0.95)])
    assert list(drawn) == ["trials", "importances", "slices", "parallel"]
    for name, one in drawn.items():
        (tmp_path / f"{name}.png").write_bytes(one.png)
    assert "2 of 8 trials were stopped early" in drawn["trials"].note


def test_marks_that_are_moved_stay_within_the_figure() -> None:
    moved_T = side_by_side(np.full(8, 0.02), np.zeros(8))
    assert len(set(moved_T.round(3))) == 8 and moved_T.min() >= 0.02 and moved_T.max() <= 1.0
