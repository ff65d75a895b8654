"""What a person reads of a pass."""

from dataclasses import replace

import pytest

from mke_ray.labels.pass_state import PassState
from mke_ray.labels.pass_words import (
    MAX_LINE_LETTERS,
    bottleneck,
    bytes_text,
    in_all,
    line,
    summary,
)
from mke_ray.labels.rates import PassRates

RATES = PassRates(
    num_samples=60,
    num_decoded=60,
    seconds={"fetch": 2.0, "decode": 7.0, "teacher": 1.0},
    num_bytes_read=40_000_000,
    num_bytes_needed=30_000_000,
    num_bytes_written=6_000_000,
    duration_s=3600.0,
    work_s=24.0,
    wall_s=84.0,
    num_starts=1,
)
STATE = PassState(num_done=60, num_wanted=150, eta_s=36.0, rates=RATES, total=RATES)


def test_a_line_says_rate_hours_the_largest_stage_and_what_else_fits():
    assert line(STATE) == (
        "2.5 samples/s, 1.00 of about 2.50 h, decode 70%, 40.0 MB read (75% needed)"
    )


def test_a_line_has_the_cost_before_the_rest_and_stays_short():
    said = line(replace(STATE, cost_per_hour=3600.0))
    assert said.startswith("2.5 samples/s, 1.00 of about 2.50 h, decode 70%, cost 84.00 + 36.00")
    assert len(said) <= MAX_LINE_LETTERS
    dear = replace(STATE, cost_per_hour=3600.0, eta_s=None)
    assert "cost 84.00," in f"{line(dear)}," and "+" not in line(dear)


def test_hours_are_not_about_once_all_are_known_and_absent_where_nothing_has_a_length():
    assert "1.00 of 1.00 h" in line(replace(STATE, num_wanted=60))
    features = replace(RATES, duration_s=0.0, num_bytes_read=0)
    said = line(PassState(60, 150, 36.0, features, features))
    assert said == "2.5 samples/s, decode 70%, 9.0 MB to store, fetch 20%, teacher 10%"


def test_nothing_is_said_before_work_began():
    assert line(PassState(num_wanted=10, cost_per_hour=1.0)) == ""


def test_the_summary_says_where_the_time_went_and_what_to_change():
    took, stages, read = summary(replace(STATE, cost_per_hour=3600.0))
    assert took == (
        "60 samples in 0:01:24, 2.5 samples/s once workers had started, 1.00 h of media, cost 84.00"
    )
    assert stages.startswith(
        "time of the workers: decode 70%, fetch 20%, teacher 10%; decode is the bottleneck: "
    )
    assert "labelling.max_actors" in stages
    assert read == "40.0 MB read (75% needed), 6.0 MB written (100 kB per sample)"


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("fetch", "labelling.num_cpus"),
        ("teacher", "labelling.num_gpus"),
        ("write", "labelling.unit_size"),
        ("read", "labelling.max_actors"),
    ],
)
def test_every_bottleneck_names_a_key(stage, key):
    said = bottleneck(PassRates(seconds={"other": 1.0, stage: 2.0}))
    assert said.startswith(f"{stage} is the bottleneck") and key in said


def test_all_starts_are_summed_in_words():
    both = replace(STATE, total=RATES.plus(RATES), cost_per_hour=3600.0)
    assert summary(both)[1] == in_all(both)
    assert in_all(both).startswith("in all, 120 samples in 0:02:48 of 2 starts, 2.5 samples/s")
    assert in_all(both).endswith("2.00 h of media, cost 168")
    assert in_all(PassState()) == ""


def test_samples_that_nobody_told_of_are_said_and_no_rate_is_made_of_the_others():
    told = replace(RATES.plus(RATES), num_samples=116, wall_s=43.0)
    lost = PassState(384, 384, 0.0, RATES, told, cost_per_hour=3600.0)
    assert in_all(lost) == (
        "in all, 384 samples are stored, in 0:00:43 or more of 2 starts, no report came of 268 of "
        "them before a start was ended, 2.00 h of media in the others, cost 43.00 or more"
    )
    assert summary(lost)[0].startswith("60 samples in 0:01:24, 2.5 samples/s")
    few = in_all(replace(lost, total=replace(told, num_samples=381)))
    assert "no report came of 3 of them" in few and "samples/s once workers had started" in few


def test_what_was_spilled_is_said_with_the_key_to_change():
    assert not any("disk" in one for one in summary(STATE))
    said = summary(STATE, num_bytes_spilled=188_745_204)[-1]
    assert "wrote 189 MB to disk" in said and "labelling.max_actors" in said


def test_bytes_are_read_as_a_person_writes_them():
    given = (0, 999, 1500, 2.5e6, 4.2e9, 3e12, 250e12)
    assert [bytes_text(one) for one in given] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "4.2 GB",
        "3.0 TB",
        "250 TB",
    ]
