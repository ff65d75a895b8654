"""Where a student gains: counts by class and by the teacher's confidence, and their figures."""

import io

import numpy as np
import pytest
from PIL import Image

from mke_ray.evaluation.answers import UnitAnswers
from mke_ray.evaluation.diagnosis import ConfidenceFlow, Diagnosis, DiagnosisTally, Move
from mke_ray.evaluation.results import TEACHER, Flow
from mke_ray.report import diagnosis as diagnosis_module
from mke_ray.report.diagnosis import (
    MOST_CLASSES,
    class_picture,
    confidence_picture,
    diagnosis_dict,
    diagnosis_pictures,
)

TRUTH_B = [0, 0, 0, 1, 1]
TEACHER_BC = np.log([[0.95, 0.05], [0.45, 0.55], [0.44, 0.56], [0.6, 0.4], [0.05, 0.95]])
STUDENT_BC = np.log([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.9, 0.1]])


def answers_of(teacher_BC, student_BC, truth_BC, *, is_multi=False):
    num = len(teacher_BC)
    return UnitAnswers(
        np.arange(num),
        np.arange(num),
        [f"g{one}" for one in range(num)],
        [f"k{one}" for one in range(num)],
        truth_BC,
        {TEACHER: teacher_BC, "s": student_BC},
        is_multi,
    )


def tallied(*batches, num_classes=2):
    tally = DiagnosisTally("s", num_classes)
    for one in batches:
        tally.add(one)
    return tally.result()


def test_answers_are_counted_by_their_true_class_and_by_the_confidence_of_the_teacher():
    truth_BC = np.eye(2, dtype=bool)[TRUTH_B]
    whole = answers_of(TEACHER_BC, STUDENT_BC, truth_BC)
    found = tallied(whole.rows(np.arange(2)), whole.rows(np.arange(2, 5)))
    assert found.by_class == (Flow(3, 2, 1, 0), Flow(2, 1, 1, 1))
    assert found.by_confidence == (
        ConfidenceFlow(0.5, 0.6, Flow(2, 2, 1, 0)),
        ConfidenceFlow(0.6, 0.7, Flow(1, 1, 1, 0)),
        ConfidenceFlow(0.9, 1.0, Flow(2, 0, 0, 1)),
    )
    # teacher 0 1 1 0 1, student 0 0 1 1 0, truth 0 0 0 1 1
    assert set(found.moves) == {
        Move(0, 0, 1, 1, 1),
        Move(0, 1, 1, 0, 1),
        Move(1, 0, 2, 1, 1),
        Move(1, 1, 1, 0, 0),
    }
    assert found.moves[0].num == 2


def test_a_student_that_saw_nothing_moves_to_no_class():
    unseen_BC = np.full((2, 2), np.nan)
    found = tallied(answers_of(np.log([[0.9, 0.1], [0.8, 0.2]]), unseen_BC, np.eye(2, dtype=bool)))
    assert found.moves == (Move(0, -1, 2, 1, 0),)


def test_of_samples_with_many_classes_every_class_is_an_answer():
    teacher_BC, student_BC = np.array([[2.0, -1.0]]), np.array([[-2.0, 1.0]])
    found = tallied(answers_of(teacher_BC, student_BC, np.array([[True, True]]), is_multi=True))
    assert found.by_class == (Flow(1, 0, 0, 1), Flow(1, 1, 1, 0))
    assert [(one.low, one.flow.num) for one in found.by_confidence] == [(0.7, 1), (0.8, 1)]
    assert found.moves == ()


def test_what_the_teacher_could_not_answer_is_left_out():
    nothing_BC = np.full((2, 2), np.nan)
    truth_BC = np.eye(2, dtype=bool)
    assert tallied(answers_of(nothing_BC, np.zeros((2, 2)), truth_BC)) is None
    assert DiagnosisTally(None, 2).result() is None


def test_the_numbers_are_in_plain_data_and_in_the_alt_texts():
    flows = (Flow(10, 4, 3, 1), Flow(10, 0, 0, 0))
    found = Diagnosis(flows, (ConfidenceFlow(0.5, 0.6, Flow(20, 4, 3, 1)),))
    plain = diagnosis_dict(found, ["cat", "dog"])
    wanted = {"num": 10, "teacher": 0.6, "student": 0.8, "corrected": 3, "corrupted": 1}
    assert plain["by_class"]["cat"] == pytest.approx(wanted)
    assert plain["by_confidence"][0]["student"] == pytest.approx(0.9)
    pictures = diagnosis_pictures(found, ["cat", "dog"], arm="mm_student")
    assert "cat: 30% of its answers corrected, 10% corrupted" in pictures["by_class"].alt
    assert "teacher 50% to 60% sure: right 80%" in pictures["by_confidence"].alt
    assert all(Image.open(io.BytesIO(one.png)).width > 800 for one in pictures.values())
    assert diagnosis_dict(None, ()) is None and diagnosis_pictures(None, (), arm="mke") == {}


@pytest.mark.parametrize("num_right", [0, 80])
def test_names_of_teacher_and_student_do_not_cover_each_other(monkeypatch, num_right):
    figures, new_figure = [], diagnosis_module.new_figure
    monkeypatch.setattr(
        diagnosis_module,
        "new_figure",
        lambda *one: (figures.append(new_figure(*one)), figures[-1])[1],
    )
    bins = [
        ConfidenceFlow(0.1, 0.2, Flow(100, 100 - num_right, 0, 0)),
        ConfidenceFlow(0.9, 1.0, Flow(100, 8, 6, 0)),
    ]
    confidence_picture(bins, arm="mm_student")
    axes = figures[0].axes[0]
    teacher, student = (axes.transData.transform(one.get_position())[1] for one in axes.texts)
    assert student - teacher > 0.085 * axes.bbox.height


def test_of_very_many_classes_those_that_changed_most_are_drawn():
    flows = [Flow(100, 50, number % 40, 0) for number in range(200)]
    picture = class_picture(flows, [f"class {number}" for number in range(200)])
    assert picture.alt.count(";") == MOST_CLASSES - 1
    assert f"{200 - MOST_CLASSES} classes that changed less are left out" in picture.note
