import dataclasses

import numpy as np
import pytest

from mke_ray.gate import (
    GateDecision,
    GateRules,
    GateScores,
    decide,
    judge,
    num_effective_groups,
    with_rival_on_test,
    with_test_gain,
)
from mke_ray.schema import fingerprint
from mke_ray.storage import open_root


def scores(num_better, num_worse, num_same=100, **changes):
    """Samples of one group each: the student right where the teacher is wrong, and so on."""
    teacher = np.repeat([0.0, 1.0, 1.0], [num_better, num_worse, num_same])
    student = np.repeat([1.0, 0.0, 1.0], [num_better, num_worse, num_same])
    num = len(teacher)
    plain = {
        "sample_id_N": np.arange(num),
        "group_N": np.arange(num),
        "teacher_N": teacher,
        "student_N": student,
    }
    return GateScores(**{**plain, **changes})


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path))


def test_a_student_that_is_clearly_better_is_promoted():
    decision = judge(scores(40, 5), GateRules())
    assert decision.promoted
    assert decision.verdict == "promoted"
    assert decision.gain == pytest.approx(35 / 145)
    assert 0 < decision.lower_bound < decision.gain
    assert "+24.1 points" in decision.reason
    assert "145 gate samples" in decision.reason


def test_a_gain_that_could_be_chance_is_inconclusive_and_says_how_many_more_would_settle_it():
    decision = judge(scores(12, 9), GateRules())
    assert decision.verdict == "inconclusive"
    assert not decision.promoted
    assert decision.lower_bound <= 0 < decision.gain
    assert decision.num_more_samples > 121
    assert f"{decision.num_more_samples:,} more labelled samples" in decision.reason
    assert "The teacher is kept" in decision.reason


def test_more_samples_as_many_as_were_asked_for_settle_it():
    few = judge(scores(12, 9, 100), GateRules())
    factor = 1.1 * (few.num_samples + few.num_more_samples) / few.num_samples
    many = judge(scores(round(12 * factor), round(9 * factor), round(100 * factor)), GateRules())
    assert many.verdict == "promoted"


def test_a_student_that_is_no_better_is_rejected():
    assert judge(scores(9, 9), GateRules()).verdict == "rejected"
    worse = judge(scores(5, 30), GateRules())
    assert worse.verdict == "rejected"
    assert "not better than its teacher" in worse.reason
    assert worse.num_more_samples is None


