import io
import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mke_ray.evaluation.results import Flow
from mke_ray.report import figures as figures_module
from mke_ray.report import style
from mke_ray.report.diagnosis import class_picture
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


# How colours look with no red-sensitive and with no green-sensitive cones, in linear RGB.
# Source: Machado, Oliveira and Fernandes, A physiologically-based model for simulation of color
# vision deficiency, IEEE TVCG 2009.
EYES = {
    "all cones": np.eye(3),
    "no red cones": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no green cones": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
) / np.array([[0.9505], [1.0], [1.089]])


def linear(colour):
    share_3 = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(share_3 <= 0.04045, share_3 / 12.92, ((share_3 + 0.055) / 1.055) ** 2.4)


def seen(colour, eye):
    """Return a colour in CIELAB, in which distances are about as they are seen."""
    xyz = TO_XYZ @ np.clip(EYES[eye] @ linear(colour), 0, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one, other):
    light = sorted((TO_XYZ @ linear(colour))[1] + 0.05 for colour in (one, other))
    return light[1] / light[0]


def page_colours():
    """Return the colours of the page by name, in the light and in the dark."""
    css = (Path(style.__file__).parent / "page.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)", 1)
    return [dict(re.findall(r"(--\w+): (#\w{6});", part)) for part in (light, dark)]


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("is_dark", [False, True])
def test_every_arm_has_a_colour_that_everybody_can_tell_from_the_others(eye, is_dark):
    css = page_colours()[is_dark]
    colours = [css[style.CSS_NAMES[style.arm_colour(arm)]] for arm in style.ARM_TITLES]
    pairs = itertools.combinations([seen(one, eye) for one in colours], 2)
    assert min(np.linalg.norm(one - other) for one, other in pairs) > 15
    assert min(contrast(one, css["--card"]) for one in colours) > 4


def test_figures_are_drawn_in_the_light_colours_of_the_page():
    light, dark = page_colours()
    assert {css: light[css] for css in style.CSS_NAMES.values()} == {
        css: colour for colour, css in style.CSS_NAMES.items()
    }
    assert light.keys() == dark.keys()


def test_a_dashed_line_has_its_name_in_the_figure(monkeypatch):
    figures, new_figure = [], figures_module.new_figure
    monkeypatch.setattr(
        figures_module,
        "new_figure",
        lambda *one: (figures.append(new_figure(*one)), figures[-1])[1],
    )
    arms_picture(BARS, shipped="mke", metric="Accuracy")
    (axes,) = figures[0].axes
    assert {one.get_text(): one.xy for one in axes.texts}["teacher"] == (0.65, 1.0)


def test_every_panel_of_the_curves_says_what_its_axis_counts(monkeypatch):
    figures, new_figure = [], figures_module.new_figure
    monkeypatch.setattr(
        figures_module,
        "new_figure",
        lambda *one: (figures.append(new_figure(*one)), figures[-1])[1],
    )
    curve = Curve("mke", 0, [1, 4], [0.5, 0.6])
    early = Curve("teacher", 0, [1, 2], [0.5, 0.6])
    curves_picture([curve, early], [curve])
    assert [axes.get_xlabel() for axes in figures[0].axes] == ["training step"] * 2


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


def test_names_of_classes_are_text_whatever_they_hold():
    names = ["$a_$", "<b>", "$5-$10"]
    picture = class_picture([Flow(50, 20, 10.0, 2.0)] * 3, names)
    assert all(name in picture.alt for name in names)
    assert ET.fromstring(picture.svg) is not None
    with style.house_style():
        assert not style.new_figure(1.0).text(0, 0, "$5-$10").get_parse_math()


@pytest.mark.parametrize(
    ("at", "wanted"), [((0.001, 10.0), "0.001"), ((0.1, 0.6), "0.2"), ((1.0, 1e6), "1000")]
)
def test_a_logarithmic_axis_has_plain_numbers(at, wanted):
    with style.house_style():
        figure = style.new_figure(2.0)
        axes = figure.subplots()
        axes.plot(at, [0, 1])
        style.log_axis(axes)
        figure.canvas.draw()
        shown = [one.get_text() for one in axes.get_xticklabels(which="both")]
    assert wanted in shown and not any("$" in one for one in shown)


@pytest.mark.parametrize(
    ("step", "shown"),
    [(0.025, ["5.0%", "7.5%", "10.0%"]), (0.05, ["5%", "10%", "15%"]), (1e-4, ["5.00%", "5.01%"])],
)
def test_ticks_of_percents_say_where_they_stand(step, shown):
    with style.house_style():
        figure = style.new_figure(2.0)
        axes = figure.subplots()
        axes.set_xticks(0.05 + step * np.arange(len(shown)))
        style.percent_axis(axes, "x")
        figure.canvas.draw()
        assert [one.get_text() for one in axes.get_xticklabels()] == shown


def test_nobody_elses_matplotlib_is_changed():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    arms_picture(BARS, shipped="mke", metric="Accuracy")
    assert dict(mpl.rcParams) == before
