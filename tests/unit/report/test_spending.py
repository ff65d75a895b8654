"""What the page says of the pass over the source."""

from dataclasses import replace

from mke_ray.report import Throughput
from mke_ray.report.spending import throughput_rows

WHOLE = Throughput(2000, 33.3, 72.0, 2, {"decode": 0.7}, 2000, 7200.0, 10**8, 10**7)


def test_a_pass_is_shown_with_its_rates():
    rows = dict(throughput_rows(WHOLE, 50.0))
    assert rows["Samples worked on"] == "2,000 in 2 starts"
    assert rows["Samples per second"] == "33.3"
    assert rows["Media per wall-clock hour"] == "100.0 h"
    assert (rows["Cost of the pass"], rows["Cost per 1,000 samples"]) == ("1.00", "0.5000")
    assert "Of them without a report" not in rows


def test_samples_that_nobody_told_of_are_counted_and_no_rate_is_made_of_the_others():
    rows = dict(throughput_rows(replace(WHOLE, samples_per_s=None, num_untold=500), 50.0))
    assert rows["Samples worked on"] == "2,500 in 2 starts"
    assert rows["Of them without a report"].startswith("500;")
    assert rows["Cost of the pass"] == "1.00 or more"
    rates = {"Samples per second", "Media per wall-clock hour", "Cost per 1,000 samples"}
    assert not rates & set(rows)
