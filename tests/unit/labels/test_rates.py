"""What a pass says of its speed and cost."""

from mke_ray.labels.rates import PassRates, cost_text
from mke_ray.labels.worker import UnitReport
from mke_ray.schema import StatusCounts


def report(num_samples, **more):
    return UnitReport("u", StatusCounts(ok=num_samples), **more)


def test_the_rate_what_was_read_and_the_largest_stage_first():
    rates = PassRates()
    rates.add(
        report(
            30,
            seconds={"write": 1.0, "decode": 4.0},
            num_bytes_read=40_000_000,
            num_bytes_needed=30_000_000,
            duration_s=1800.0,
        )
    )
    rates.add(report(30, seconds={"decode": 3.0, "teacher": 2.0}, duration_s=1800.0))
    assert rates.text(24.0) == (
        "2.5 samples/s, 1.00 h of media, 40 MB read (75% needed), "
        "decode 70%, teacher 20%, write 10%"
    )


def test_what_was_stored_already_is_not_said_to_be_read():
    rates = PassRates()
    assert rates.text(1.0) == ""
    rates.add(report(10, seconds={"read": 1.0}))
    assert rates.text(2.0) == "5.0 samples/s, read 100%"


def test_cost_so_far_and_to_come():
    assert cost_text(1800.0, None, 12.0) == "cost 6.00"
    assert cost_text(1800.0, 9000.0, 12.0) == "cost 6.00 and 30.00 to come"
