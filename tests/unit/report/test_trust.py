"""Figures of confidence, refinement and noise."""

from report_contents import calibration, contribution, noisy_contribution

from mke_ray.report import RefinementRound
from mke_ray.report import trust as trust_module
from mke_ray.report.trust import noise_picture, refinement_picture, reliability_picture


def test_reliability_says_how_far_confidence_is_off_before_and_after():
    picture = reliability_picture({"teacher": calibration(), "mke": calibration(1.0)})
    assert "teacher 12.6% off, 1.8% at temperature 1.50; student 12.6% off" in picture.alt
    assert "student 12.6% off," not in picture.alt  # no temperature was fitted for it
    assert reliability_picture({}) is None


def test_refinement_shows_who_counted_in_each_round():
    rounds = [
        RefinementRound(1.4, 1.0, {"audio": 0.5}, None, is_used=False),
        RefinementRound(1.4, 0.8, {"audio": 1.0}, None),
    ]
    picture = refinement_picture(rounds)
    assert picture.alt == (
        "round 1: teacher 1, witness of audio 0.5; round 2: teacher 0.8, witness of audio 1"
    )
    assert refinement_picture(rounds[:1]) is None


def test_the_highest_exponent_lies_below_the_upper_border(monkeypatch):
    figures, new_figure = [], trust_module.new_figure
    monkeypatch.setattr(
        trust_module, "new_figure", lambda *one: (figures.append(new_figure(*one)), figures[-1])[1]
    )
    heights = (1.5, 1.0)
    refinement_picture([RefinementRound(1.4, 1.0, {"audio": one}, -one) for one in heights])
    (_, top), (low, high) = (axes.get_ylim() for axes in figures[0].axes)
    assert top > 1.6
    assert low < -1.53 and high > -0.97


def test_noise_is_drawn_from_none_over_its_levels_to_a_modality_that_is_gone():
    picture = noise_picture(noisy_contribution(), teacher=0.65, metric="Accuracy")
    assert "audio: noise 0.5 91.3%, noise 1 89.3%, noise 2 87.3%, gone 74.2%" in picture.alt
    assert noise_picture(contribution(), teacher=0.65, metric="Accuracy") is None


def test_the_line_of_the_teacher_under_noise_has_its_name(monkeypatch):
    figures, new_figure = [], trust_module.new_figure
    monkeypatch.setattr(
        trust_module, "new_figure", lambda *one: (figures.append(new_figure(*one)), figures[-1])[1]
    )
    noise_picture(noisy_contribution(), teacher=0.3, metric="Accuracy")
    (axes,) = figures[0].axes
    named = next(one for one in axes.texts if one.get_text() == "teacher")
    assert named.xy[1] == 0.3
    assert named.xy[0] + 0.05 < axes.get_xlim()[1] < named.xy[0] + 0.1
