"""The pieces of benchmarks/kin.py that compute, against values by hand; its runs take minutes."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from composed import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks"))

from kin import cell_of, table_of
from kin_dividemix import (
    clean_probabilities,
    dividemix_loss,
    partners,
    refined,
    sharpened,
)
from kin_draws import Draw, Samples, hidden, picked
from kin_noise import EarlyLearning, confident_classes
from kin_training import (
    InputNoise,
    batches,
    best_on_select,
    mean_of,
    probabilities,
    product_of,
    rows_of,
    train,
)
from kin_views import with_surest

from mke_ray.schema import Batch


def samples(num, *, first=0):
    """Samples whose features are their numbers, of both classes in turn."""
    number_N = torch.arange(first, first + num)
    has_N = torch.ones(num, dtype=torch.bool)
    return Samples(
        {name: number_N[:, None].float() for name in "ab"},
        {"a": has_N, "b": has_N},
        number_N % 2,
        torch.zeros(num, 2),
        [f"g{one}" for one in number_N.tolist()],
    )


def draw(*, paired_weight=0.0, num_select=20):
    """Eight unlabeled samples, four labelled ones of modality a, and a select part."""
    return Draw(
        unlabeled=samples(8),
        labelled=hidden(samples(4, first=100), ["b"]),
        select=samples(num_select, first=200),
        test=samples(6),
        teacher_modality="a",
        spec=SimpleNamespace(
            student={
                "encoders": {
                    name: {"type": "features", "num_inputs": 1, "hidden": [8]} for name in "ba"
                },
                "fusion": {"type": "concat"},
                "head_hidden": [8],
            },
            optimizer={"type": "adamw", "lr": 0.03},
            schedule={"type": "cosine"},
            num_steps=60,
            global_batch=4,
            ema_decay=0.9,
        ),
        unimodal_head_hidden=(8,),
        labelled_share=0.25,
        paired_weight=paired_weight,
        gains={},
    )


def batch(target_BC, weight_B):
    num = len(weight_B)
    ids, has = torch.arange(num), {"a": torch.ones(num, dtype=torch.bool)}
    return Batch(ids, {"a": torch.zeros(num, 1)}, has, target_BC, weight_B)


def test_the_loss_of_elr_is_that_of_the_formula_and_its_targets_remember():
    # One row, label 0, said (0.25, 0.75): target 0.3 * said, agreement 0.3 * (1/16 + 9/16).
    loss = EarlyLearning((2, 2), weight=3.0, momentum=0.7)
    logits_BC = torch.tensor([[0.25, 0.75]]).log()
    one = batch(torch.tensor([[1.0, 0.0]]), torch.ones(1))
    found = loss(logits_BC, one, torch.tensor([1]))
    expected = -np.log(0.25) + 3.0 * np.log(1 - 0.3 * 0.625)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    assert loss.target_NC[1].tolist() == pytest.approx([0.075, 0.225])
    assert loss.target_NC[0].tolist() == [0.0, 0.0]
    again = loss(logits_BC, one, torch.tensor([1]))
    assert again.item() == pytest.approx(-np.log(0.25) + 3.0 * np.log(1 - 0.51 * 0.625), abs=1e-6)


def test_the_term_of_elr_pulls_towards_what_was_said_before_and_not_through_its_targets():
    loss = EarlyLearning((1, 2), weight=1.0, momentum=0.5)
    logits_BC = torch.tensor([[0.25, 0.75]]).log().requires_grad_()
    loss.target_NC[0] = torch.tensor([0.0, 1.0])
    one = batch(torch.tensor([[0.25, 0.75]]), torch.ones(1))  # cross-entropy is flat here
    loss(logits_BC, one, torch.tensor([0])).backward()
    # target (1/8, 7/8), agreement a = 11/16; the term's gradient is -p (t - a) / (1 - a)
    assert logits_BC.grad[0].tolist() == pytest.approx([0.45, -0.45], abs=1e-6)


def test_small_losses_are_clean_by_the_mixture_and_it_does_not_matter_how_large_they_are():
    rng = np.random.default_rng(0)
    small, large = rng.normal(0.2, 0.05, 60), rng.normal(2.0, 0.3, 40)
    loss_N = np.concatenate([small, large])
    clean_N = clean_probabilities(loss_N)
    assert (clean_N[:60] > 0.95).all() and (clean_N[60:] < 0.05).all()
    assert clean_probabilities(10 * loss_N) == pytest.approx(clean_N)


def test_labels_are_believed_as_far_as_they_are_clean_and_then_sharpened():
    target, said = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.2, 0.8]])
    found = refined(target, said, torch.tensor([0.5]))  # (0.6, 0.4) squared and normalised
    assert found[0].tolist() == pytest.approx([0.36 / 0.52, 0.16 / 0.52])
    assert sharpened(torch.tensor([[0.5, 0.5]]))[0].tolist() == [0.5, 0.5]


def test_the_loss_of_dividemix_is_that_of_the_formula():
    logits = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    weight, clean = torch.ones(2), torch.tensor([True, False])
    found = dividemix_loss(logits, target, weight, clean, 4.0)
    prior = -0.5 * (np.log(2 * 0.375) + np.log(2 * 0.625))
    assert found.item() == pytest.approx(-np.log(0.25) + 4.0 * 0.25 + prior, abs=1e-6)


def test_partners_have_the_same_modalities_and_everybody_is_one():
    has = torch.tensor([[True, True], [True, False]] * 10)
    partner = partners(has, torch.Generator().manual_seed(0))
    assert bool((has[partner] == has).all())
    assert sorted(partner.tolist()) == list(range(20)) != partner.tolist()


def test_co_training_names_the_surest_of_every_class_and_nothing_twice():
    said = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
    share = torch.tensor([0.5, 0.5])
    once = with_surest(torch.full((5,), -1), said, share, 2)
    assert once.tolist() == [0, -1, -1, -1, 1]
    twice = with_surest(once, said.flip(1), share, 2)  # what was named before stays
    assert twice.tolist() == [0, 1, -1, 0, 1]
    assert with_surest(once, said, torch.tensor([1.0, 0.0]), 4).tolist() == [0, 0, 0, 1, 1]


def test_a_class_is_confident_where_it_reaches_the_mean_of_those_labelled_so():
    label = torch.tensor([0, 0, 1, 1, 1])
    said = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.75, 0.25], [0.45, 0.55]])
    # class 0 from 0.7 on, class 1 from 0.5333 on
    assert confident_classes(said, label).tolist() == [0, -1, 1, 0, 1]


def test_rows_hold_the_labelled_split_with_its_share_and_pairs_only_where_asked():
    one = draw(paired_weight=0.0)
    target = torch.eye(2)[torch.zeros(8, dtype=torch.long)]
    rows = rows_of(one, target, torch.tensor([1.0, 0.0] * 4))
    assert len(rows) == 12 and rows.num_unlabeled == 8
    assert rows.weight_N[8:].tolist() == [0.25] * 4  # a quarter of 4, over 4 rows
    assert rows.present["b"].tolist() == [True] * 8 + [False] * 4
    assert rows.target_NC[8:].argmax(dim=1).tolist() == [0, 1, 0, 1]
    rows = rows_of(draw(paired_weight=3.0), target)
    assert len(rows) == 32 and rows.weight_N[12:].tolist() == [3.0] * 20
    assert rows.arrays["a"][12:, 0].tolist() == list(range(200, 220))


def test_an_epoch_is_a_permutation_and_its_last_batch_may_be_short():
    found = list(batches(torch.tensor([3, 5, 7]), 2, 4, seed=0))
    assert [len(row) for row, _ in found] == [2, 1, 2, 1]
    assert [epoch for _, epoch in found] == [0, 0, 1, 1]
    assert sorted(torch.cat([row for row, _ in found[:2]]).tolist()) == [3, 5, 7]
    assert [len(row) for row, _ in batches(torch.arange(3), 0, 2, seed=0)] == [3, 3]


def test_input_noise_is_of_the_size_of_the_samples_that_are_there():
    x_BX = torch.tensor([[2.0, -2.0], [0.0, 0.0]])
    torch.manual_seed(3)
    noise_BX = torch.randn(2, 2)
    torch.manual_seed(3)
    found = InputNoise({"a": torch.tensor([True, False])}).input("a", x_BX)
    assert torch.allclose(found, x_BX + 2.0 * noise_BX)
    nobody = InputNoise({"a": torch.tensor([False, False])}).input("a", x_BX)
    assert nobody.tolist() == x_BX.tolist()


def test_a_network_learns_what_it_is_told_of_the_modalities_it_reads_and_a_seed_repeats_it():
    one = draw()
    label_N = (torch.arange(8) > 3).long()
    rows = rows_of(replace(one, labelled_share=0.0), torch.eye(2)[label_N])
    both, again, alone = (
        probabilities(train(one, rows, modalities=names), one.unlabeled)
        for names in (None, None, ["b"])
    )
    assert both[[0, 7]].argmax(dim=1).tolist() == alone[[0, 7]].argmax(dim=1).tolist() == [0, 1]
    assert torch.equal(both, again) and not torch.equal(both, alone)


def test_rows_without_weight_are_not_learnt():
    one = replace(draw(), labelled_share=0.0)
    label_N = (torch.arange(8) > 3).long()
    wrong = rows_of(one, torch.eye(2)[1 - label_N], (torch.arange(8) == 8).float())
    wrong.weight_N[:1] = 1.0  # the first alone is learnt, as class 1, and so are all
    said = probabilities(train(one, wrong), one.unlabeled)
    assert said.argmax(dim=1).tolist() == [1] * 8


def test_a_mean_is_of_probabilities():
    def says(first):
        return lambda arrays, present: torch.tensor([[first, 1 - first]]).log()

    assert mean_of([says(0.6), says(0.8)])(samples(1))[0].tolist() == pytest.approx([0.7, 0.3])


def test_the_select_part_chooses_only_where_it_is_large_and_nobody_learns_from_it():
    def right(some):
        return torch.eye(2)[some.truth_N]

    def wrong(some):
        return torch.eye(2)[1 - some.truth_N]

    assert best_on_select(draw(), [right, wrong]) is right
    assert best_on_select(draw(), [right, right, wrong]) is not wrong
    assert best_on_select(draw(num_select=19), [right, wrong]) is wrong
    assert best_on_select(draw(paired_weight=3.0), [right, wrong]) is wrong


def test_two_views_answer_by_their_product():
    def says(first):
        return lambda arrays, present: torch.tensor([[first, 1 - first]]).log()

    found = product_of([says(0.6), says(0.8)])(samples(1))
    assert found[0].tolist() == pytest.approx([0.48 / 0.56, 0.08 / 0.56])


def test_the_teachers_modality_comes_first_and_picked_samples_keep_their_groups():
    assert draw().modalities == ("a", "b")
    some = picked(samples(5), [1, 3])
    assert some.groups == ["g1", "g3"] and some.truth_N.tolist() == [1, 1]
    assert some.arrays["a"][:, 0].tolist() == [1.0, 3.0]
    assert some.accuracy(torch.tensor([1, 0])) == 0.5


def test_the_table_has_points_spread_and_the_share_above_the_teacher():
    assert cell_of(np.array([0.02, -0.01])) == "+0.5 ± 1.5 (50%)"
    lines = table_of({"two_moon": {"ours": np.array([0.1, 0.1])}}).splitlines()
    assert lines[0] == "| arm | two_moon (2 draws) |"
    assert lines[2] == "| ours | +10.0 ± 0.0 (100%) |"
