"""Crossmodal distillation: the loss by hand, and teachers of one modality or several."""

import math

import pytest
import torch
from torch import Tensor

from mke_ray.errors import ConfigError
from mke_ray.models.student import Student, build_student
from mke_ray.objectives import DistillationObjective, distillation_loss
from mke_ray.schema import Batch

ONE = torch.ones(1)


def loss(logits: list[list[float]], teacher: list[list[float]], **more: float) -> dict[str, float]:
    found = distillation_loss(
        torch.tensor(logits),
        torch.tensor([[1.0, 0.0]] * len(logits)),
        torch.tensor(teacher),
        weight_B=torch.ones(len(logits)),
        **{"rho": 0.5, **more},
    )
    return {name: float(one) for name, one in found.items()}


def test_the_loss_is_that_of_the_paper_by_hand() -> None:
    # student 1/2, 1/2; teacher 3/4, 1/4; true class 0
    found = loss([[0.0, 0.0]], [[math.log(3.0), 0.0]], rho=0.25)
    label = math.log(2.0)
    teacher = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert found["label"] == pytest.approx(label)
    assert found["teacher"] == pytest.approx(teacher, rel=1e-5)
    assert found["loss"] == pytest.approx(0.25 * label + 0.75 * teacher, rel=1e-5)


def test_a_temperature_softens_both_and_is_multiplied_back() -> None:
    found = loss([[0.0, 0.0]], [[2.0 * math.log(3.0), 0.0]], temperature=2.0)
    once = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert found["teacher"] == pytest.approx(4.0 * once, rel=1e-5)


def test_the_divergence_is_a_mean_over_samples_and_not_over_classes() -> None:
    once = loss([[0.0, 0.0]], [[1.0, 0.0]])
    twice = loss([[0.0, 0.0]] * 2, [[1.0, 0.0]] * 2)
    assert once["teacher"] == pytest.approx(twice["teacher"])
    absent = [-60.0] * 6  # classes that neither of them ever says
    wide = distillation_loss(
        torch.tensor([[0.0, 0.0, *absent]]),
        torch.tensor([[1.0, 0.0, *[0.0] * 6]]),
        torch.tensor([[1.0, 0.0, *absent]]),
        weight_B=ONE,
        rho=0.5,
    )
    assert float(wide["teacher"]) == pytest.approx(once["teacher"], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "shape"), [("single", (4, 3)), ("multi", (4, 3)), ("dense", (4, 3, 2, 2))]
)
def test_a_student_that_says_what_its_teacher_says_pays_for_labels_alone(
    kind: str, shape: tuple[int, ...]
) -> None:
    logits = torch.randn(shape, requires_grad=True)
    target = torch.softmax(torch.randn(shape), dim=1)
    found = distillation_loss(
        logits, target, logits.detach(), weight_B=torch.ones(4), rho=0.3, kind=kind
    )
    assert float(found["teacher"]) == pytest.approx(0.0, abs=1e-6)
    assert float(found["loss"].detach()) == pytest.approx(0.3 * float(found["label"]), rel=1e-5)


def test_the_gradient_is_that_of_mixed_targets_at_temperature_one() -> None:
    logits = torch.randn(5, 3, requires_grad=True)
    target = torch.eye(3)[[0, 1, 2, 0, 1]]
    teacher = torch.randn(5, 3)
    distillation_loss(logits, target, teacher, weight_B=torch.ones(5), rho=0.4)["loss"].backward()
    mixed = 0.4 * target + 0.6 * teacher.softmax(dim=1)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(dim=1) - mixed) / 5)


def network(*modalities: str) -> Student:
    encoder = {"type": "features", "num_inputs": 3, "normalise": False}
    spec = {"encoders": dict.fromkeys(modalities, encoder), "fusion": {"type": "concat"}}
    return build_student(spec, 2)  # type: ignore[return-value]


def batch() -> Batch:
    arrays: dict[str, Tensor] = {name: torch.randn(4, 3) for name in ("a", "b")}
    present = {name: torch.ones(4, dtype=torch.bool) for name in arrays}
    return Batch(torch.arange(4), arrays, present, torch.eye(2)[[0, 1, 0, 1]], torch.ones(4))


@pytest.mark.parametrize("modalities", [("a",), ("b",), ("a", "b")])
def test_a_teacher_reads_its_own_modalities_and_is_not_trained(modalities: tuple[str, ...]) -> None:
    student, teacher, some = network("b"), network(*modalities), batch()
    parts = DistillationObjective(teacher, rho=0.0)(student, some, 0.0)
    parts["loss"].backward()
    assert student.output.weight.grad is not None and student.output.weight.grad.abs().sum() > 0
    assert all(one.grad is None for one in teacher.parameters())
    other = DistillationObjective(network(*modalities), rho=1.0)(student, some, 0.0)
    assert float(other["loss"].detach()) == pytest.approx(float(other["label"]))


@pytest.mark.parametrize(("key", "value"), [("rho", 1.5), ("rho", -0.1), ("temperature", 0.0)])
def test_settings_out_of_range_are_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"objective\.{key}"):
        DistillationObjective(network("a"), **{key: value})
