"""What a pre-flight measures follows what is known of the world it looks at."""

import json
from dataclasses import replace

import numpy as np
import pytest
from answers_of_experts import answers, many_classes

from mke_ray.focus.evidence import evidence_of
from mke_ray.focus.select_answers import cross_fitted
from mke_ray.metrics import mean_average_precision


def test_two_experts_with_errors_of_their_own_gain_by_joining() -> None:
    """Independent errors: joined is better than either, and most of what they know is their own."""
    found = evidence_of(answers())
    assert found.gain.value > 0.1
    assert found.gain.ci95 is not None
    assert found.gain.ci95[0] > 0.05
    assert found.joined.value > max(found.teacher.value, found.witness.value)
    assert found.dependence.correlation is not None
    assert abs(found.dependence.correlation.value) < 0.15


def test_two_experts_with_the_same_errors_know_the_same() -> None:
    """Shared noise: gamma near one, errors correlated, nothing to be gained."""
    found = evidence_of(answers(shared=0.98))
    assert found.information.gamma is not None
    assert found.information.gamma.value > 0.85
    assert found.dependence.correlation is not None
    assert found.dependence.correlation.value > 0.6
    assert abs(found.gain.value) < 0.03


def test_gamma_rises_with_what_both_know() -> None:
    """More shared noise, more of what is known is known to both."""
    gammas = [evidence_of(answers(shared=one)).information.gamma for one in (0.0, 0.5, 0.9)]
    values = [one.value for one in gammas if one is not None]
    assert values == sorted(values)
    assert values[-1] - values[0] > 0.3


def test_a_witness_that_knows_nothing_gains_nothing() -> None:
    """Its bits, its share and the gain are zero, and its answers are chance."""
    found = evidence_of(answers(witness=0.0))
    assert found.gain.value == pytest.approx(0.0, abs=0.01)
    assert found.information.witness < 0.02
    assert found.information.witness_only < 0.02
    assert found.witness.value < 0.3


def test_the_parts_of_what_is_known_add_up() -> None:
    """Only the teacher, only the witness, both and only both together are all that is known."""
    bits = evidence_of(answers(teacher=1.0, witness=2.0)).information
    parts = bits.teacher_only + bits.witness_only + bits.shared + bits.together_only
    assert parts == pytest.approx(bits.both)
    assert bits.both <= bits.entropy
    assert bits.witness_only > bits.teacher_only


def test_what_is_known_of_two_sure_halves_is_what_theory_says() -> None:
    """A class of two independent bits, of which each expert knows one: gamma is 0, both know 2."""
    rng = np.random.default_rng(0)
    bits_N2 = rng.integers(2, size=(2000, 2))
    sure = 12.0
    truth_N = 2 * bits_N2[:, 0] + bits_N2[:, 1]
    known = answers(num=2000)
    teacher_NC = np.zeros((2000, 4))
    witness_NC = np.zeros((2000, 4))
    for one in range(4):
        teacher_NC[:, one] = sure * (bits_N2[:, 0] == one // 2)
        witness_NC[:, one] = sure * (bits_N2[:, 1] == one % 2)
    said = type(known)(
        np.eye(4, dtype=bool)[truth_N],
        teacher_NC,
        witness_NC[None, None],
        known.group_N,
        np.full(4, 0.25),
    )
    bits = evidence_of(said).information
    assert bits.teacher == pytest.approx(1.0, abs=0.02)
    assert bits.witness == pytest.approx(1.0, abs=0.02)
    assert bits.both == pytest.approx(2.0, abs=0.02)
    assert bits.gamma is not None
    assert bits.gamma.value < 0.02


def test_the_neighbours_of_errors_are_right_where_the_witness_looks() -> None:
    """In the teacher's own answers errors lie among their like; in the witness's they do not."""
    near = evidence_of(answers()).expansion
    assert near is not None
    assert near.witness.value > 2 * near.teacher.value
    assert near.teacher_confirms.value > 2 * near.witness_confirms.value


def test_neighbours_are_of_other_groups() -> None:
    """Copies of a sample in its own group are no evidence."""
    few = answers(num=120)
    rows = np.repeat(np.arange(120), 5)
    copied, alone = evidence_of(few.some(rows)).expansion, evidence_of(few).expansion
    assert copied is not None
    assert alone is not None
    assert copied.witness.value == pytest.approx(alone.witness.value, abs=0.15)


def test_fewer_groups_make_intervals_wider() -> None:
    """600 samples of 8 people say less than 600 samples of 600."""
    few = answers(num=600, num_groups=8)
    moved = few.witness_FMNC.copy()
    moved[:, :, few.group_N < 4] *= -1.0  # of half of the people it says the opposite
    by_sample, by_group = (
        evidence_of(
            type(few)(few.truth_NC, few.teacher_NC, moved, group_N, few.prior_C)
        ).witness.ci95
        for group_N in (np.arange(600), few.group_N)
    )
    assert by_sample is not None
    assert by_group is not None
    assert by_group[1] - by_group[0] > 1.4 * (by_sample[1] - by_sample[0])


def test_temperature_and_exponents_are_fitted_on_other_groups() -> None:
    """Changing the truth of a part changes nothing in the answers about that part."""
    before = answers(num=100, num_groups=5)
    own = before.group_N == 0
    truth_NC = before.truth_NC.copy()
    truth_NC[own] = np.roll(truth_NC[own], 1, axis=1)
    after = type(before)(
        truth_NC, before.teacher_NC, before.witness_FMNC, before.group_N, before.prior_C
    )
    first, second = cross_fitted(before), cross_fitted(after)
    np.testing.assert_array_equal(first.both_FNC[:, own], second.both_FNC[:, own])
    assert not np.array_equal(first.both_FNC[:, ~own], second.both_FNC[:, ~own])


def test_samples_of_many_classes_are_measured_by_average_precision() -> None:
    """Mean average precision, information per class, errors of every question; no neighbours."""
    found = evidence_of(many_classes())
    known = many_classes()
    assert found.metric == "map"
    assert found.teacher.value == mean_average_precision(known.teacher_NC, known.truth_NC)
    assert found.joined.value > found.teacher.value
    assert found.gain.value > 0.05
    assert 0 < found.information.both <= found.information.entropy <= 1.0
    assert found.expansion is None


def test_a_witness_that_saw_nothing_of_a_sample_leaves_it_to_the_teacher() -> None:
    """NaN answers neither spoil what is measured nor count as knowledge."""
    whole = answers()
    witness = whole.witness_FMNC.copy()
    witness[:, :, ::2] = np.nan
    found = evidence_of(
        type(whole)(whole.truth_NC, whole.teacher_NC, witness, whole.group_N, whole.prior_C)
    )
    assert 0 < found.gain.value < evidence_of(whole).gain.value
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_trial_student_is_compared_with_the_teacher() -> None:
    """Where it saw nothing of a sample the teacher answers; without one there is no such gain."""
    known = answers()
    both_NC = known.teacher_NC + 3.0 * known.witness_FMNC[0, 0]
    whole = evidence_of(replace(known, trial_NC=both_NC))
    half_NC = both_NC.copy()
    half_NC[::2] = np.nan
    half = evidence_of(replace(known, trial_NC=half_NC))
    assert whole.trial_gain is not None
    assert half.trial_gain is not None
    assert whole.trial_gain.value > half.trial_gain.value > 0
    assert evidence_of(known).trial_gain is None
