"""Paired differences over draws, by hand."""

import pytest

from mke_ray.focus.spreads import paired, spread


def test_a_paired_interval_is_that_of_student() -> None:
    found = paired([1.0, 2.0, 6.0], [0.0, 0.0, 0.0])
    assert found["mean"] == pytest.approx(3.0)
    assert found["std"] == pytest.approx((14 / 3) ** 0.5)
    half = 4.302652729911275 * (7.0 / 3.0) ** 0.5  # t of two degrees of freedom, s^2 / n
    assert found["ci95"] == pytest.approx([3.0 - half, 3.0 + half])
    assert found["above"] == 1.0


def test_what_all_draws_share_does_not_widen_a_paired_interval() -> None:
    found = paired([10.0, 50.0, 90.5], [9.0, 49.0, 89.5])
    assert found["std"] == pytest.approx(0.0)
    assert found["ci95"] == pytest.approx([1.0, 1.0])


def test_one_draw_has_no_interval() -> None:
    assert paired([1.0], [2.0])["ci95"] is None
    assert paired([1.0], [2.0])["above"] == 0.0
    assert spread([1.0, 3.0]) == {"mean": 2.0, "std": 1.0}
