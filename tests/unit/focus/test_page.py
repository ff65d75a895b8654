"""How numbers of a study are shown."""

from mke_ray.focus.page import interval, points


def test_a_difference_that_rounds_to_nothing_is_not_below_it():
    """A minus before a zero would say that something is lost."""
    none = {"mean": -0.0, "std": 0.0, "ci95": [-0.0002, 0.0004]}
    assert points(none) == "+0.0 ± 0.0"
    assert interval(none) == "+0.0 to +0.0"
    lost = {"mean": -0.001, "std": 0.0, "ci95": [-0.002, -0.001]}
    assert points(lost) == "-0.1 ± 0.0"
    assert interval(lost) == "-0.2 to -0.1"
