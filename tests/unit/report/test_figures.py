import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from mke_ray.report import style
from mke_ray.report.figures import (
    ArmBar,
    Curve,
    FlowBar,
    arms_picture,
    curves_picture,
    decision_boundaries,
    flow_picture,
    smooth,
)

BARS = [
    ArmBar("teacher", 0.65, 0.62, 0.68),
    ArmBar("mke", 0.87, 0.84, 0.90, (0.86, 0.88)),
    ArmBar("mm_supervised", 0.95, 0.93, 0.97),
]


@pytest.fixture(scope="module")
def arms():
    return arms_picture(BARS, shipped="mke", metric="Accuracy")


def test_a_picture_is_a_png_of_twice_the_size_and_an_svg_that_parses(arms):
    image = Image.open(io.BytesIO(arms.png))
    assert image.width == round(style.WIDTH_IN * style.PNG_DPI)
    assert ET.fromstring(arms.svg).tag.endswith("svg")


def test_the_alt_text_holds_the_numbers(arms):
    assert "MKE as published 87.0% (84.0% to 90.0%)" in arms.alt
    assert 'aria-label="Accuracy on the test set' in arms.svg


def test_the_svg_takes_its_colours_from_the_page(arms):
    assert "var(--blue)" in arms.svg
    assert "var(--ink)" in arms.svg
    assert style.INK not in arms.svg


def test_two_drawings_on_a_page_share_no_ids(arms):
    flow = flow_picture([FlowBar("mke", 600, 400, 240, 12)])
    first, second = (set(re.findall(r'\bid="([^"]+)"', one.svg)) for one in (arms, flow))
    assert first
    assert not first & second
    targets = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', arms.svg))
    assert {a or b for a, b in targets} <= first


def test_the_same_numbers_give_the_same_drawing(arms):
    assert arms_picture(BARS, shipped="mke", metric="Accuracy").svg == arms.svg


def test_only_the_shipped_arm_is_highlighted():
    none = arms_picture(BARS, shipped="other", metric="Accuracy")
    assert "var(--blue)" not in none.svg


def test_an_arm_without_an_interval_can_be_drawn():
    assert arms_picture([ArmBar("teacher", 0.5, 0.5, 0.5)], shipped="x", metric="Accuracy").png


def test_what_was_corrected_is_said_in_words():
    picture = flow_picture([FlowBar("mke", 600, 400, 240, 12), FlowBar("um_student", 5, 0, 0, 1)])
    assert "corrected 60.0% of the wrong answers and corrupted 2.0% of the right" in picture.alt
    assert "corrected none of the wrong answers" in picture.alt


def test_curves_of_several_seeds_and_lengths_are_drawn_in_one_figure():
    losses = [
        Curve("mke", seed, range(1, 501), np.exp(-np.arange(500) / 90) + seed) for seed in (0, 1)
    ]
    losses.append(Curve("teacher", 0, range(1, 101), np.exp(-np.arange(100) / 30)))
    accuracies = [Curve("mke", 0, [100, 200], [0.5, 0.6])]
    both = Image.open(io.BytesIO(curves_picture(losses, accuracies).png))
    one = Image.open(io.BytesIO(curves_picture(losses, []).png))
    assert both.height > 1.8 * one.height


def test_smoothing_keeps_a_line_and_flattens_noise():
    np.testing.assert_allclose(smooth(np.full(30, 2.0), 4), 2.0)
    np.testing.assert_allclose(smooth([3.0, 1.0, 2.0], 0), [3.0, 1.0, 2.0])
    noise = np.random.default_rng(0).normal(size=500)
    assert smooth(noise, 12).std() < 0.4 * noise.std()


def test_boundaries_show_how_many_points_each_classifier_has_right():
    points = np.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])
    labels = np.array([0, 1, 0, 1])
    asked = []

    def right(grid_G2):
        asked.append(grid_G2)
        return (grid_G2[:, 0] > 0).astype(float)

    picture = decision_boundaries(
        points, labels, {"Right": right, "Flat": lambda grid_G2: np.full(len(grid_G2), 0.4)}
    )
    assert all(grid.shape[1] == 2 and grid.dtype == np.float32 for grid in asked)
    assert "Right" in picture.alt
    assert ET.fromstring(picture.svg) is not None


def test_labels_are_moved_apart_as_little_as_it_takes():
    assert style.spread_labels([0.0, 5.0], 1.0) == [0.0, 5.0]
    assert style.spread_labels([1.0, 1.0], 1.0) == [0.5, 1.5]
    moved = style.spread_labels([3.0, 1.0, 1.2, 1.1, 2.0], 1.0)
    assert all(gap >= 1.0 - 1e-9 for gap in np.diff(sorted(moved)))
    assert np.argsort(moved).tolist() == [1, 3, 2, 4, 0]


def test_nobody_elses_matplotlib_is_changed():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    arms_picture(BARS, shipped="mke", metric="Accuracy")
    assert dict(mpl.rcParams) == before
