"""The prediction of a gain, and how sure it is."""

from answers_of_experts import answers

from mke_ray.focus.evidence import evidence_of
from mke_ray.focus.gain_prediction import FEATURES, GainModel, features_of, standard_error_of

MODEL = GainModel(0.01, {"joined_gain": 0.5, "teacher_error": 0.1}, 0.03, 1.0)


def test_a_gain_is_the_sum_of_what_features_add() -> None:
    """Mean by the weights, spread by both noises."""
    found = MODEL.predict({"joined_gain": 0.2, "teacher_error": 0.4}, 0.04)
    assert abs(found.mean - 0.15) < 1e-12
    assert abs(found.stdev - 0.05) < 1e-12


def test_the_shipped_model_was_fitted_and_uses_the_features_there_are() -> None:
    """It names the command that fitted it, on at least 40 settings."""
    model = GainModel.shipped()
    assert set(model.weights) == set(FEATURES)
    assert model.num_settings >= 40
    assert "benchmarks/preflight.py" in model.fitted_by


def test_what_is_better_to_join_is_expected_to_gain_more() -> None:
    """By the shipped model: independent errors above shared ones, these above a useless witness."""
    model = GainModel.shipped()
    expected = []
    for one in (answers(), answers(shared=0.6), answers(witness=0.0)):
        evidence = evidence_of(one)
        expected.append(model.predict(features_of(evidence), standard_error_of(evidence)).mean)
    assert expected == sorted(expected, reverse=True)


def test_fewer_samples_make_the_prediction_less_sure() -> None:
    """The standard error of the joined gain falls with the samples."""
    errors = [standard_error_of(evidence_of(answers(num=num))) for num in (60, 240, 960)]
    assert errors == sorted(errors, reverse=True)


def test_a_gain_that_is_zero_everywhere_is_not_known_exactly() -> None:
    """A useless witness has an empty interval, and still one sample might be told otherwise."""
    assert standard_error_of(evidence_of(answers(witness=0.0, num=50))) >= 1 / 50


def test_few_groups_are_less_sure_than_their_resamples_say() -> None:
    """Of two groups, Student's t is nine times as wide as the normal, and resamples too narrow."""
    few, many = (evidence_of(answers(num=400, num_groups=num)) for num in (2, 400))
    assert few.gain.ci95 is not None
    assert standard_error_of(few) > 5 * (few.gain.ci95[1] - few.gain.ci95[0]) / 3.92
    assert standard_error_of(many) < 0.05
