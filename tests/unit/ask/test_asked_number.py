"""Who asks for few samples is told why there are more."""

import pytest

from mke_ray.ask.job import more_than_wanted, planned_line
from mke_ray.config_ask import AskConfig
from mke_ray.labels.asked import AskedSample, AskRecord


def record(num, *, strata):
    samples = tuple(
        AskedSample(f"q-{number}", number, "clip.mp4", None, None, f"g{number}", stratum)
        for number, stratum in enumerate(strata)
    )
    return AskRecord("q", "settle", "fit", 0, 1.0, {}, samples, num=num)


@pytest.mark.parametrize(
    ("num", "strata", "said"),
    [
        (
            6,
            ["agree"] * 7 + ["disagree"] * 7,
            " (asked for 6: at least 5 groups from each of 2 strata, and groups are whole)",
        ),
        (
            3,
            ["agree"] * 5,
            " (asked for 3: at least 5 groups from each of 1 stratum, and groups are whole)",
        ),
        (6, [""] * 8, " (asked for 6: groups are whole)"),
        (14, ["agree"] * 14, ""),
        (0, ["agree"] * 14, ""),
    ],
)
def test_more_samples_than_wanted_have_a_reason(num, strata, said):
    assert more_than_wanted(record(num, strata=strata)) == said


def test_a_dry_run_says_what_is_asked_for_at_least():
    assert "about 6 samples would be asked for, more where they are few: at least 5" in (
        planned_line(AskConfig(num=6))
    )
    assert "at least" not in planned_line(AskConfig(num=6, purpose="learn"))
