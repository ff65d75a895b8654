"""The verdict of a pre-flight, its words and its page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answers_of_experts import answers, many_classes

from mke_ray.focus.gain_prediction import GainModel
from mke_ray.focus.preflight import Preflight, judge, measure
from mke_ray.focus.preflight_page import preflight_pictures, tiles_of, write_preflight
from mke_ray.focus.select_answers import SelectAnswers
from mke_ray.storage import open_root

KEYS: dict[str, Any] = {"worth": 0.01, "certainty": 0.8}
PLAIN_MODEL = GainModel(0.0, {"joined_gain": 1.0}, 0.01, 1.0)


def preflight(known: SelectAnswers, **keys: Any) -> Preflight:
    """Return what is to be expected of a teacher of pictures and a witness of sound."""
    return judge(measure(known, teacher="image", witnesses=["audio"], num_labels=4000), **keys)


def with_trial(known: SelectAnswers) -> SelectAnswers:
    """Return answers beside which a trial student joins both experts."""
    return replace(known, trial_NC=known.teacher_NC + 3.0 * known.witness_FMNC[0, 0])


def test_independent_errors_are_a_go() -> None:
    """The gain is well above what is worth it."""
    found = preflight(answers(), **KEYS, model=PLAIN_MODEL)
    assert found.verdict == "go"
    assert found.gain is not None
    assert found.gain > 0.1
    assert found.interval is not None
    assert found.interval[0] < found.gain < found.interval[1]
    assert found.probability is not None
    assert found.probability > 0.99


def test_a_useless_witness_is_a_no_go() -> None:
    """Nothing is gained, and that is certain."""
    found = preflight(answers(witness=0.0, num=2000), **KEYS, model=PLAIN_MODEL)
    assert found.verdict == "no-go"
    assert "No-go" in found.said


def test_what_may_or_may_not_be_worth_it_is_unsure() -> None:
    """The same evidence, where the worth is what is expected."""
    known = preflight(answers(), **KEYS, model=PLAIN_MODEL)
    found = preflight(answers(), **{**KEYS, "worth": known.gain}, model=PLAIN_MODEL)
    assert found.verdict == "unsure"


def test_a_caveat_takes_the_verdict_away() -> None:
    """What the prediction was not measured on is unsure, and says why."""
    found = preflight(answers(), **KEYS, model=PLAIN_MODEL, caveat="It is of pixels.")
    assert found.verdict == "unsure"
    assert found.said.endswith("It is of pixels.")
    assert found.gain == preflight(answers(), **KEYS, model=PLAIN_MODEL).gain


def test_certainty_moves_the_verdict() -> None:
    """A probability of two thirds is a go for whoever asks for 60%."""
    known = preflight(answers(), **KEYS, model=PLAIN_MODEL)
    assert known.gain is not None
    near = {**KEYS, "worth": known.gain - 0.01}
    assert preflight(answers(), **near, model=PLAIN_MODEL).verdict == "unsure"
    sure = preflight(answers(), **{**near, "certainty": 0.55}, model=PLAIN_MODEL)
    assert sure.verdict == "go"


@pytest.mark.parametrize(("num", "num_groups"), [(19, None), (100, 1)])
def test_too_few_labels_or_groups_are_unsure_and_say_what_helps(
    num: int, num_groups: int | None
) -> None:
    """Nothing is measured, nothing breaks."""
    found = preflight(answers(num=num, num_groups=num_groups), **KEYS)
    assert found.verdict == "unsure"
    assert found.gain is None
    assert "split=probe" in found.said
    assert preflight_pictures(found.evidence, teacher="image", witnesses=["audio"]) == []


def test_reasons_say_what_was_measured_in_words() -> None:
    """Strengths, joining, gamma, errors and neighbours, with the names of the modalities."""
    reasons = preflight(answers(), **KEYS).reasons
    assert len(reasons) == 5
    assert "trial student" in " ".join(preflight(with_trial(answers()), **KEYS).reasons)
    text = " ".join(reasons)
    for word in ("image", "audio", "gamma", "correlation", "expansion", "4,000 samples"):
        assert word in text


def test_networks_that_have_learnt_nothing_are_said_with_what_helps() -> None:
    """All are near the share of the most frequent class; one that is not says nothing of it."""
    nothing = preflight(answers(teacher=0.0, witness=0.0), **{**KEYS, "certainty": 0.999})
    assert nothing.verdict == "unsure"
    assert "most frequent class" in nothing.said
    assert "hardly anything has been learnt" in nothing.said
    assert "fit.num_steps" in nothing.said
    for known in (answers(witness=0.0), answers()):
        assert "learnt" not in preflight(known, **KEYS, caveat="It is of pixels.").said


def test_words_of_points_and_intervals_read_as_english() -> None:
    """One point is no points, and an interval is told to be one."""
    found = preflight(answers(), **KEYS)
    words = {name: said for name, _, said in tiles_of(found)}
    assert words["Worth it"] == "probability of 1 point"
    more = preflight(answers(), **{**KEYS, "worth": 0.02})
    assert "at least 2 points over" in more.said
    assert "both show (gamma, 95% interval " in " ".join(found.reasons)


def test_reasons_of_many_classes_leave_neighbours_out() -> None:
    """Mean average precision, and four reasons."""
    found = preflight(many_classes(), **KEYS)
    assert len(found.reasons) == 4
    assert "mean average precision" in found.reasons[0]


def test_a_preflight_survives_json() -> None:
    """Plain data and back."""
    found = preflight(answers(), **KEYS)
    assert Preflight.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


@pytest.mark.parametrize("strength", [1.5, 0.0])
def test_the_page_says_the_verdict_and_shows_the_diagram(strength: float, tmp_path: Path) -> None:
    """Numbers, reasons and figures; the figures are files too."""
    found = preflight(answers(witness=strength), **KEYS)
    args = {"name": "first", "teacher": "image", "witnesses": ["audio"], "end": "It goes on."}
    page = Path(write_preflight(open_root(str(tmp_path)), found, **args)).read_text()
    for text in (found.said.split(" (")[0], "It goes on.", "only image", "preflight_strength"):
        assert text in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (tmp_path / "report/figures/preflight_venn.png").stat().st_size > 5000
    assert json.loads((tmp_path / "report/preflight.json").read_text())["verdict"] == found.verdict


def test_areas_of_the_diagram_are_to_scale() -> None:
    """The alternative text gives the shares that are drawn, and they add up to all."""
    evidence = preflight(answers(), **KEYS).evidence
    bits = evidence["information_bits"]
    (venn, _) = preflight_pictures(evidence, teacher="image", witnesses=["audio"])
    for name, part in (("only image", "teacher_only"), ("only audio", "witness_only")):
        assert f"{name} {bits[part] / bits['both']:.0%}" in venn.alt


def test_a_diagram_of_nearly_nothing_gives_no_shares_of_it() -> None:
    """All of 2% is no 100%; a diagram of more says how much it is."""
    evidence = dict(preflight(answers(), **KEYS).evidence)
    alone = {"teacher_only": 0.06, "witness_only": 0.0, "shared": 0.0, "together_only": 0.0}
    said = {}
    for entropy in (3.36, 0.6):
        evidence["information_bits"] = {**alone, "both": 0.06, "entropy": entropy}
        (venn, _) = preflight_pictures(evidence, teacher="image", witnesses=["audio"])
        said[entropy] = venn.alt + venn.note
    assert "nearly nothing, 0.06 of 3.36 bits" in said[3.36]
    assert "%" not in said[3.36]
    assert "only image 100%" in said[0.6]
    assert "0.06 of 0.60 bits in all" in said[0.6]


def test_what_only_both_together_know_has_no_circles() -> None:
    """Neither knows anything alone: there is no area to draw, and the other figure is there."""
    evidence = dict(preflight(answers(), **KEYS).evidence)
    nothing = dict.fromkeys(evidence["information_bits"], 0.0)
    evidence["information_bits"] = {**nothing, "both": 0.5, "together_only": 0.5, "entropy": 2.0}
    drawn = preflight_pictures(evidence, teacher="image", witnesses=["audio"])
    assert [one.name for one in drawn] == ["preflight_strength"]


def test_a_page_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    """Unless something else follows from what was found."""
    found, root = preflight(answers(), **KEYS), open_root(str(tmp_path))
    args = {"name": "first", "teacher": "image", "witnesses": ["audio"]}
    page = Path(write_preflight(root, found, **args, end="It goes on."))
    before = page.stat().st_mtime_ns
    write_preflight(root, found, **args, end="It goes on.")
    assert page.stat().st_mtime_ns == before
    write_preflight(root, found, **args, end="It ends here.")
    assert "It ends here." in page.read_text()
