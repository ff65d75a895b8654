"""The flow from the teacher's to the student's answers."""

import pytest
from report_contents import diagnosis

from mke_ray.evaluation.diagnosis import Move
from mke_ray.evaluation.results import Flow
from mke_ray.report.alluvial import (
    _OUTCOMES,
    MOST_NODES,
    Band,
    _bands_by_class,
    alluvial_picture,
    bands_of_move,
    totals,
)

CLASSES = ["cat", "dog", "owl"]


def test_an_answer_that_changes_is_corrected_corrupted_or_wrong_in_another_way():
    assert bands_of_move(Move(0, 1, 18, 2, 14), 0, 1) == [
        Band(0, 1, "corrected", 14),
        Band(0, 1, "corrupted", 2),
        Band(0, 1, "wrong", 2),
    ]
    assert bands_of_move(Move(0, 0, 30, 28, 28), 0, 0) == [
        Band(0, 0, "right", 28),
        Band(0, 0, "wrong", 2),
    ]


def test_what_stays_wrong_has_another_colour_than_what_stays_right():
    colours = {colour for _, colour, _ in _OUTCOMES.values()}
    assert len(colours) == 4


def test_the_bands_hold_every_answer_once():
    bands, names = _bands_by_class(diagnosis().moves, CLASSES)
    assert totals(bands) == {"right": 60, "corrected": 28, "corrupted": 4, "wrong": 8}
    assert names == {0: "cat", 1: "dog", 2: "owl"}


def test_of_many_classes_those_that_change_least_are_put_together():
    moves = [Move(one, (one + 1) % 50, 50 - one, 0, 40 - one // 2) for one in range(30)]
    moves += [Move(one, one, 10, 9, 9) for one in range(50)]
    bands, names = _bands_by_class(moves, [f"class {one}" for one in range(50)])
    assert len(names) == MOST_NODES and names[-2] == f"{50 - MOST_NODES + 1} more"
    assert sum(totals(bands).values()) == sum(one.num for one in moves)
    picture = alluvial_picture(moves, None, [f"class {one}" for one in range(50)], arm="mke")
    assert "450 stays right" in picture.alt


def test_where_a_sample_may_have_many_classes_right_and_wrong_are_drawn():
    picture = alluvial_picture((), Flow(100, 40, 30, 6), CLASSES, arm="mke")
    assert "54 stays right, 30 corrected, 6 corrupted, 10 stays wrong" in picture.alt
    assert alluvial_picture((), None, CLASSES, arm="mke") is None
    assert alluvial_picture((), Flow(), CLASSES, arm="mke") is None


@pytest.mark.parametrize("student", [-1, 1])
def test_a_student_that_saw_nothing_has_a_node_of_its_own(student):
    picture = alluvial_picture([Move(0, student, 5, 5, 0)], None, CLASSES, arm="mke")
    assert "5 corrupted" in picture.alt and picture.png