def test_samples_of_few_groups_count_for_less_than_independent_ones():
    alone = scores(18, 6, 76)
    together = dataclasses.replace(alone, group_N=np.repeat([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 10))
    assert judge(alone, GateRules()).verdict == "promoted"
    bound = judge(together, GateRules()).lower_bound
    assert bound < judge(alone, GateRules()).lower_bound


@pytest.mark.parametrize("num_same", [0, 20])
def test_too_few_samples_are_unverified_and_open_nothing(root, num_same):
    decision = decide(root, scores(20, 0, num_same), student="s")
    assert decision.verdict == "unverified"
    assert decision.gain is None
    assert decision.openings == 0
    assert "at least 50 are needed" in decision.reason
    assert not list(root.names())


def test_an_unverified_decision_names_the_better_network_of_the_labels_alone(root):
    decision = decide(root, scores(20, 0, 0), student="s")
    said = with_rival_on_test(decision, student=0.701, labelled_only=0.884, teacher=0.7)
    assert "88.4% against the student's 70.1%" in said.reason
    assert said.beaten_by_labelled_only and said.verdict == "unverified"
    assert with_rival_on_test(decision, student=0.9, labelled_only=0.884, teacher=0.7) == decision
    both = with_rival_on_test(decision, student=0.1, labelled_only=0.2, teacher=0.25)
    assert both.reason.endswith(
        "20.0% against the student's 10.0%: both are below the teacher (25.0%)."
    )


def test_a_decision_of_an_opened_gate_compares_on_its_own_samples_alone():
    promoted = judge(scores(18, 6, 76), GateRules())
    assert with_rival_on_test(promoted, student=0.7, labelled_only=0.9, teacher=0.7) == promoted


def test_samples_of_one_actor_are_unverified_however_many_they_are(root):
    one_actor = scores(80, 0, group_N=np.repeat("actor", 180))
    decision = decide(root, one_actor, student="s")
    assert decision.verdict == "unverified"
    assert "1 group" in decision.reason


def test_no_probe_is_unverified(root):
    decision = decide(root, None, student="s")
    assert (decision.verdict, decision.promoted) == ("unverified", False)
    assert "no labelled multimodal samples" in decision.reason


def test_the_same_student_is_decided_once_and_each_other_student_is_an_opening(root):
    first = decide(root, scores(40, 5), student="one")
    changed_after_all = dataclasses.replace(scores(40, 5), student_N=np.zeros(145))
    again = decide(root, changed_after_all, student="one")
    other = decide(root, scores(5, 40), student="two")
    assert first == again
    assert (first.openings, other.openings) == (1, 2)
    assert "2 decisions" in other.reason
    assert decide(root, scores(40, 5), student="one").openings == 1


def test_other_gate_samples_are_counted_apart(root):
    decide(root, scores(40, 5), student="one")
    fresh = decide(root, scores(40, 5, sample_id_N=np.arange(145) + 1000), student="two")
    assert fresh.openings == 1


def test_one_sample_more_does_not_make_the_gate_part_new(root):
    decide(root, scores(40, 5), student="one")
    shifted = decide(root, scores(40, 5, sample_id_N=np.arange(145) + 1), student="two")
    assert shifted.openings == 2


def test_the_order_of_the_samples_does_not_make_another_probe():
    forward, backward = scores(4, 2), scores(4, 2, sample_id_N=np.arange(106)[::-1])
    assert forward.digest() == backward.digest()
    assert forward.digest() != scores(4, 3).digest()


def test_a_changed_bar_is_another_look(root):
    decide(root, scores(40, 5), student="one")
    lower_bar = decide(root, scores(40, 5), student="one", rules=GateRules(confidence=0.8))
    assert lower_bar.openings == 2


def test_a_net_of_the_paired_labels_alone_that_is_better_is_named_in_the_verdict():
    better = scores(40, 5, labelled_only_N=np.ones(145))
    worse = scores(40, 5, labelled_only_N=np.zeros(145))
    assert judge(better, GateRules()).beaten_by_labelled_only
    assert "mm_labelled_only" in judge(better, GateRules()).reason
    assert judge(better, GateRules()).promoted
    assert "mm_labelled_only" not in judge(worse, GateRules()).reason


def test_labels_alone_that_do_as_well_are_named():
    same = scores(40, 5)
    same = scores(40, 5, labelled_only_N=same.student_N[::-1])
    decision = judge(same, GateRules())
    assert "does as well" in decision.reason and not decision.beaten_by_labelled_only


def test_a_small_gate_part_advises_care():
    assert "Fewer than 100" in judge(scores(30, 0, 40), GateRules()).reason
    assert "Fewer than 100" not in judge(scores(30, 0, 70), GateRules()).reason


def test_who_is_told_to_label_more_is_told_how():
    said = judge(scores(30, 0, 40), GateRules()).reason
    assert "label more (jobs/ask.py says which, see docs/asking.md)." in said
    of_maps = judge(scores(30, 0, 40, metric="miou"), GateRules()).reason
    assert "label more." in of_maps  # it asks for names of classes alone


def test_a_decision_survives_plain_data():
    decision = judge(scores(12, 9), GateRules())
    assert GateDecision.from_dict(decision.to_dict()) == decision


def test_a_tied_student_on_few_changed_samples_is_not_promoted_by_luck():
    assert judge(scores(2, 0), GateRules()).verdict == "inconclusive"


def grouped(num_groups, *, num_better=40, num_worse=5):
    plain = scores(num_better, num_worse, 200 - num_better - num_worse)
    group = np.random.default_rng(0).permutation(np.arange(200) % num_groups)
    return dataclasses.replace(plain, group_N=group)


def test_few_groups_advise_care_however_many_samples_they_have():
    assert "Fewer than 20 groups" in judge(grouped(19), GateRules()).reason
    assert "Fewer than 20 groups" not in judge(grouped(20), GateRules()).reason
    assert "Fewer than 100" not in judge(grouped(19), GateRules()).reason


def test_what_would_settle_it_is_said_in_groups_where_they_hold_several_samples():
    decision = judge(grouped(20, num_better=14, num_worse=9), GateRules())
    assert decision.verdict == "inconclusive" and decision.num_more_samples is not None
    num_groups = -(-decision.num_more_samples // 10)
    assert f"of about {num_groups:,} more groups, in the gate part" in decision.reason
    assert "more groups" not in judge(scores(12, 9), GateRules()).reason


def test_the_least_number_of_groups_is_the_rules():
    decision = judge(grouped(7), GateRules(min_groups=8))
    assert decision.verdict == "unverified"
    assert "at least 8 are needed (gate.min_groups)" in decision.reason
    assert judge(grouped(8), GateRules(min_groups=8)).verdict == "promoted"


def test_groups_of_unequal_size_count_as_equal_ones_that_say_as_much():
    assert num_effective_groups([7, 7, 7]) == pytest.approx(3)
    assert num_effective_groups([120, 20, 20, 20, 20]) == pytest.approx(40_000 / 16_000)
    assert num_effective_groups([]) == 0


def test_a_gate_part_that_is_mostly_of_one_group_is_unverified():
    group = np.repeat(np.arange(5), [120, 20, 20, 20, 20])
    uneven = dataclasses.replace(scores(60, 0, 140), group_N=group)
    decision = judge(uneven, GateRules())
    assert decision.verdict == "unverified"
    assert "5 group(s), so unevenly that they count as 2" in decision.reason
    nearly_even = np.repeat(np.arange(5), [44, 42, 40, 38, 36])
    even = dataclasses.replace(scores(60, 0, 140), group_N=np.tile(np.arange(5), 40))
    assert "unevenly" not in judge(even, GateRules(min_groups=6)).reason
    assert judge(dataclasses.replace(even, group_N=nearly_even), GateRules()).gain is not None


def test_a_promotion_beside_no_gain_on_the_test_set_says_so_and_stays_one():
    promoted = judge(scores(40, 5), GateRules())
    said = with_test_gain(promoted, gain=0.0004, ci95=(-0.0061, 0.007))
    assert "Caution: on the test set the difference is +0.0 points" in said.reason
    assert "(95%: -0.6 points to +0.7 points)" in said.reason
    assert said.promoted and said.verdict == "promoted"
    assert "-2.0 points," in with_test_gain(promoted, gain=-0.02, ci95=None).reason


def test_a_gain_on_the_test_set_or_a_student_that_is_kept_needs_no_caution():
    promoted, kept = judge(scores(40, 5), GateRules()), judge(scores(5, 30), GateRules())
    assert with_test_gain(promoted, gain=0.0006, ci95=None) == promoted
    assert with_test_gain(kept, gain=-0.1, ci95=None) == kept


def test_a_corrected_label_opens_the_gate_anew_and_nothing_else_does(root):
    truth_N = np.arange(145, dtype=np.uint64)
    first = decide(root, scores(40, 5, truth_N=truth_N), student="one")
    order = np.arange(145)[::-1]
    given = scores(40, 5, truth_N=truth_N)
    names = ("sample_id_N", "group_N", "teacher_N", "student_N", "truth_N")
    shuffled = dataclasses.replace(given, **{one: getattr(given, one)[order] for one in names})
    assert decide(root, shuffled, student="one") == first
    mended = scores(5, 40, truth_N=np.where(truth_N == 3, 7, truth_N))
    again = decide(root, mended, student="one")
    assert (again.verdict, again.openings) == ("rejected", 2)


def test_a_record_of_before_stands_where_it_found_the_same(root):
    before = scores(40, 5)
    first = decide(root, before, student="one")
    folder = root.child("gate", before.digest())
    (name,) = folder.names()
    rules = dataclasses.asdict(GateRules())
    folder.write(f"{fingerprint(['one', rules])}.json", folder.read(name))
    folder.delete(name)
    assert decide(root, before, student="one") == first
    assert decide(root, scores(5, 40), student="one").openings == 2
