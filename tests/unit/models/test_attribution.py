"""Shapley values over modalities, against values computed by hand."""

import pytest
import torch

from mke_ray.errors import ConfigError
from mke_ray.models.attribution import attribution, check_number
from mke_ray.models.probabilities import decisions, probabilities
from mke_ray.schema import LabelKind

# Probability of the first of two classes by what is shown.
GIVEN = {("a", "b"): 0.9, ("a",): 0.7, ("b",): 0.4, (): 0.123}


def decided(present):
    rows = []
    for has_a, has_b in zip(present["a"].tolist(), present["b"].tolist(), strict=True):
        shown = tuple(name for name, has in (("a", has_a), ("b", has_b)) if has)
        rows.append([[GIVEN[shown]], [1 - GIVEN[shown]]])
    return torch.tensor(rows)


def test_two_modalities_share_the_answer_as_computed_by_hand():
    yes = torch.ones(1, dtype=torch.bool)
    found = attribution(decided, ("a", "b"), {"a": yes, "b": yes})
    # a: ((0.7 - 0.5) + (0.9 - 0.4)) / 2; b: ((0.4 - 0.5) + (0.9 - 0.7)) / 2; a guess is 0.5.
    assert found.shapley_BM[0].tolist() == pytest.approx([0.35, 0.05])
    assert found.shapley_BM.sum().item() == pytest.approx(0.9 - 0.5)
    # Without a the first class has 0.4: the other one is answered; without b it stays.
    assert found.changed_BM[0].tolist() == [1.0, 0.0]


def test_a_modality_that_is_missing_has_no_part():
    present = {"a": torch.tensor([True, False]), "b": torch.tensor([False, True])}
    found = attribution(decided, ("a", "b"), present)
    # The second sample answers the second class, 1 - 0.4.
    assert found.shapley_BM.tolist() == [pytest.approx([0.2, 0.0]), pytest.approx([0.0, 0.1])]
    assert found.changed_BM.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_three_modalities_follow_the_formula():
    worth = {"a": 1.0, "b": 2.0, "c": 4.0}

    asked = []

    def by_worth(present):
        asked.append(present)
        num = sum(worth[name] * present[name].float() for name in worth)
        probability_B = 0.5 + num / 16 + 0.05 * (present["a"] & present["b"]).float()
        return torch.stack([probability_B, 1 - probability_B], dim=1)[..., None]

    yes = torch.ones(1, dtype=torch.bool)
    found = attribution(by_worth, ("a", "b", "c"), dict.fromkeys(worth, yes))
    assert found.shapley_BM[0].tolist() == pytest.approx([1 / 16 + 0.025, 2 / 16 + 0.025, 4 / 16])
    assert len(asked) == 7  # of no modality nothing has to be asked


def test_decisions_are_one_for_a_class_one_for_each_of_many_and_one_for_each_pixel():
    logits = torch.tensor([[2.0, 0.0, -2.0]])
    single = decisions(probabilities(logits, LabelKind.SINGLE, 2.0), LabelKind.SINGLE)
    assert single.shape == (1, 3, 1)
    assert torch.allclose(single[0, :, 0], (logits[0] / 2).softmax(dim=0))
    multi = decisions(probabilities(logits, LabelKind.MULTI), LabelKind.MULTI)
    assert multi.shape == (1, 2, 3) and torch.allclose(multi.sum(dim=1), torch.ones(1, 3))
    assert multi[0, 1, 0] > 0.8
    dense = decisions(probabilities(torch.zeros(2, 4, 3, 5), LabelKind.DENSE), LabelKind.DENSE)
    assert dense.shape == (2, 4, 15)


def test_more_modalities_than_can_be_tried_are_refused():
    with pytest.raises(ConfigError, match=r"explain=true .* reads 9; at most 8"):
        check_number([str(number) for number in range(9)])
