"""Small networks trained in memory: the order of samples, and the loss of Algorithm 1 by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from mke_ray.config_schema import FitConfig
from mke_ray.errors import TrainingError
from mke_ray.focus.fitting import by_objective, fit_networks, jointly, num_steps_of
from mke_ray.objectives import DistillationObjective
from mke_ray.schema import Batch


def table(num: int) -> Batch:
    has_B = torch.ones(num, dtype=torch.bool)
    arrays = {"a": torch.arange(num, dtype=torch.float32)[:, None]}
    return Batch(torch.arange(num), arrays, {"a": has_B}, torch.eye(2)[[0] * num], torch.ones(num))


class _Says(nn.Module):
    """Says the same of every sample."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, arrays: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        return self.logits.expand(len(present["a"]), -1)


def test_the_joint_loss_is_two_of_labels_and_the_mean_square_between_logits() -> None:
    teacher, student = _Says(math.log(3.0), 0.0), _Says(0.0, 0.0)
    found = jointly(teacher, student, kind="single")(table(4), 0.0)
    labels = math.log(4 / 3) + math.log(2)
    assert float(found.detach()) == pytest.approx(labels + math.log(3.0) ** 2 / 2, rel=1e-5)


def test_every_sample_comes_once_an_epoch_in_an_order_of_the_seed() -> None:
    def seen(seed: int) -> list[list[int]]:
        orders: list[list[int]] = []
        network = _Says(0.0, 0.0)

        def loss(batch: Batch, progress: float) -> Tensor:
            orders.append(batch.sample_id_B.tolist())
            return network.logits.sum()

        keys = FitConfig(num_steps=4, global_batch=4, optimizer={"type": "sgd", "lr": 0.1})
        fit_networks([network], loss, table(8), keys, seed=seed)
        return orders

    first, second, third, fourth = seen(0)
    assert sorted(first + second) == sorted(third + fourth) == list(range(8))
    assert first + second != third + fourth
    assert seen(0) == seen(0) != seen(1)


def test_steps_follow_from_epochs_where_they_are_not_given() -> None:
    assert num_steps_of(FitConfig(num_steps=7), 100) == 7
    assert num_steps_of(FitConfig(num_epochs=3, global_batch=20), 100) == 15
    assert num_steps_of(FitConfig(num_epochs=3, global_batch=0), 100) == 3


def test_a_step_that_is_not_finite_ends_the_fit_and_names_its_samples() -> None:
    network = _Says(0.0, 0.0)

    def loss(batch: Batch, progress: float) -> Tensor:
        return network.logits.sum() * (math.nan if 3 in batch.sample_id_B else 1.0)

    keys = FitConfig(num_steps=8, global_batch=1, optimizer={"type": "sgd", "lr": 0.1})
    with pytest.raises(TrainingError, match=r"loss is nan.*samples \[3\] of 1"):
        fit_networks([network], loss, table(8), keys, seed=0)
    assert torch.isfinite(network.logits).all()


def test_a_gradient_that_is_not_finite_ends_the_fit() -> None:
    network = _Says(0.0, 0.0)
    keys = FitConfig(num_steps=1, optimizer={"type": "sgd", "lr": 0.1})
    with pytest.raises(TrainingError, match=r"norm of its gradient inf"):
        fit_networks([network], lambda *_: network.logits.sqrt().sum(), table(8), keys, seed=0)


def test_dropout_is_drawn_by_the_seed_of_the_fit_and_leaves_other_draws_alone() -> None:
    def weights(seed: int) -> list[float]:
        network = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 1, bias=False))
        nn.init.ones_(network[1].weight)
        keys = FitConfig(num_steps=3, global_batch=8, optimizer={"type": "sgd", "lr": 0.01})
        fit_networks(
            [network], lambda one, _: network(one.arrays["a"]).sum(), table(8), keys, seed=seed
        )
        return network[1].weight.flatten().tolist()

    torch.manual_seed(1)
    first = weights(0)
    after = float(torch.rand(()))
    torch.manual_seed(1)
    nn.Linear(1, 1, bias=False)
    assert float(torch.rand(())) == after
    torch.manual_seed(2)
    assert weights(0) == first != weights(1)


def test_a_fit_is_on_the_device_of_its_samples() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(1, 2), nn.Dropout(0.5))

        def forward(self, arrays: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
            return self.layers(arrays["a"])

    # The device "meta" has shapes and no numbers: a step goes well until its loss is looked at.
    samples, teacher = table(8).to("meta"), Network().to("meta")
    keys = FitConfig(num_steps=1, global_batch=4, optimizer={"type": "adamw", "lr": 0.1})
    for device, said in (("meta", r"item\(\) cannot be called"), ("cpu", "not on the expected")):
        student = Network().to(device)
        with pytest.raises(RuntimeError, match=said):
            loss = jointly(teacher, student, kind="single")
            fit_networks([teacher, student], loss, samples, keys, seed=0)
        with pytest.raises(RuntimeError, match=said):
            loss = by_objective(DistillationObjective(teacher), student)
            fit_networks([student], loss, samples, keys, seed=0)
