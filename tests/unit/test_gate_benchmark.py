"""The functions of benchmarks/gate.py on scores that are made up; its runs take minutes."""

import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from composed import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))

from gate_null import _made_groups, exchanged, of_few_groups, rows_of_made
from gate_runs import ARMS, PartScores, RunScores
from gate_tables import PROBE, TEST, UNLABELED, broken_pairs, mixture, shifted_probe
from gate_verdicts import cells_of, chosen_rows, judged, judged_again, rows_by_gain, share


def part(num_groups, *, better, seed=0):
    """Five samples a group; a share of those that the teacher gets wrong is put right."""
    rng = np.random.default_rng(seed)
    teacher = rng.random(5 * num_groups) < 0.7
    group = np.repeat([f"g{one}" for one in range(num_groups)], 5)
    right = np.where(teacher, True, rng.random(len(teacher)) < better)
    return PartScores(group, teacher, dict.fromkeys(ARMS, right))


@pytest.fixture
def run():
    return RunScores("mixture, clean", 3, part(80, better=0.5), part(300, better=0.5, seed=1))


def test_scores_survive_their_file(run, tmp_path):
    run.save(tmp_path / "one.npz")
    loaded = RunScores.load(tmp_path / "one.npz")
    assert (loaded.setting, loaded.draw) == ("mixture, clean", 3)
    assert np.array_equal(loaded.gate.group_N, run.gate.group_N)
    assert np.array_equal(loaded.test.arms["mke"], run.test.arms["mke"])


def test_a_smaller_gate_is_of_whole_groups_and_of_few_groups_of_some_samples_of_each():
    group = np.repeat(np.arange(80), 5)
    rows = chosen_rows(group, 52, seed=0)
    assert len(rows) == 55 and len(set(group[rows])) == 11
    few = np.repeat(np.arange(6), 50)
    assert len(chosen_rows(few, 100, seed=0)) == 100
    assert set(few[chosen_rows(few, 100, seed=0)]) == set(range(6))
    assert len(chosen_rows(group, 9000, seed=0)) == 400


def test_a_share_has_the_exact_interval_of_clopper_and_pearson():
    assert share([False] * 10) == "0.0% (0% to 31%) of 10"
    assert share([True] * 1 + [False] * 19) == "5.0% (0% to 25%) of 20"
    assert share([]) == "-"


def test_arms_are_judged_on_the_gate_part_and_told_good_or_bad_by_the_test_set(run):
    found = judged(run, 200)
    assert len(found) == len(ARMS) and all(one.decision.promoted for one in found)
    assert found[0].gain == pytest.approx(run.test.gain("mke")) and not found[0].is_bad
    assert found[0].decision.num_samples == 200
    assert cells_of(found)[:2] == ["5", "0 (0%)"]
    assert rows_by_gain(found)[-1][1].endswith("of 5")
    worse = RunScores("x", 0, run.gate, part(300, better=0.0))
    assert all(one.is_bad for one in judged(worse, 200))
    again = judged_again(run, 100, num_gates=3)
    assert len(again) == 3 * len(ARMS) and {one.decision.num_samples for one in again} == {100}


def test_exchanged_places_leave_no_gain(run):
    assert np.mean(list(exchanged([run], 200, num_trials=40))) < 0.12


def test_gates_of_few_groups_are_drawn_from_groups_without_a_gain():
    groups = [np.full(5, one) for one in np.random.default_rng(0).normal(0, 1, 500)]
    groups = [one - np.mean(groups) for one in groups]
    promoted, by_percentile = of_few_groups(groups, 5, num_trials=200)
    assert len(promoted) == 200 and np.mean(promoted) <= 0.08
    assert np.mean(by_percentile) > np.mean(promoted)


def test_made_groups_are_of_equals_on_average(monkeypatch):
    for has_outliers in (False, True):
        rng = np.random.default_rng(0)
        made = [_made_groups([4] * 10, rng, has_outliers=has_outliers) for _ in range(500)]
        assert abs(np.mean(made)) < 0.02
    monkeypatch.setattr("gate_null.MADE", {"8 of 5": [5] * 8})
    (row,) = rows_of_made(num_trials=20)
    assert row[0] == "8 of 5" and len(row) == 5


def test_broken_pairs_and_a_shifted_probe_touch_nothing_else(tmp_path):
    table = mixture(2)
    broken = broken_pairs(table, 2)
    is_unlabeled = table.split_N == UNLABELED
    assert np.array_equal(broken.other_NB[~is_unlabeled], table.other_NB[~is_unlabeled])
    assert not np.array_equal(broken.other_NB[is_unlabeled], table.other_NB[is_unlabeled])
    assert broken.other_NB.sum() == pytest.approx(table.other_NB.sum())
    shifted, is_probe = shifted_probe(table, 2), table.split_N == PROBE
    moved = shifted.other_NB - table.other_NB
    assert not moved[~is_probe].any() and np.ptp(moved[is_probe], axis=0).max() < 1e-9
    keys = table.write(tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").num_rows == len(table.label_N)
    assert (table.split_N == TEST).sum() == 3000 and "source.table=t.parquet" in keys
