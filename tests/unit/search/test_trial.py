"""What a trial reports: a sign of life now and then, by which nothing is compared."""

from types import SimpleNamespace
from typing import Any

import pytest

from mke_ray.config_search import SearchConfig
from mke_ray.search.stopping import scheduler_of
from mke_ray.search.trial import CURVE, LOOK, QUALITY, TrialPlace, TrialWatch
from mke_ray.search.tuning import rungs_of
from mke_ray.storage import open_root

SPEC: Any = SimpleNamespace(
    validate_every_steps=5, name="mm_student", total_steps=lambda batches: 20
)
PARTS: Any = SimpleNamespace(
    feed=SimpleNamespace(plan=SimpleNamespace(global_batch=8), batches_per_epoch=4)
)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a trial of 20 steps of 4 seconds reports, with looks after every fifth, the first."""
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now_s)
    told: list[dict[str, Any]] = []
    place = TrialPlace(open_root("memory://trial"), (1, 4))
    watch = TrialWatch(SPEC, place, told.append, _told_s=0.0)
    history: list[dict[str, Any]] = []
    for step in range(1, 20):
        clock.now_s += 4.0
        if step % 5 == 0:
            history.append({"step": step, "select_accuracy": step / 20})
        state: Any = SimpleNamespace(cursor=step, history=history, seconds=clock.now_s)
        watch.after_step(PARTS, state)
    return told


def test_a_step_is_told_now_and_then_without_a_quality(reports: list[dict[str, Any]]) -> None:
    signs = [one for one in reports if QUALITY not in one]
    assert [one[LOOK] for one in reports].count(1) == 1
    assert 4 <= len(signs) <= 8 and all(one[LOOK] == 0 for one in signs)
    assert [len(one[CURVE]) for one in signs] == sorted(len(one[CURVE]) for one in signs)
    assert (len(signs[0][CURVE]), len(signs[-1][CURVE])) == (0, 3)


def test_what_a_trial_would_be_trained_on_is_told(reports: list[dict[str, Any]]) -> None:
    (look,) = [one for one in reports if QUALITY in one]
    assert (look["full_samples"], look[CURVE][-1]["samples"]) == (160, 40)


def test_no_scheduler_compares_by_a_sign(reports: list[dict[str, Any]]) -> None:
    keys, trial = SearchConfig(reduction=2, rungs=3), SimpleNamespace(trial_id="a")
    for scheduler in ("asha", "fifo"):
        keys.scheduler = scheduler
        found: Any = scheduler_of(keys, rungs_of(keys), [])
        found.on_trial_add(None, trial)
        signs = [one for one in reports if QUALITY not in one]
        assert {found.on_trial_result(None, trial, one) for one in signs} == {"CONTINUE"}
