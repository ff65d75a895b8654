"""The posterior of teacher and witnesses, against values computed by hand and by Bayes' rule."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, log_softmax, logit, softmax

from mke_ray.labels.posterior import FurtherTeacher, Posterior, calibrated, fit_exponents
from mke_ray.metrics import fit_temperature
from mke_ray.schema import LabelKind

NAN = np.nan
PRIOR = (0.25, 0.75)


def posterior(teacher=1.0, witnesses=(1.0,), temperature=1.0, prior=PRIOR, kind="single"):
    return Posterior(temperature, teacher, witnesses, prior, kind)


def independent_views(num: int, *, seed: int = 0):
    """Draw classes and log-likelihoods of two views that are independent given the class."""
    rng = np.random.default_rng(seed)
    truth_N = rng.choice(2, size=num, p=PRIOR)
    views = [truth_N + rng.normal(0.0, 1.0, num) for _ in range(2)]
    likelihoods = [-0.5 * (view[:, None] - np.arange(2)) ** 2 for view in views]
    return truth_N, [log_softmax(one + np.log(PRIOR), axis=1) for one in likelihoods], likelihoods


def test_it_is_the_sum_of_logs_by_hand():
    found = posterior(teacher=0.5, witnesses=(2.0,), temperature=2.0).logits(
        np.array([[2.0, 0.0]]), np.array([[[0.0, 1.0]]])
    )
    teacher = np.log([np.e / (np.e + 1), 1 / (np.e + 1)])
    witness = np.log([1 / (1 + np.e), np.e / (1 + np.e)])
    by_hand = 0.5 * teacher + 2.0 * (witness - np.log(PRIOR))
    np.testing.assert_allclose(found[0], by_hand - np.log(np.exp(by_hand).sum()), rtol=1e-12)


def test_of_independent_views_it_is_the_rule_of_bayes():
    _, (teacher, witness), (one, other) = independent_views(50)
    exact = softmax(one + other + np.log(PRIOR), axis=1)
    np.testing.assert_allclose(softmax(posterior().logits(teacher, witness[None]), axis=1), exact)


def test_of_many_classes_it_is_the_same_of_the_odds():
    teacher, witness = np.array([[1.0, -2.0, 0.5]]), np.array([[[0.3, 0.0, -1.0]]])
    prior = (0.2, 0.5, 0.1)
    found = posterior(1.5, (0.5,), 2.0, prior, "multi").logits(teacher, witness)
    by_hand = 1.5 * teacher[0] / 2.0 + 0.5 * (witness[0, 0] - logit(prior))
    np.testing.assert_allclose(found[0], by_hand)


def test_a_witness_that_saw_nothing_adds_nothing():
    teacher = np.array([[2.0, 0.0], [2.0, 0.0]])
    witnesses = np.array([[[0.0, 4.0], [NAN, NAN]]])
    found = posterior().logits(teacher, witnesses)
    np.testing.assert_allclose(found[1], log_softmax(teacher[1]))
    assert found[0, 1] > found[0, 0]


def test_a_sample_without_a_label_of_the_teacher_has_none():
    found = posterior().logits(np.array([[NAN, NAN]]), np.array([[[0.0, 1.0]]]))
    assert np.isnan(found).all()


def test_several_witnesses_add_up():
    teacher, witnesses = np.zeros((1, 2)), np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    found = posterior(witnesses=(1.0, 1.0), prior=(0.5, 0.5)).logits(teacher, witnesses)
    np.testing.assert_allclose(softmax(found, axis=1), [[0.5, 0.5]])


def test_exponents_of_independent_views_are_near_one():
    truth_N, (teacher, witness), _ = independent_views(4000)
    found = fit_exponents(posterior(), teacher, witness[None, None], np.eye(2, dtype=bool)[truth_N])
    assert (found.teacher, found.witnesses) == (1.0, (1.0,))


def test_a_witness_that_knows_nothing_gets_no_say():
    truth_N, (teacher, _), _ = independent_views(2000)
    noise = np.random.default_rng(1).normal(size=(1, 1, 2000, 2))
    found = fit_exponents(posterior(), teacher, noise, np.eye(2, dtype=bool)[truth_N])
    assert found.witnesses == (0.0,) and found.is_useless


def test_a_witness_less_sure_than_it_could_be_gets_a_larger_exponent():
    truth_N, (teacher, witness), (_, likelihood) = independent_views(4000)
    shy = log_softmax(0.5 * likelihood + np.log(PRIOR), axis=1)
    found = fit_exponents(posterior(), teacher, shy[None, None], np.eye(2, dtype=bool)[truth_N])
    assert found.witnesses == (2.0,)
    del witness


def test_of_several_witnesses_the_useless_one_is_left_out():
    truth_N, (teacher, witness), _ = independent_views(4000)
    noise = np.random.default_rng(1).normal(size=witness.shape)
    both = np.stack([noise, witness])[None]
    start = posterior(witnesses=(1.0, 1.0))
    found = fit_exponents(start, teacher, both, np.eye(2, dtype=bool)[truth_N])
    assert found.witnesses == (0.0, 1.0)


def test_no_fold_has_more_say_than_another():
    truth_N, (teacher, witness), _ = independent_views(3000)
    noise = np.random.default_rng(1).normal(0, 1, size=witness.shape)
    folds = np.stack([witness, witness, noise])[:, None]
    found = fit_exponents(posterior(), teacher, folds, np.eye(2, dtype=bool)[truth_N])
    assert 0.0 < found.witnesses[0] < 1.0


def test_without_a_probe_the_exponents_stay_as_they_were():
    empty = np.zeros((0, 2))
    assert fit_exponents(posterior(), empty, empty[None, None], empty.astype(bool)) == posterior()


def test_the_likelihood_of_many_classes_counts_every_class():
    one = posterior(witnesses=(), prior=(0.5, 0.5), kind="multi")
    found = one.log_likelihood(np.array([[1.0, -1.0]]), np.zeros((0, 1, 2)), np.array([[1, 0]]))
    assert found == pytest.approx(np.log(expit(1.0)))


def test_it_survives_as_plain_data():
    one = posterior(0.5, (2.0, 0.25), 1.3)
    assert Posterior.from_dict(one.to_dict()) == one


def test_a_witness_that_saw_none_of_the_probe_keeps_its_exponent():
    truth_N, (teacher, witness), _ = independent_views(400)
    both = np.stack([np.full_like(witness, NAN), witness])[None]
    start = posterior(witnesses=(1.0, 1.0))
    found = fit_exponents(start, teacher, both, np.eye(2, dtype=bool)[truth_N])
    assert found.witnesses[0] == 1.0
    alone = fit_exponents(posterior(), teacher, both[:, :1], np.eye(2, dtype=bool)[truth_N])
    assert alone == posterior()


def test_of_many_classes_each_has_its_own_temperature_where_it_has_samples_enough():
    rng = np.random.default_rng(0)
    truth_NC = rng.random((4000, 3)) < [0.5, 0.5, 0.001]
    logits_NC = np.where(truth_NC, 1.0, -1.0) + rng.normal(size=(4000, 3))
    logits_NC *= [1.0, 8.0, 1.0]  # the second class is far too sure of itself
    start = Posterior(1.0, 1.0, (1.0,), (0.5, 0.5, 0.001), LabelKind.MULTI)
    found = calibrated(start, logits_NC, truth_NC)
    own, sure, rare = found.class_temperatures
    assert sure == pytest.approx(8 * own, rel=0.3)
    assert rare == found.temperature == pytest.approx(fit_temperature(logits_NC, truth_NC))
    nothing_MNC = np.full((1, 4000, 3), np.nan)
    refined_NC = found.logits(logits_NC, nothing_MNC)
    np.testing.assert_allclose(refined_NC, logits_NC / np.array([own, sure, rare]))
    assert Posterior.from_dict(found.to_dict()) == found


def test_of_one_class_there_is_one_temperature_and_names_of_stores_stay():
    logits_NC = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    truth_NC = np.eye(2, dtype=bool)[[0, 0, 1, 1]]
    start = Posterior(1.0, 1.0, (1.0,), (0.5, 0.5))
    found = calibrated(start, logits_NC, truth_NC)
    assert found.temperature == pytest.approx(fit_temperature(logits_NC, [0, 0, 1, 1]))
    assert found.divisor == found.temperature
    assert "class_temperatures" not in found.to_dict()


def test_a_further_teacher_is_one_more_expert_with_a_temperature_of_its_own():
    further = (FurtherTeacher(temperature=4.0, exponent=0.5),)
    found = replace(posterior(1.0, (2.0,)), further=further).logits(
        np.array([[2.0, 0.0]]), np.array([[[0.0, 1.0]], [[4.0, 0.0]]])
    )
    witness = log_softmax([0.0, 1.0]) - np.log(PRIOR)
    other = log_softmax([1.0, 0.0]) - np.log(PRIOR)
    by_hand = log_softmax([2.0, 0.0]) + 2.0 * witness + 0.5 * other
    np.testing.assert_allclose(found[0], log_softmax(by_hand))


def test_a_further_teacher_that_read_nothing_adds_nothing():
    combined = replace(posterior(1.0, ()), further=(FurtherTeacher(),))
    teacher = np.array([[2.0, 0.0], [2.0, 0.0]])
    found = combined.logits(teacher, np.array([[[0.0, 3.0], [NAN, NAN]]]))
    np.testing.assert_allclose(found[1], log_softmax(teacher[1]))
    assert found[0, 0] < found[1, 0]


def test_plain_data_of_one_teacher_is_what_it_was():
    assert set(posterior().to_dict()) == {"temperature", "teacher", "witnesses", "prior", "kind"}
    several = replace(posterior(), further=(FurtherTeacher(2.0, 0.25),))
    assert several.to_dict()["further"] == [{"temperature": 2.0, "exponent": 0.25}]
    assert Posterior.from_dict(several.to_dict()) == several


def test_of_many_classes_a_further_teacher_has_a_temperature_for_each():
    each = FurtherTeacher(1.0, 0.5, (2.0, 4.0))
    several = Posterior(1.0, 1.0, (), (0.5, 0.5), "multi", further=(each,))
    found = several.logits(np.array([[1.0, 1.0]]), np.array([[[8.0, 8.0]]]))
    np.testing.assert_allclose(found, [[1.0 + 0.5 * 4.0, 1.0 + 0.5 * 2.0]])
    assert Posterior.from_dict(several.to_dict()) == several


def test_of_two_teachers_the_one_that_knows_is_listened_to():
    truth_N, (knows, _), _ = independent_views(400)
    rng = np.random.default_rng(1)
    guesses = log_softmax(rng.normal(size=(400, 2)), axis=1)
    truth_NC = np.eye(2, dtype=bool)[truth_N]
    start = replace(posterior(prior=(0.5, 0.5), witnesses=()), further=(FurtherTeacher(),))
    found = fit_exponents(start, guesses, knows[None, None], truth_NC)
    assert found.teacher == 0.0 and found.further[0].exponent >= 1.0
    found = fit_exponents(start, knows, guesses[None, None], truth_NC)
    assert found.teacher == 1.0 and found.is_useless


def test_one_teacher_keeps_a_say_of_its_own():
    truth_N, (knows, _), _ = independent_views(400)
    guesses = log_softmax(np.random.default_rng(1).normal(size=(400, 2)), axis=1)
    found = fit_exponents(posterior(), guesses, knows[None, None], np.eye(2, dtype=bool)[truth_N])
    assert found.teacher == 0.5  # the least of its grid


def test_two_teachers_that_say_the_same_share_what_one_has():
    truth_N, (knows, _), _ = independent_views(400)
    start = replace(posterior(prior=(0.5, 0.5), witnesses=()), further=(FurtherTeacher(),))
    found = fit_exponents(start, knows, knows[None, None], np.eye(2, dtype=bool)[truth_N])
    assert found.teacher + found.further[0].exponent == 1.0
