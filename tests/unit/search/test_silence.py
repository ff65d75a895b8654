"""A trial is ended after it said nothing for as long as this process listened."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from mke_ray.search.silence import Silence


@dataclass
class Running:
    """A trial of Tune that runs, as far as it is listened to."""

    trial_id: str
    max_failures: int = 3
    ray_actor: str | None = "actor"

    @property
    def temporary_state(self) -> "Running":
        return self


@dataclass
class Listened:
    """A clock that is set by hand, and the processes that were killed."""

    now_s: float = 0.0
    killed: list[Any] = field(default_factory=list)

    def goes_on(self, silence: Silence, trials: list[Running], seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1.0
            silence.end_silent(trials)


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> Listened:
    found = Listened()
    monkeypatch.setattr("time.monotonic", lambda: found.now_s)
    monkeypatch.setattr("ray.kill", found.killed.append)
    return found


def test_a_silent_trial_is_killed_and_not_begun_again(listened: Listened) -> None:
    silence = Silence(60.0)
    silent, loud = Running("a"), Running("b", ray_actor="other")
    for _ in range(4):
        listened.goes_on(silence, [silent, loud], 20)
        silence.heard(loud)
    assert listened.killed == ["actor"] and silent.max_failures == 0
    assert "search.silence_s" in silence.reason_of(silent)
    assert (silence.reason_of(loud), loud.max_failures) == ("", 3)


def test_a_driver_that_was_held_up_takes_no_trial_for_hung(listened: Listened) -> None:
    silence, trial = Silence(60.0), Running("a")
    listened.goes_on(silence, [trial], 1)
    listened.now_s += 1000.0
    listened.goes_on(silence, [trial], 40)
    assert listened.killed == []
    listened.goes_on(silence, [trial], 20)
    assert listened.killed == ["actor"]


def test_without_a_bound_a_trial_is_waited_for(listened: Listened) -> None:
    listened.goes_on(Silence(None), [Running("a")], 9999)
    assert listened.killed == []


def test_a_trial_whose_process_is_being_started_again_is_left_alone(listened: Listened) -> None:
    listened.goes_on(Silence(60.0), [Running("a", ray_actor=None)], 100)
    assert listened.killed == []
