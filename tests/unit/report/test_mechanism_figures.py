"""The figures that explain a gain."""

import numpy as np
import pytest

from mke_ray.report.mechanism_figures import Band, Guess, gains_picture, guesses_picture
from mke_ray.report.mechanism_reach import Plane, Reach, plane_picture, reach_picture


def test_the_figure_of_reach_says_expansion_and_crossing_at_the_noise() -> None:
    radii_X = np.array([0.0, 1.0, 2.0])
    alone = Reach("a", radii_X, np.array([[0.0, 0.2, 0.4]]), np.array([[0.0, 0.6, 0.8]]))
    both = Reach("a + b", radii_X, np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 0.1, 0.3]]))
    picture = reach_picture([alone, both], alpha=1.5)
    assert "a alone: expansion 0.30, 70% cross at alpha" in picture.alt
    assert "a + b, together: expansion 1.50, 20% cross at alpha" in picture.alt


def test_the_figure_of_reach_can_be_drawn_of_a_teacher_without_errors() -> None:
    nothing_WX = np.zeros((2, 2))
    space = Reach("a + b", np.array([0.0, 1.0]), nothing_WX, nothing_WX)
    assert "expansion 0.00" in reach_picture([space], alpha=1.0).alt


def test_the_plane_counts_neighbours_per_wrong_sample() -> None:
    plane = Plane(
        points_N2=np.arange(10.0).reshape(5, 2),
        own_N=np.array([True, True, True, True, False]),
        wrong_N=np.array([True, True, False, False, False]),
        reached={
            "a": np.array([True, True, True, True, True]),
            "a + b": np.array([True, True, True, False, False]),
        },
        radius=0.3,
        axes=("a", "b"),
    )
    picture = plane_picture(plane)
    assert "in a, 1.0 rightly labelled samples and 0.5 of another class" in picture.alt
    assert "in a + b, 0.5 rightly labelled samples and 0.0 of another class" in picture.alt
    assert "0.3 strengths of noise" in picture.note


def test_the_figure_of_predictions_says_how_far_they_are_off() -> None:
    some = [Guess("mke", "hard", (0.2, 0.25), (0.0, 0.0)), Guess("mke", "soft", (0.1, 0.1), (0, 0))]
    picture = guesses_picture(some)
    assert "2 students" in picture.alt
    assert "corrected, off by 2.5 points (mean 2.5)" in picture.alt


def test_the_figure_of_gains_leaves_out_panels_without_a_curve_and_says_the_means() -> None:
    band = Band("mke", np.array([100.0, 1000.0]), np.array([[0.02, 0.04], [0.04, np.nan]]))
    picture = gains_picture({"num_unlabeled": [band], "num_labelled": []})
    assert "MKE by unlabeled samples 100: +3.0, 1000: +4.0" in picture.alt
    assert "labelled samples of the teacher" not in picture.alt


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_kinds_of_labels_are_told_apart_in_the_legend(kind: str) -> None:
    band = Band("mke", np.array([0.0, 1.0]), np.array([[0.0, 0.1]]), variant=kind)
    assert f"MKE {kind} by strength" in gains_picture({"alpha": [band]}).alt
