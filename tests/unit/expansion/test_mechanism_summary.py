"""Records of settings joined over draws: what is compared with what."""

import numpy as np
import pytest

from mke_ray.expansion.mechanism_summary import gain_curves, guesses, plane_of, reaches, summary_of
from mke_ray.report.mechanism_page import mechanism_headline, theorem_words


def student(arm, gain, *, alpha=1.0, kind="hard", own=True, predicted=0.2, observed=0.3):
    def shares(value):
        return None if value is None else {"error": 0.1, "corrected": value, "corrupted": 0.05}

    return {
        "arm": arm,
        "alpha": alpha,
        "kind": kind,
        "seed": 0,
        "is_own": own,
        "gain": gain,
        "predicted": shares(predicted),
        "observed": shares(observed),
    }


def space(expansions, crossing, *, bound=(None, None, None)):
    nums = zip((40, 10), expansions, strict=True)
    return {
        "crossing": crossing,
        "bound": list(bound),
        "classes": [
            {"class": c, "num_samples": 100, "num_wrong": num, "expansion": expansion}
            for c, (num, expansion) in enumerate(nums)
        ],
    }


def record(draw, *, num=100, base=True, students=(), bound=(None, None, None)):
    wide, narrow = [0.0, 1.0, 2.0], [0.0, 0.5, 1.0]
    return {
        "data_seed": draw,
        "num_unlabeled": num,
        "num_labelled": 30,
        "is_base": base,
        "radii": [0.0, 0.5, 2.0],
        "teacher": {"measured_error": 0.25},
        "spaces": {
            "a": space([wide, narrow], [0.0, 0.6, 1.0]),
            "a + b": space([narrow, narrow], [0.0, 0.04, 0.9], bound=bound),
        }
        if base
        else {},
        "students": list(students),
        "samples": None,
    }


def test_the_expansion_of_all_classes_weighs_them_by_their_wrong_samples() -> None:
    alone, both = reaches([record(0), record(1)])
    assert (alone.name, both.name) == ("a", "a + b")
    assert alone.expansion_WX == pytest.approx(np.tile([0.0, 0.9, 1.8], (2, 1)))
    assert alone.classes[0] == pytest.approx([0.0, 1.0, 2.0])
    assert both.crossing_WX[1].tolist() == [0.0, 0.04, 0.9]


def test_the_summary_tells_expansion_where_few_samples_cross_and_at_the_noise() -> None:
    found = summary_of([record(0), record(1)], alpha=1.25)["spaces"]
    assert found["a"]["expansion_while_5%_cross"]["mean"] == 0.0
    assert found["a + b"]["expansion_while_5%_cross"] == {"mean": 0.5, "std": 0.0}
    assert found["a + b"]["expansion_at_alpha"]["mean"] == pytest.approx(0.75)
    assert found["a + b"]["crossing_at_alpha"]["mean"] == pytest.approx(0.47)


def test_gains_by_size_are_those_of_the_noise_and_labels_of_the_job() -> None:
    records = [
        record(
            draw,
            num=num,
            base=num == 100,
            students=[student("mke", gain), student("mke", 0.9, alpha=2.0, own=False)],
        )
        for draw, num, gain in ((0, 100, 0.1), (0, 1000, 0.3), (1, 100, 0.2), (1, 1000, 0.2))
    ]
    curves = gain_curves(records)
    (by_size,) = curves["num_unlabeled"]
    assert by_size.at_X.tolist() == [100, 1000]
    assert by_size.values_WX.tolist() == [[0.1, 0.3], [0.2, 0.2]]
    assert curves["num_labelled"] == []  # of one size only
    (by_noise,) = curves["alpha"]
    assert by_noise.at_X.tolist() == [1.0, 2.0]
    assert by_noise.values_WX.tolist() == [[0.1, 0.9], [0.2, 0.9]]


def test_kinds_of_labels_are_compared_at_the_noise_of_the_job() -> None:
    students = [
        student("mke", 0.1),
        student("mke", 0.2, kind="soft", own=False),
        student("mke", 0.8, kind="soft", alpha=2.0, own=False),
    ]
    (band,) = gain_curves([record(0, students=students)])["kind"]
    assert band.at_X.tolist() == [0, 1]
    assert band.values_WX.tolist() == [[0.1, 0.2]]


def test_a_student_without_prediction_is_no_guess() -> None:
    students = [student("mke", 0.1), student("mm_student", 0.2, predicted=None)]
    found = guesses([record(0, students=students)])
    assert [(one.arm, one.corrected) for one in found] == [("mke", (0.2, 0.3))]
    summary = summary_of([record(0, students=students)], alpha=1.0)
    assert summary["prediction"]["all"]["corrected"]["median_off"] == pytest.approx(0.1)
    assert "1 students corrected within 10.0 points" in mechanism_headline(summary)


def test_the_theorem_is_said_to_promise_nothing_or_what_it_bounds() -> None:
    silent = summary_of([record(0), record(1)], alpha=1.0)
    assert silent["theorem"]["largest_wrong_share"]["mean"] == pytest.approx(0.4)
    assert "promises nothing in any of the 2 draws" in theorem_words(silent)
    bounds = ([None, 0.3, None], [0.5, 0.2, None])
    said = summary_of([record(d, bound=one) for d, one in enumerate(bounds)], alpha=1.0)
    assert said["theorem"]["bounds"] == [0.3, 0.2]
    assert "applies in 2 of 2 draws" in theorem_words(said)
    assert theorem_words(said).endswith("below the teacher's in 1.")


def test_the_plane_shows_the_class_with_most_wrong_samples_and_its_neighbours() -> None:
    one = record(0)
    one["samples"] = {
        "points": {"a": [0.0, 0.4, 4.0, 0.0], "b": [0.0, 0.0, 0.0, 4.0]},
        "truth": [0, 0, 0, 1],
        "said": [1, 0, 0, 1],
    }
    one["spaces"]["b"] = one["spaces"].pop("a + b") | {"crossing": [0.0, 0.9, 0.9]}
    one["spaces"]["a + b"] = space([[0.0] * 3] * 2, [0.0, 0.04, 0.9])
    plane = plane_of([one])
    assert plane is not None
    assert plane.radius == 0.5
    assert plane.own_N.tolist() == [True, True, True, False]
    assert plane.wrong_N.tolist() == [True, False, False, False]
    # the units are 1.1 and 1: the second sample is 0.36 away, the fourth 4 in b and 0 in a
    assert plane.reached["a"].tolist() == [True, True, False, True]
    assert plane.reached["a + b"].tolist() == [True, True, False, False]
