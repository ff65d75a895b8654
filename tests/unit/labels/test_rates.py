"""Sums of a pass, and what follows from them."""

import json

import pytest

from mke_ray.labels.pass_state import PassState
from mke_ray.labels.rates import PassRates
from mke_ray.labels.worker import UnitReport
from mke_ray.schema import StatusCounts


def report(num_samples, **more):
    return UnitReport("u", StatusCounts(ok=num_samples), **more)


@pytest.fixture
def rates():
    sums = PassRates(work_s=24.0, wall_s=84.0, num_starts=1)
    sums.add(
        report(
            30,
            seconds={"write": 1.0, "decode": 4.0},
            num_bytes_read=40_000_000,
            num_bytes_needed=30_000_000,
            num_bytes_written=600,
            duration_s=1800.0,
        )
    )
    sums.add(report(10, seconds={"read": 3.0, "teacher": 2.0}, num_bytes_written=200))
    return sums


def test_units_are_added_up_and_the_largest_stage_comes_first(rates):
    assert (rates.num_samples, rates.num_decoded, rates.num_bytes_written) == (40, 30, 800)
    assert (rates.num_bytes_read, rates.num_bytes_needed) == (40_000_000, 30_000_000)
    assert list(rates.shares().items()) == [
        ("decode", 0.4),
        ("read", 0.3),
        ("teacher", 0.2),
        ("write", 0.1),
    ]
    assert rates.samples_per_s == pytest.approx(40 / 24)
    assert PassRates().samples_per_s is None and PassRates().shares() == {}


def test_sums_of_two_starts_and_what_came_since_the_last(rates):
    both = rates.plus(rates)
    assert (both.num_samples, both.wall_s, both.num_starts) == (80, 168.0, 2)
    assert both.seconds == {"write": 2.0, "decode": 8.0, "read": 6.0, "teacher": 4.0}
    assert both.plus(rates, sign=-1) == rates
    both.seconds["write"] = 99.0
    assert rates.seconds["write"] == 1.0


def test_sums_are_read_back_and_nothing_else_is(rates):
    assert PassRates.from_json(rates.to_json()) == rates
    plain = json.loads(rates.to_json())
    wrong = [[], {}, {"seconds": 3}, plain | {"work_s": "7"}, plain | {"work_s": float("nan")}]
    wrong += [plain | {"num_samples": -1}, plain | {"seconds": {"decode": None}}]
    for one in wrong:
        with pytest.raises(ValueError, match="no "):
            PassRates.from_json(json.dumps(one))
    assert PassRates.from_json(json.dumps(plain | {"of_a_later_version": 1})) == rates


def test_hours_cost_and_storage_follow_from_the_sums_of_all_starts(rates):
    state = PassState(
        num_done=100,
        num_wanted=300,
        eta_s=1800.0,
        rates=PassRates(),
        total=rates,
        cost_per_hour=3600.0,
    )
    assert (state.num_left, state.num_bytes_to_come) == (200, 4000.0)
    assert (state.media_done_s, state.media_wanted_s) == (6000.0, 18000.0)
    assert (state.cost, state.cost_to_come) == (84.0, 1800.0)
    assert not state.is_media_known
    assert PassState(num_done=30, num_wanted=30, total=rates).is_media_known


def test_without_a_rate_or_a_price_nothing_is_made_up():
    state = PassState(num_done=0, num_wanted=300, cost_per_hour=3600.0)
    assert (state.cost, state.cost_to_come) == (0.0, None)
    assert (state.media_wanted_s, state.num_bytes_to_come) == (0.0, 0.0)
    assert PassState(eta_s=10.0).cost is None
