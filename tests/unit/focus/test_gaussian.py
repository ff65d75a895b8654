"""The synthetic study: what modalities share is what the layouts say, and seeds are alone."""

from dataclasses import replace

import pytest
import torch

from mke_ray.config_focus import GaussianConfig
from mke_ray.focus import gaussian, gaussian_data
from mke_ray.focus.gaussian import ALPHA, CHANNELS, EXPERIMENTS, GAMMA, Work, carry_out, layouts_of
from mke_ray.focus.gaussian_data import draw_gaussian

KEYS = GaussianConfig(
    overlaps=[0, 10], extras=[0, 40], shared=[5], num_train=60, num_test=200, num_steps=80
)


def work(experiment: str, *seeds: int) -> Work:
    return Work(experiment, seeds, KEYS, rho=2 / 3, temperature=1.0, num_permutations=3)


def test_settings_share_what_the_paper_says() -> None:
    keys = GaussianConfig()
    gammas = [one.gamma for one in layouts_of(GAMMA, keys)]
    assert gammas == pytest.approx([0, 1 / 9, 1 / 4, 3 / 7, 2 / 3, 1])
    alphas = [len(one.own) / one.teacher[1] for one in layouts_of(ALPHA, keys)]
    assert alphas == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4, 4 / 5])
    assert [one.gamma for one in layouts_of(CHANNELS, keys)] == pytest.approx([1 / 3, 1 / 2, 2 / 3])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_both_modalities_hold_the_shared_features_and_no_other_ones_alike(experiment: str) -> None:
    for layout in layouts_of(experiment, GaussianConfig()):
        drawn = draw_gaussian([(3, layout)], num_samples=50, part=0)
        num_alike = min(layout.num_teacher, layout.num_student)
        alike = (drawn.teacher_KND[0, :, :num_alike] == drawn.student_KND[0, :, :num_alike]).all(0)
        assert alike.nonzero().ravel().tolist() == list(layout.shared)


def test_the_class_is_decided_by_the_decisive_features_alone() -> None:
    (layout,) = layouts_of(CHANNELS, KEYS)
    drawn = draw_gaussian([(0, layout)], num_samples=100, part=1)
    assert torch.equal(drawn.truth_KN[0] == 1, drawn.teacher_KND[0, :, :15].sum(dim=1) > 0)


def test_a_teacher_of_other_parts_changes_nothing_but_the_teacher() -> None:
    first, last = layouts_of(GAMMA, KEYS)
    drawn = draw_gaussian([(1, first), (1, last), (2, last)], num_samples=30, part=0)
    assert torch.equal(drawn.student_KND[0], drawn.student_KND[1])
    assert torch.equal(drawn.truth_KN[0], drawn.truth_KN[1])
    assert not torch.equal(drawn.student_KND[1], drawn.student_KND[2])


def test_parts_are_other_samples_on_the_same_plane() -> None:
    layout = replace(layouts_of(GAMMA, KEYS)[1], num_decisive=20)
    parts = [draw_gaussian([(1, layout)], num_samples=30, part=part) for part in range(3)]
    assert len({float(one.student_KND.sum()) for one in parts}) == 3


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_samples_to_distill_on_are_drawn_where_students_have_their_own(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def counted(settings, *, num_samples: int, part: int) -> gaussian_data.Gaussian:
        drawn.append((part, num_samples))
        return draw_gaussian(settings, num_samples=num_samples, part=part)

    monkeypatch.setattr(gaussian, "draw_gaussian", counted)
    carry_out(work(experiment, 0))
    own = [(gaussian.DISTILL, 60)] if experiment == CHANNELS else []
    assert sorted(drawn) == [(gaussian.TRAIN, 60), *own, (gaussian.TEST, 200)]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_seeds_give_the_same_together_as_alone(experiment: str) -> None:
    together = carry_out(work(experiment, 0, 1))
    alone = carry_out(work(experiment, 1))
    mine = [one for one in together if one["seed"] == 1]
    assert len(together) == 2 * len(alone)
    for one, other in zip(mine, alone, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key] == pytest.approx(other[key], abs=0.011)  # rounding may turn a sample
