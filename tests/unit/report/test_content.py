import json
import math
from dataclasses import replace

import pytest
from report_contents import arm, content, evaluation

from mke_ray.evaluation.calibration import Calibration
from mke_ray.gate import GateDecision
from mke_ray.report import RefinementRound, metrics_of
from mke_ray.report.content import calibration_line, headline, refined_lines


def test_metrics_have_the_shape_that_the_design_promises():
    metrics = metrics_of(content())
    assert metrics["experiment"] == "demo"
    assert metrics["metric"] == "accuracy"
    assert metrics["seed"] == 3
    mke = metrics["arms"]["mke"]
    assert mke["value"] == 0.87
    assert mke["ci95"] == pytest.approx([0.84, 0.90])
    assert (mke["num_test"], mke["num_groups"]) == (600, 590)
    assert metrics["pseudo_labels"] == {
        "num": 1000,
        "accuracy": 0.6,
        "corrected": 0.6,
        "corrupted": 0.02,
    }
    assert metrics["gate"]["promoted"] is True
    assert {"verdict", "reason", "openings"} <= set(metrics["gate"])
    counts = {"samples": 2000, "ok": 1980, "partial": 12, "bad": 7, "retry": 1}
    assert counts.items() <= metrics["counts"].items()
    assert metrics["seconds"] == {"label": 61.0, "train": 200.0, "total": 300.0}


def test_what_is_not_known_is_null():
    arms = {name: replace(one, flow=None) for name, one in evaluation().arms.items()}
    metrics = metrics_of(content(evaluation=evaluation(teacher_flow=None, arms=arms)))
    assert metrics["pseudo_labels"] == {
        "num": 1000,
        "accuracy": None,
        "corrected": None,
        "corrupted": None,
    }


def test_metrics_are_json_even_where_a_number_is_not_finite():
    infinite = GateDecision(False, "inconclusive", "r", lower_bound=-math.inf, gain=math.nan)
    text = json.dumps(metrics_of(content(decision=infinite)), allow_nan=False)
    assert json.loads(text)["gate"]["lower_bound"] is None


def test_stages_that_did_not_run_take_no_time():
    assert metrics_of(content(seconds={"total": 2.0}))["seconds"] == {
        "label": 0.0,
        "train": 0.0,
        "total": 2.0,
    }


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("promoted", "student is promoted"),
        ("inconclusive", "teacher is kept, since the student's gain is not certain"),
        ("rejected", "teacher is kept, since the student is not better"),
        ("unverified", "teacher is kept, since nothing could be verified"),
    ],
)
def test_the_first_sentence_says_the_verdict_with_numbers(verdict, words):
    sentence = headline(content(decision=GateDecision(verdict == "promoted", verdict, "r")))
    assert words in sentence
    assert "87.0% accuracy" in sentence
    assert "65.0%" in sentence
    assert "+22.0 points (95% interval +19.0 to +25.0)" in sentence


@pytest.mark.parametrize(
    ("beaten", "rival", "is_said"), [(True, 0.91, True), (True, 0.8, False), (False, 0.91, False)]
)
def test_the_first_sentence_says_where_labels_alone_teach_better(beaten, rival, is_said):
    arms = {**evaluation().arms, "mm_labelled_only": arm("mm_labelled_only", rival)}
    decision = GateDecision(True, "promoted", "r", beaten_by_labelled_only=beaten)
    sentence = headline(content(evaluation=evaluation(arms=arms), decision=decision))
    assert ("paired labels alone teach a better network: 91.0%" in sentence) is is_said


def test_a_run_of_the_teacher_alone_has_a_first_sentence_too():
    alone = evaluation(arms={"teacher": arm("teacher", 0.65)})
    assert "65.0%" in headline(content(evaluation=alone))
    assert metrics_of(content(evaluation=alone))["pseudo_labels"]["corrected"] is None


def refined(**open_set):
    found = {"slopes": {"log_ratio": 0.5, "energy": 0.0}, "likelihood_ratio": 9.0, **open_set}
    return content(refinement=[RefinementRound(1.0, 1.0, {"audio": 2.0}, -0.5, open_set=found)])


def test_it_says_how_many_unlabeled_samples_look_irrelevant():
    found = refined(is_certain=True, share=0.312)
    _, line = refined_lines(found)
    assert line.startswith("At least about 31% of the unlabeled samples look irrelevant")
    assert metrics_of(found)["refinement"][0]["open_set"]["share"] == 0.312


def test_it_says_that_all_count_alike_where_none_look_irrelevant():
    _, line = refined_lines(refined(is_certain=False, share=0.0))
    assert "all of them count alike" in line


def test_nothing_is_said_of_irrelevant_samples_where_nobody_asks():
    found = content(refinement=[RefinementRound(1.0, 1.0, {"audio": 2.0}, -0.5)])
    assert len(refined_lines(found)) == 1
    assert "open_set" not in metrics_of(found)["refinement"][0]


def test_what_is_said_of_irrelevant_samples_is_of_the_round_that_the_student_learnt():
    found = refined(is_certain=True, share=0.2)
    later = replace(found.refinement[0], is_used=False, open_set={"is_certain": False})
    _, line = refined_lines(replace(found, refinement=[*found.refinement, later]))
    assert "about 20%" in line


def test_it_names_every_teacher_that_was_listened_to():
    teachers = {"tagger": (0.5, 1.25), "guesser": (0.0, 3.0)}
    found = content(refinement=[RefinementRound(1.0, 1.5, {"audio": 2.0}, -0.5, teachers=teachers)])
    (line,) = refined_lines(found)
    assert "count: teacher 1.5, teacher tagger 0.5, witness of audio 2." in line
    assert metrics_of(found)["refinement"][0]["teachers"]["tagger"] == {
        "exponent": 0.5,
        "temperature": 1.25,
    }


def test_it_says_that_nobody_else_was_of_any_use():
    def said(witness, teachers):
        rounds = [RefinementRound(1.0, 1.0, {"audio": witness}, -0.5, teachers=teachers)]
        return refined_lines(content(refinement=rounds))[0]

    assert said(0.0, {}).startswith("No witness was of any use (audio): ")
    found = said(0.0, {"guesser": (0.0, 1.0)})
    assert found.startswith("No witness was of any use (audio), nor another teacher (guesser): ")
    assert "count: teacher 1, teacher tagger 0.5." in said(0.0, {"tagger": (0.5, 1.0)})


def test_no_temperature_is_named_where_none_was_fitted():
    said = calibration_line(content(calibration=Calibration(1.0, 0.126, 0.126)))
    assert said.endswith("is 12.6% off its accuracy on the test set (expected calibration error).")
    assert "temperature 1.50" in calibration_line(content(calibration=Calibration(1.5, 0.1, 0.05)))
