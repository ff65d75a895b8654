"""Names of curves cover neither each other nor other curves."""

import numpy as np
from matplotlib.axes import Axes

from mke_ray.report import style
from mke_ray.report.line_ends import LineEnd, name_ends, nearest_places

HEIGHTS = np.linspace(0.0, 1.0, 101)


def drawn(ends: list[LineEnd]) -> tuple[Axes, dict[str, float]]:
    """Return axes with flat curves, and how high their names stand."""
    with style.house_style():
        axes = style.new_figure(2.95).subplots()
        for one in ends:
            axes.plot([0, one.x], [one.y, one.y])
        axes.set_ylim(-0.1, 1.9)
        name_ends(axes, ends)
    return axes, {one.get_text(): one.get_position()[1] for one in axes.texts}


def test_no_curve_runs_through_the_name_of_one_that_ended_before() -> None:
    """The teacher's goes on where two others end."""
    ends = [LineEnd("mm_supervised", 200, 0.02), LineEnd("mm_labelled_only", 200, 0.1)]
    _, places = drawn([*ends, LineEnd("teacher", 300, 0.0)])
    assert abs(places["All true labels"]) > 0.09
    assert places["Paired labels only"] - places["All true labels"] >= 0.19
    assert places["Teacher"] == 0.0


def test_a_long_name_before_the_column_keeps_clear_of_the_names_in_it() -> None:
    """It reaches into the column, so it stands elsewhere."""
    _, places = drawn([LineEnd("mm_student_no_reg", 260, 1.0), LineEnd("mke", 300, 1.12)])
    assert abs(places["No regularisation"] - places["MKE"]) >= 0.19


def test_all_names_lie_within_the_axes() -> None:
    """Many equal ends widen them."""
    arms = ("teacher", "mke", "um_student", "mm_student", "noisy_student")
    axes, places = drawn([LineEnd(arm, 300, -0.1) for arm in arms])
    assert min(places.values()) >= axes.get_ylim()[0]


def test_names_are_moved_as_little_as_it_takes_and_keep_their_order() -> None:
    """Taken heights are left out; without room they are moved apart alone."""
    free = np.ones((2, len(HEIGHTS)), bool)
    np.testing.assert_allclose(nearest_places([0.2, 0.8], free, HEIGHTS, 0.1), [0.2, 0.8])
    free[:, HEIGHTS < 0.305] = False
    first, second = nearest_places([0.2, 0.25], free, HEIGHTS, 0.0999)
    np.testing.assert_allclose([first, second], [0.31, 0.41])
    crowded = nearest_places([0.2, 0.2], np.zeros_like(free), HEIGHTS, 0.1)
    np.testing.assert_allclose(crowded, [0.15, 0.25])
    assert nearest_places([], free[:0], HEIGHTS, 0.1) == []
