"""Witnesses learn from all folds but their own, and say nothing of what they have not seen."""

# B samples, M modalities, K folds, C classes.

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mke_ray.errors import ConfigError
from mke_ray.models.student import build_student
from mke_ray.models.weights import load_student, save_student
from mke_ray.models.witness import WitnessBank
from mke_ray.objectives import WitnessObjective
from mke_ray.schema import Batch, LabelSpace

NUM_FOLDS, NUM_CLASSES = 3, 4
SPEC = {
    "num_folds": NUM_FOLDS,
    "encoders": {
        "b": {"type": "features", "num_inputs": 2, "hidden": [5]},
        "c": {"type": "features", "num_inputs": 3, "hidden": [5]},
    },
    "head_hidden": [6],
    "dropout": 0.0,
}


@pytest.fixture
def bank() -> WitnessBank:
    torch.manual_seed(0)
    made = build_student(SPEC, NUM_CLASSES)
    assert isinstance(made, WitnessBank)
    return made


def batch(num: int = 12, *, lacking: tuple[int, ...] = (), weight: Tensor | None = None) -> Batch:
    draw = torch.Generator().manual_seed(1)
    present = torch.ones(num, dtype=torch.bool)
    present[list(lacking)] = False
    return Batch(
        torch.arange(num),
        {name: torch.randn(num, width, generator=draw) for name, width in (("b", 2), ("c", 3))},
        {"b": present, "c": torch.ones(num, dtype=torch.bool)},
        functional.one_hot(torch.arange(num) % NUM_CLASSES, NUM_CLASSES).float(),
        torch.ones(num) if weight is None else weight,
        fold_B=torch.arange(num) % NUM_FOLDS,
    )


def gradient_of(net: torch.nn.Module) -> float:
    return sum(float(one.grad.abs().sum()) for one in net.parameters() if one.grad is not None)


def test_a_network_learns_nothing_from_its_own_fold(bank: WitnessBank) -> None:
    one = batch()
    weight_B = (one.fold_B == 1).float()
    objective = WitnessObjective(NUM_FOLDS, alpha=0.0)
    objective(bank, batch(weight=weight_B), 0.0)["loss"].backward()
    for name in ("b", "c"):
        learnt = [gradient_of(net) for net in bank.nets[name]]  # type: ignore[union-attr]
        assert learnt[1] == 0.0 and min(learnt[0], learnt[2]) > 0.0


def test_a_network_learns_as_if_it_were_alone(bank: WitnessBank) -> None:
    one = batch()
    WitnessObjective(NUM_FOLDS, alpha=0.0)(bank, one, 0.0)["loss"].backward()
    net = bank.nets["b"][2]  # type: ignore[index]
    found = [parameter.grad.clone() for parameter in net.parameters()]
    bank.zero_grad()
    assert one.fold_B is not None
    loss = functional.cross_entropy(net(one.arrays, one.present), one.target_BC, reduction="none")
    (loss * (one.fold_B != 2)).sum().div(12 * 2 / 3).backward()
    for alone, together in zip(net.parameters(), found, strict=True):
        torch.testing.assert_close(alone.grad, together)


def test_the_loss_is_the_sum_over_networks_by_hand(bank: WitnessBank) -> None:
    one = batch(lacking=(3, 7))
    said_BMKC = bank(one.arrays, one.present).unflatten(1, (2, NUM_FOLDS, NUM_CLASSES))
    loss_BMK = -torch.log_softmax(said_BMKC, dim=3).mul(one.target_BC[:, None, None]).sum(dim=3)
    seen_BMK = torch.stack([one.present["b"], one.present["c"]], dim=1)[:, :, None]
    assert one.fold_B is not None
    seen_BMK = seen_BMK & (one.fold_B[:, None, None] != torch.arange(NUM_FOLDS))
    by_hand = (loss_BMK * seen_BMK).sum() / (12 * 2 / 3)
    found = WitnessObjective(NUM_FOLDS, alpha=0.0)(bank, one, 0.0)
    torch.testing.assert_close(found["loss"], by_hand)


def test_the_loss_of_a_batch_is_that_of_its_parts(bank: WitnessBank) -> None:
    objective = WitnessObjective(NUM_FOLDS, alpha=0.0)
    first, second = torch.ones(12), torch.ones(12)
    first[5:], second[:5] = 0.0, 0.0
    parts = [objective(bank, batch(weight=one), 0.0)["loss"] for one in (first, second)]
    whole = objective(bank, batch(), 0.0)["loss"]
    torch.testing.assert_close((5 * parts[0] + 7 * parts[1]) / 12, whole)


def test_of_a_modality_that_is_missing_nothing_is_said(bank: WitnessBank) -> None:
    one = batch(lacking=(3,))
    with torch.inference_mode():
        said_BMX = bank.eval()(one.arrays, one.present).unflatten(1, (2, -1))
    assert torch.isnan(said_BMX[3, 0]).all()
    assert not torch.isnan(said_BMX[3, 1]).any() and not torch.isnan(said_BMX[4]).any()


def test_folds_start_from_weights_of_their_own(bank: WitnessBank) -> None:
    one = batch()
    said = bank(one.arrays, one.present).unflatten(1, (2, NUM_FOLDS, NUM_CLASSES))
    assert not torch.allclose(said[:, 0, 0], said[:, 0, 1])


def test_noise_is_drawn_where_it_is_asked_for(bank: WitnessBank) -> None:
    clean, noisy = (WitnessObjective(NUM_FOLDS, alpha=alpha) for alpha in (0.0, 1.0))
    losses = [one(bank, batch(), 0.0)["loss"] for one in (clean, noisy, noisy)]
    assert losses[0] != losses[1] and losses[1] == losses[2]


def test_witnesses_are_saved_and_loaded_like_any_student(bank: WitnessBank, tmp_path) -> None:
    one, space = batch(), LabelSpace(("p", "q", "r", "s"))
    bank.observe(one.arrays, one.present)
    bank.freeze_normalisation()
    save_student(tmp_path, bank, spec=SPEC, label_space=space)
    loaded = load_student(tmp_path).student
    with torch.inference_mode():
        said = [net.eval()(one.arrays, one.present) for net in (bank, loaded)]
    torch.testing.assert_close(*said)


def test_a_batch_without_folds_is_refused(bank: WitnessBank) -> None:
    one = batch()
    one.fold_B = None
    with pytest.raises(ConfigError, match="folds"):
        WitnessObjective(NUM_FOLDS)(bank, one, 0.0)
