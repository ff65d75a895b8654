"""Seconds are facts: only of stages that worked, of every start, however it ended."""

import json
from pathlib import Path

import pytest

from mke_ray.expansion import clock
from mke_ray.expansion.clock import SECONDS_NAME, StageClock
from mke_ray.storage import Root, open_root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(str(tmp_path))


@pytest.fixture(autouse=True)
def ten_seconds_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 1000, 10))
    monkeypatch.setattr(clock.time, "perf_counter", lambda: float(next(times)))


def run_stage(root: Root, name: str, *, works: bool, error: BaseException | None = None) -> None:
    """Run one stage of a new start of the run."""
    one = StageClock(root)
    with one.stage(name):
        if works:
            one.work_begins()
        if error is not None:
            raise error


def test_the_seconds_of_all_starts_add_up(root: Root) -> None:
    for name in ("teach", "label", "label"):
        run_stage(root, name, works=True)
    assert StageClock(root).seconds() == {"teach": 10.0, "label": 20.0, "total": 30.0}


def test_a_stage_that_found_everything_done_leaves_no_trace(root: Root) -> None:
    run_stage(root, "teach", works=False)
    assert list(root.names()) == []
    assert StageClock(root).seconds() == {"total": 0}


def test_work_in_one_stage_is_not_taken_for_work_in_the_next(root: Root) -> None:
    one = StageClock(root)
    with one.stage("teach"):
        one.work_begins()
    with one.stage("label"):
        pass
    assert StageClock(root).seconds() == {"teach": 10.0, "total": 10.0}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("gone")], ids=repr)
def test_a_stage_that_was_cut_short_counts_and_its_error_goes_on(
    root: Root, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        run_stage(root, "train", works=True, error=error)
    assert json.loads(root.read(SECONDS_NAME)) == {"train": 10.0}
