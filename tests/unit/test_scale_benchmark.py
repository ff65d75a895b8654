"""The stages of benchmarks/scale.py at sizes that take seconds, and its plan on made-up costs."""

import sys
from dataclasses import replace

import pytest
from composed import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))

from scale import _growth, main
from scale_plan import Assumed, plan_lines
from scale_stages import UNIT_STAGES, WORKER_STAGES, bytes_below, list_rows, measured

NUM_UNITS = 40


@pytest.fixture
def costs():
    curve = [{"cpu_s": size / 1e4, "grown_mb": 0.001 * size} for size in (1000, 2000, 4000)]
    stages = ("index", "resume", "index read", "reports")
    worker = {"units": 100, "cpu_s": 0.4}
    units = {
        "sizes": [1000, 2000, 4000],
        "curves": dict.fromkeys(stages, curve),
        "bytes": {"commits": 1_600_000, "index": 80_000},
        "workers": {"commit": worker, "compaction": worker},
    }
    rows = {
        "sizes": [1000, 2000, 4000],
        "curves": {"first listing": curve},
        "bytes": {"part": 320_000},
    }
    return {"rows": rows, "units": units, "actors": {"passes": [{"calls": 10, "driver_s": 0.08}]}}


def cells(lines, first, *, table=""):
    """Return a row of the table whose head begins so."""
    after = lines[next(n for n, one in enumerate(lines) if one.startswith(f"| {table}")) :]
    line = next(one for one in after if one.startswith(f"| {first} |"))
    return [one.strip() for one in line.strip("|").split("|")]


def test_twice_the_data_is_what_growth_is_told_by():
    curve = [{"cpu_s": 1.0}, {"cpu_s": 2.0}, {"cpu_s": 4.0}]
    assert _growth(curve, "cpu_s") == pytest.approx(2.0)
    assert _growth([{"cpu_s": 3.0}] * 4, "cpu_s") == pytest.approx(1.0)


def test_a_plan_is_what_a_clip_takes_times_how_many_there_are(costs):
    lines = plan_lines(costs, Assumed(num_clips=32_000_000))
    assert cells(lines, "list")[2] == "0.9"  # 32 million rows of 0.1 ms each
    assert cells(lines, "label", table="requests")[1:4] == ["4,000,000", "7,000,000", "8,000"]
    assert cells(lines, "manifest")[1:] == ["2.6 GB", "80 bytes a clip"]
    driver = cells(lines, "the driver hands units over")
    assert driver[1] == "0.3 h of one core"  # a million units: 0.1 ms each, and a call for eight
    twice = plan_lines(costs, Assumed(num_clips=64_000_000))
    assert cells(twice, "clips fetched")[2] == "64,000,000"


def test_a_slow_driver_is_what_a_pass_waits_for(costs):
    few = Assumed(32_000_000, decode_nodes=10_000, teacher_nodes=10_000, num_prefixes=100)
    quick = float(cells(plan_lines(costs, few), "label")[2])
    costs["actors"]["passes"][0]["driver_s"] *= 10
    slow = float(cells(plan_lines(costs, few), "label")[2])
    assert quick < 0.4 and slow > 2.7


def test_a_stage_takes_no_less_than_its_requests_to_a_prefix_of_the_store(costs):
    one = Assumed(num_clips=32 * 1_260_000, decode_nodes=10_000, teacher_nodes=10_000)
    lines = plan_lines(costs, one)
    assert cells(lines, "label")[2] == "2.0"  # 40.32 million clips at 5,500 a second
    assert cells(lines, "compact")[2] == "0.4"  # two writes and two deletes of a unit, at 3,500
    assert cells(lines, "clips are fetched: requests")[1] == "2.0 h, prefixes: 1"
    split = plan_lines(costs, replace(one, num_prefixes=4))
    assert cells(split, "label")[2] == "0.5"
    slow = plan_lines(costs, replace(one, get_rate=55.0))
    assert cells(slow, "train, 6 epochs in all")[2] == "76.4"  # two reads of a unit and epoch
    assert float(cells(slow, "list")[2]) == float(cells(lines, "list")[2])


def test_a_plan_without_measured_costs_says_what_to_run_first(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scale.py", "plan", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=rf"run scale.py rows units --out {tmp_path} first"):
        main()


def test_every_stage_does_what_it_is_measured_for(tmp_path):
    curve = list_rows(str(tmp_path / "rows"), [160, 320, 640])
    assert len(curve) == 3 and all(one["cpu_s"] > 0 for one in curve)
    assert bytes_below(str(tmp_path / "rows"))["part"] > 640
    for name, stages in (("made", UNIT_STAGES), ("committed", WORKER_STAGES)):
        for stage in stages.values():
            assert measured(stage, str(tmp_path / name), NUM_UNITS)["cpu_s"] > 0
    assert bytes_below(str(tmp_path / "committed"))["parts"] > 0
