"""Balance by hand: who leads, how much slower it learns, and that nothing else changes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.models import build_student
from mke_ray.objectives import MKEObjective, Noise
from mke_ray.objectives.balance import Modulation, coefficients, label_probability
from mke_ray.objectives.losses import soft_cross_entropy
from mke_ray.randomness import batch_keys, gaussian
from mke_ray.schema import Batch

SPEC = {
    "encoders": {
        name: {"type": "features", "num_inputs": 2, "hidden": [4]} for name in ("a", "b", "c")
    },
    "fusion": {"type": "concat"},
    "head_hidden": [8],
}
PYRAMID = {"type": "pyramid", "channels": [4, 8]}
DENSE = {
    "encoders": {"rgb": PYRAMID, "depth": {**PYRAMID, "reads": "metres"}},
    "fusion": {"type": "gated"},
    "decoder": {"channels": [4]},
}


def _student(num=3):
    torch.manual_seed(0)
    names = ["a", "b", "c"][:num]
    spec = {**SPEC, "encoders": {name: SPEC["encoders"][name] for name in names}}
    return build_student(spec, 3)


def _batch(num=8):
    generator = torch.Generator().manual_seed(0)
    names = ("a", "b", "c")
    return Batch(
        torch.arange(num),
        {name: torch.randn(num, 2, generator=generator) for name in names},
        {name: torch.ones(num, dtype=torch.bool) for name in names},
        torch.eye(3)[torch.randint(0, 3, (num,), generator=generator)],
        torch.ones(num),
    )


def _gradients(student, batch, **settings):
    student.zero_grad()
    losses = MKEObjective(alpha=0.0, **settings)(student, batch, settings.pop("progress", 0.0))
    losses["loss"].backward()
    return losses, {name: one.grad.clone() for name, one in student.named_parameters()}


def test_whoever_leads_has_its_factor_and_the_others_one():
    likely = {"a": torch.tensor([0.6, 0.2]), "b": torch.tensor([0.2, 0.2])}
    found = coefficients(likely, torch.ones(2), strength=0.5)
    assert float(found["a"]) == pytest.approx(1 - math.tanh(0.5 * 0.8 / 0.4))
    assert float(found["b"]) == 1.0


def test_of_three_modalities_each_is_compared_with_the_mean_of_the_others():
    likely = {"a": torch.tensor([0.9]), "b": torch.tensor([0.6]), "c": torch.tensor([0.1])}
    found = coefficients(likely, torch.ones(1), strength=0.3)
    assert float(found["a"]) == pytest.approx(1 - math.tanh(0.3 * 0.9 / 0.35))
    assert float(found["b"]) == pytest.approx(1 - math.tanh(0.3 * 0.6 / 0.5))
    assert float(found["c"]) == 1.0


def test_samples_count_by_their_weight_and_none_leaves_everything_as_it_is():
    likely = {"a": torch.tensor([0.6, 0.0]), "b": torch.tensor([0.2, 0.9])}
    found = coefficients(likely, torch.tensor([1.0, 0.0]), strength=0.5)
    assert float(found["a"]) == pytest.approx(1 - math.tanh(0.5 * 3))
    nothing = coefficients(likely, torch.zeros(2), strength=0.5)
    assert float(nothing["a"]) == float(nothing["b"]) == 1.0


def test_the_probability_of_labels_of_any_kind():
    logits = torch.tensor([[0.0, math.log(3.0)]])
    single = label_probability(logits, torch.tensor([[0.4, 0.6]]), kind="single")
    assert float(single) == pytest.approx(0.4 * 0.25 + 0.6 * 0.75)
    many = label_probability(logits, torch.tensor([[0.0, 1.0]]), kind="multi")
    assert float(many) == pytest.approx((0.5 + 0.75) / 2)
    pixels = logits[:, :, None, None].expand(1, 2, 1, 3)
    target = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    assert float(label_probability(pixels, target, kind="dense")) == pytest.approx(0.5)
    soft = torch.tensor([[[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]]])
    assert float(label_probability(pixels, soft, kind="dense")) == pytest.approx(0.5)


def test_only_the_gradient_of_the_encoder_that_leads_is_scaled():
    student, batch = _student(), _batch()
    plain, before = _gradients(student, batch)
    found, after = _gradients(student, batch, balance={"strength": 0.5})
    assert torch.equal(plain["loss"], found["loss"])
    factors = {name: found[f"gradient_{name}"] for name in ("a", "b", "c")}
    assert min(map(float, factors.values())) < 0.7 and max(map(float, factors.values())) == 1.0
    for name, gradient in after.items():
        factor = factors[name.split(".")[1]] if name.startswith("encoders") else 1.0
        assert torch.allclose(gradient, factor * before[name], atol=1e-7)


def test_who_leads_is_told_by_the_student_on_one_modality_alone():
    student, batch = _student(2), _batch()
    found, _ = _gradients(student, batch, balance={"strength": 0.5})
    likely = {}
    for name in ("a", "b"):
        seen = {one: torch.full((8,), one == name) for one in ("a", "b")}
        probability = student(batch.arrays, seen).softmax(dim=1)
        likely[name] = (probability * batch.target_BC).sum(dim=1)
    expected = coefficients(likely, batch.weight_B, strength=0.5)
    assert torch.allclose(found["gradient_a"], expected["a"])
    assert torch.allclose(found["gradient_b"], expected["b"])


def test_samples_that_lack_a_modality_do_not_tell_who_leads():
    student, batch = _student(2), _batch()
    found, _ = _gradients(student, batch, balance={"strength": 0.5})
    batch.present["a"][4:] = False
    part, _ = _gradients(student, batch, balance={"strength": 0.5})
    batch.weight_B[4:] = 0.0
    again, _ = _gradients(student, batch, balance={"strength": 0.5})
    assert torch.equal(part["gradient_a"], again["gradient_a"])
    assert not torch.equal(part["gradient_a"], found["gradient_a"])


def test_noise_is_as_large_as_the_gradient_and_leaves_out_who_lacks_the_modality():
    batch = _batch(2000)
    batch.present["a"][:500] = False
    x = torch.zeros(2000, 3, requires_grad=True)
    given = torch.full((2000, 3), 0.2)
    given[:500] = 0.0
    factors = {"a": torch.tensor(0.25)}
    modulation = Modulation(batch, batch.present, factors, noise=True)
    modulation.features("a", x).backward(given)
    assert torch.equal(x.grad[:500], torch.zeros(500, 3))
    noise = (x.grad[500:] - 0.05) / 0.2
    expected = gaussian(batch_keys(batch, "noise of the gradient/a"), 3)[500:]
    assert torch.allclose(noise, expected, atol=1e-4)


def test_nothing_is_modulated_after_its_share_of_the_training_or_with_one_modality():
    student, batch = _student(), _batch()
    objective = MKEObjective(alpha=0.0, balance={"strength": 0.5, "until": 0.5})
    assert "gradient_a" in objective(student, batch, 0.5)
    assert set(objective(student, batch, 0.6)) == {"loss", "pseudo_label"}
    assert set(objective(_student(1), batch, 0.0)) == {"loss", "pseudo_label"}


def test_maps_of_every_scale_are_modulated():
    torch.manual_seed(0)
    student = build_student(DENSE, 3)
    batch = Batch(
        torch.arange(2),
        {"rgb": torch.rand(2, 8, 8, 3) * 255, "depth": torch.rand(2, 8, 8, 1)},
        {name: torch.ones(2, dtype=torch.bool) for name in ("rgb", "depth")},
        torch.randint(0, 3, (2, 8, 8)).to(torch.uint8),
        torch.ones(2),
    )
    _, before = _gradients(student, batch, kind="dense")
    found, after = _gradients(student, batch, kind="dense", balance={"strength": 1.0})
    factors = {name: found[f"gradient_{name}"] for name in ("depth", "rgb")}
    assert min(map(float, factors.values())) < 0.5
    for name, gradient in after.items():
        factor = factors[name.split(".")[1]] if name.startswith("encoders") else 1.0
        assert torch.allclose(gradient, factor * before[name], atol=1e-6)


def test_the_unimodal_loss_is_the_mean_over_what_the_student_sees_of_each_alone():
    student, batch = _student(2), _batch()
    batch.present["a"][:3] = False
    losses = MKEObjective(alpha=1.0, unimodal_weight=0.5)(student, batch, 0.0)
    noise = Noise(batch, batch.present, 1.0, 0.0)
    terms = []
    for name in ("a", "b"):
        nothing = torch.zeros(8, dtype=torch.bool)
        seen = {one: batch.present[one] if one == name else nothing for one in ("a", "b")}
        logits = student(batch.arrays, seen, noise)
        loss = soft_cross_entropy(logits, batch.target_BC, batch.present[name].float())
        terms.append(loss * batch.present[name].float().mean())
    assert torch.allclose(losses["unimodal"], torch.stack(terms).mean())
    assert torch.allclose(losses["loss"], losses["pseudo_label"] + 0.5 * losses["unimodal"])


def test_the_unimodal_loss_of_a_batch_is_the_same_however_it_is_spread_over_ranks():
    student, batch = _student(2), _batch()
    batch.present["a"][:3] = False
    objective = MKEObjective(alpha=0.0, unimodal_weight=1.0)
    whole = objective(student, batch, 0.0)["loss"]
    halves = [
        objective(student, _rows(batch, part), 0.0)["loss"] for part in (range(4), range(4, 8))
    ]
    assert torch.allclose(torch.stack(halves).mean(), whole, atol=1e-6)


def _rows(batch, part):
    rows = list(part)
    return replace(
        batch,
        sample_id_B=batch.sample_id_B[rows],
        arrays={name: array[rows] for name, array in batch.arrays.items()},
        present={name: has[rows] for name, has in batch.present.items()},
        target_BC=batch.target_BC[rows],
        weight_B=batch.weight_B[rows],
    )


def test_a_wrapped_student_gives_the_same_loss_and_gradients():
    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *inputs):
            return self.module(*inputs)

    student, batch = _student(2), _batch()
    settings = {"balance": {"strength": 0.5, "noise": True}, "unimodal_weight": 0.3}
    settings |= {"mix": {"type": "mixup"}, "loss": {"type": "generalized"}}
    losses, gradients = _gradients(student, batch, **settings)
    again, others = _gradients(Wrapped(student), batch, **settings)
    assert torch.equal(losses["loss"], again["loss"])
    assert all(torch.equal(one, others[f"module.{name}"]) for name, one in gradients.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"balance": {"strength": 0.0}}, r"objective\.balance\.strength is 0\.0"),
        ({"balance": {"noise": True}}, r"objective\.balance\.strength is missing"),
        ({"balance": {"strength": 1.0, "until": 0.0}}, r"objective\.balance\.until is 0\.0"),
        ({"balance": {"alpha": 1.0}}, r"objective\.balance\.alpha is no such key"),
        ({"balance": 0.5}, r"objective\.balance is 0\.5; give a mapping"),
        ({"unimodal_weight": -1.0}, r"objective\.unimodal_weight is -1\.0"),
        ({"loss": "generalized"}, r"objective\.loss is 'generalized'; give a mapping"),
        ({"loss": {"type": "generalized", "q": 2.0}}, r"objective\.loss\.q is 2\.0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        MKEObjective(**settings)
