"""Many classifiers at once are those that torch trains one by one."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mke_ray.errors import TrainingError
from mke_ray.focus.linear import (
    LinearBank,
    Slope,
    distillation_slope,
    label_slope,
    train_bank,
    train_jointly,
)
from mke_ray.objectives import distillation_loss

K, N, D, C = 3, 20, 4, 2


def given() -> tuple[Tensor, Tensor, Tensor]:
    """Samples, one-hot classes and logits of teachers, classes before samples."""
    generator = torch.Generator().manual_seed(0)
    x_KND = torch.randn(K, N, D, generator=generator)
    truth_KN = torch.randint(0, C, (K, N), generator=generator)
    teacher_KCN = torch.randn(K, C, N, generator=generator)
    return x_KND, functional.one_hot(truth_KN, C).float().transpose(1, 2), teacher_KCN


def one_by_one(bank: LinearBank, number: int) -> nn.Linear:
    layer = nn.Linear(D, C)
    state = {"weight": bank.weight_KCD[number], "bias": bank.bias_KC1[number, :, 0]}
    layer.load_state_dict({name: one.clone() for name, one in state.items()})
    return layer


@pytest.mark.parametrize(("rho", "temperature"), [(1.0, 1.0), (0.4, 1.0), (0.3, 2.5)])
def test_a_bank_takes_the_steps_that_torch_takes(rho: float, temperature: float) -> None:
    x_KND, target_KCN, teacher_KCN = given()
    bank = LinearBank.drawn([5, 6, 7], D, C)
    slope = distillation_slope(target_KCN, teacher_KCN, rho=rho, temperature=temperature)
    trained = train_bank(bank, x_KND, slope, num_steps=30, lr=0.5)
    for number in range(K):
        layer = one_by_one(bank, number)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
        for _ in range(30):
            optimizer.zero_grad()
            distillation_loss(
                layer(x_KND[number]),
                target_KCN[number].T,
                teacher_KCN[number].T,
                weight_B=torch.ones(N),
                rho=rho,
                temperature=temperature,
            )["loss"].backward()
            optimizer.step()
        torch.testing.assert_close(trained.weight_KCD[number], layer.weight.detach())
        torch.testing.assert_close(trained.bias_KC1[number, :, 0], layer.bias.detach())


def test_distillation_of_true_labels_alone_is_training_without_a_teacher() -> None:
    x_KND, target_KCN, teacher_KCN = given()
    bank = LinearBank.drawn([1, 2, 3], D, C)
    slopes: list[Slope] = [
        label_slope(target_KCN),
        distillation_slope(target_KCN, teacher_KCN, rho=1.0, temperature=1.0),
    ]
    one, other = (train_bank(bank, x_KND, slope, num_steps=5, lr=0.1) for slope in slopes)
    torch.testing.assert_close(one.weight_KCD, other.weight_KCD)


def test_joint_training_takes_the_steps_that_torch_takes() -> None:
    x_KND, target_KCN, _ = given()
    seen_KND = torch.randn(K, N, D, generator=torch.Generator().manual_seed(9))
    starts = LinearBank.drawn([1, 2, 3], D, C), LinearBank.drawn([4, 5, 6], D, C)
    trained = train_jointly(starts, (seen_KND, x_KND), target_KCN, num_steps=20, lr=0.1)
    teacher, student = (one_by_one(one, 1) for one in starts)
    weights = [*teacher.parameters(), *student.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        said, other = teacher(seen_KND[1]), student(x_KND[1])
        labels_N = target_KCN[1].argmax(dim=0)
        loss = functional.cross_entropy(said, labels_N) + functional.cross_entropy(other, labels_N)
        (loss + functional.mse_loss(said, other)).backward()
        optimizer.step()
    for bank, layer in zip(trained, (teacher, student), strict=True):
        torch.testing.assert_close(bank.weight_KCD[1], layer.weight.detach())


def test_classifiers_start_by_their_own_seed_and_not_by_their_place() -> None:
    several, alone = LinearBank.drawn([3, 8], D, C), LinearBank.drawn([8], D, C)
    assert torch.equal(several.weight_KCD[1], alone.weight_KCD[0])
    assert not torch.equal(several.weight_KCD[0], several.weight_KCD[1])


def test_weights_that_do_not_stay_finite_are_named_by_the_learning_rate() -> None:
    x_KND, target_KCN, _ = given()
    bank = LinearBank.drawn([1, 2, 3], D, C)
    with pytest.raises(TrainingError, match=r"focus\.gaussian\.lr=3e\+38"):
        train_bank(bank, x_KND, label_slope(target_KCN), num_steps=5, lr=3e38)
