"""The loss of the paper, its noise, and what must not depend on the batch."""

import math
import zlib

import pytest
import torch
from torch import nn
from torch.nn import functional

from mke_ray.errors import ConfigError
from mke_ray.models import build_student
from mke_ray.objectives import MKEObjective, Noise, drop_modalities, ramp
from mke_ray.objectives.losses import consistency, soft_cross_entropy
from mke_ray.randomness import gaussian, keys_for
from mke_ray.schema import Batch

SPEC = {
    "encoders": {
        "a": {"type": "features", "num_inputs": 2, "normalise": False},
        "b": {"type": "features", "num_inputs": 3, "normalise": False},
    },
    "fusion": {"type": "concat"},
    "head_hidden": [8],
}
EVERYTHING = {
    "alpha": {"a": 1.0, "b": 0.5},
    "beta": 0.5,
    "consistency_weight": 2.0,
    "modality_dropout": {"a": 0.3, "b": 0.3},
}


def _student(num_classes=3):
    torch.manual_seed(0)
    return build_student(SPEC, num_classes)


def _batch(num=8, *, epoch=0, seed=0, ids=None):
    generator = torch.Generator().manual_seed(0)
    target = torch.softmax(torch.randn(num, 3, generator=generator), dim=1)
    return Batch(
        torch.arange(100, 100 + num) if ids is None else ids,
        {
            "a": torch.randn(num, 2, generator=generator),
            "b": torch.randn(num, 3, generator=generator),
        },
        {name: torch.ones(num, dtype=torch.bool) for name in ("a", "b")},
        target,
        torch.ones(num),
        epoch,
        seed,
    )


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_weights_that_are_all_zero_give_a_loss_of_zero_with_a_gradient_of_zero(kind):
    student, batch = _student(), _batch()
    batch.weight_B = torch.zeros(8)
    losses = MKEObjective(**EVERYTHING, kind=kind)(student, batch, 0.5)
    losses["loss"].backward()
    assert losses["loss"].item() == 0.0
    assert all(torch.equal(one.grad, torch.zeros_like(one)) for one in student.parameters())


def test_without_noise_it_is_the_plain_loss():
    student, batch = _student(), _batch()
    losses = MKEObjective(alpha=0.0)(student, batch, 0.0)
    expected = soft_cross_entropy(
        student(batch.arrays, batch.present), batch.target_BC, batch.weight_B
    )
    assert torch.equal(losses["loss"], expected)
    assert set(losses) == {"loss", "pseudo_label"}


def test_noise_is_scaled_by_the_mean_magnitude_as_in_the_paper():
    batch = _batch()
    x = batch.arrays["a"]
    perturbed = Noise(batch, batch.present, 2.0, 0.0).input("a", x)
    noise = (perturbed - x) / (2.0 * x.abs().mean())
    many = _batch(4000)
    drawn = Noise(many, many.present, 1.0, 0.0).input("a", many.arrays["a"]) - many.arrays["a"]
    drawn = drawn / many.arrays["a"].abs().mean()
    assert torch.allclose(noise, drawn[:8], atol=1e-5)
    assert abs(float(drawn.mean())) < 0.05 and abs(float(drawn.std()) - 1) < 0.05


def test_the_loss_is_that_of_the_student_on_perturbed_input_and_hidden_layer():
    student, batch = _student(), _batch()
    objective = MKEObjective(alpha={"a": 1.0, "b": 0.5}, beta=0.7)
    found = objective(student, batch, 0.0)["loss"]
    noise = Noise(batch, batch.present, {"a": 1.0, "b": 0.5}, 0.7)
    joined = torch.cat([noise.input(one, batch.arrays[one]) for one in ("a", "b")], dim=1)
    logits = student.output(noise.hidden(student.hidden[0](joined)))
    assert torch.allclose(found, soft_cross_entropy(logits, batch.target_BC, batch.weight_B))


def test_modalities_get_noise_of_their_own_strength():
    batch = _batch()
    noise = Noise(batch, batch.present, {"a": 1.0}, 0.0)
    assert torch.equal(noise.input("b", batch.arrays["b"]), batch.arrays["b"])
    assert not torch.equal(noise.input("a", batch.arrays["a"]), batch.arrays["a"])


def test_ids_of_tokens_get_no_noise():
    batch = _batch()
    ids = torch.arange(16).reshape(8, 2)
    assert Noise(batch, batch.present, 1.0, 0.0).input("a", ids) is ids


def _drawn(batch, modality="a"):
    """Return the noise of a batch in units of its scale."""
    x = batch.arrays[modality]
    drawn = Noise(batch, batch.present, 1.0, 0.0).input(modality, x) - x
    return drawn / x.abs().mean()


def test_noise_is_drawn_anew_every_epoch_and_for_every_seed():
    first = _drawn(_batch())
    assert torch.equal(first, _drawn(_batch()))
    assert not torch.allclose(first, _drawn(_batch(epoch=1)), atol=0.1)
    assert not torch.allclose(first, _drawn(_batch(seed=1)), atol=0.1)


def test_noise_of_modalities_and_hidden_layer_are_different():
    batch = _batch(500)
    noise = Noise(batch, batch.present, 1.0, 1.0)
    ones = torch.ones(500, 2)
    draws = [noise.input("a", ones), noise.input("b", ones), noise.hidden(ones)]
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        both = torch.stack([draws[one].flatten(), draws[other].flatten()])
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.15


def test_noise_of_a_sample_does_not_depend_on_its_batch():
    whole = _drawn(_batch(8))
    reordered = _drawn(_batch(3, ids=torch.tensor([105, 100, 107])))
    assert torch.allclose(reordered, whole[[5, 0, 7]], atol=1e-5)


def test_the_scale_of_noise_leaves_out_samples_without_the_modality():
    batch = _batch()
    present = {"a": torch.tensor([True] * 4 + [False] * 4)}
    x = batch.arrays["a"].clone()
    expected = Noise(batch, present, 1.0, 0.0).input("a", x)[:4]
    x[4:] = 1e6
    assert torch.equal(Noise(batch, present, 1.0, 0.0).input("a", x)[:4], expected)
    nowhere = {"a": torch.zeros(8, dtype=torch.bool)}
    assert torch.equal(Noise(batch, nowhere, 1.0, 0.0).input("a", x), x)


def test_consistency_is_a_separate_term_with_its_weight():
    student, batch = _student(), _batch()
    objective = MKEObjective(alpha=1.0, consistency_weight=3.0)
    losses = objective(student, batch, 0.0)
    perturbed = student(batch.arrays, batch.present, Noise(batch, batch.present, 1.0, 0.0))
    divergence = consistency(
        perturbed, student(batch.arrays, batch.present), weight_B=batch.weight_B
    )
    assert torch.allclose(losses["consistency"], divergence)
    assert torch.allclose(losses["loss"], losses["pseudo_label"] + 3.0 * divergence)
    assert divergence.item() > 0


def test_consistency_without_any_perturbation_is_zero():
    losses = MKEObjective(alpha=0.0, consistency_weight=1.0)(_student(), _batch(), 0.0)
    assert float(losses["consistency"]) == pytest.approx(0.0, abs=1e-6)


def test_the_clean_prediction_is_without_dropout_and_leaves_the_student_in_training():
    student, batch = build_student({**SPEC, "dropout": 0.5}, 3).train(), _batch()
    torch.manual_seed(1)
    perturbed = student(batch.arrays, batch.present)
    clean = student.eval()(batch.arrays, batch.present)
    student.train()
    torch.manual_seed(1)
    losses = MKEObjective(alpha=0.0, consistency_weight=1.0)(student, batch, 0.0)
    expected = consistency(perturbed, clean, weight_B=batch.weight_B)
    assert torch.allclose(losses["consistency"], expected)
    assert student.training


def test_the_weight_of_consistency_rises_over_the_ramp():
    assert ramp(0.0, 0.5) == pytest.approx(math.exp(-5))
    assert ramp(0.25, 0.5) == pytest.approx(math.exp(-1.25))
    assert ramp(0.5, 0.5) == ramp(0.9, 0.5) == ramp(0.0, 0.0) == 1.0
    student, batch = _student(), _batch()
    objective = MKEObjective(alpha=1.0, consistency_weight=1.0, consistency_ramp=0.5)
    losses = objective(student, batch, 0.25)
    expected = losses["pseudo_label"] + math.exp(-1.25) * losses["consistency"]
    assert torch.allclose(losses["loss"], expected)


def test_parts_carry_no_gradient_and_the_loss_does():
    losses = MKEObjective(**EVERYTHING)(_student(), _batch(), 0.5)
    assert losses["loss"].requires_grad
    assert not any(losses[name].requires_grad for name in ("pseudo_label", "consistency"))


def _dropped(batch, share, modalities=("a", "b")):
    return drop_modalities(batch, modalities=modalities, share=share)


def test_modalities_are_dropped_at_their_share():
    visible = _dropped(_batch(20_000), {"a": 0.3})
    assert float(visible["a"].float().mean()) == pytest.approx(0.7, abs=0.015)
    assert visible["b"].all()


def test_a_sample_never_loses_its_last_modality():
    batch = _batch(2000)
    batch.present["a"][:500] = False
    batch.present["b"][500:1000] = False
    visible = _dropped(batch, {"a": 0.9, "b": 0.9})
    assert (visible["a"] | visible["b"]).all()
    assert not visible["a"][:500].any() and not visible["b"][500:1000].any()
    both = visible["a"] & visible["b"]
    assert 0 < float(both[1000:].float().mean()) < 0.05
    assert float(visible["a"][1000:].float().mean()) == pytest.approx(0.5, abs=0.06)


def test_a_sample_without_any_modality_stays_without():
    batch = _batch(4)
    for one in batch.present.values():
        one[:2] = False
    visible = _dropped(batch, {"a": 0.5, "b": 0.5})
    assert not visible["a"][:2].any() and not visible["b"][:2].any()


def test_dropping_depends_on_the_sample_and_the_epoch_alone():
    share = {"a": 0.5, "b": 0.5}
    whole = _dropped(_batch(64), share)
    part = _dropped(_batch(3, ids=torch.tensor([130, 101, 163])), share)
    assert torch.equal(part["a"], whole["a"][[30, 1, 63]])
    assert not torch.equal(_dropped(_batch(64, epoch=1), share)["a"], whole["a"])


def test_dropping_counts_only_the_modalities_that_the_student_has():
    spec = {**SPEC, "encoders": {"a": SPEC["encoders"]["a"]}}
    student = build_student(spec, 3)
    plain = MKEObjective(alpha=0.0)(student, _batch(), 0.0)["loss"]
    dropping = MKEObjective(alpha=0.0, modality_dropout={"a": 0.9, "b": 0.1})
    assert torch.equal(dropping(student, _batch(), 0.0)["loss"], plain)


def test_a_wrapped_student_gives_the_same_loss():
    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *inputs):
            return self.module(*inputs)

    student, objective = _student(), MKEObjective(**EVERYTHING)
    expected = objective(student, _batch(), 0.5)["loss"]
    assert torch.equal(objective(Wrapped(student), _batch(), 0.5)["loss"], expected)


def test_the_same_batch_always_gives_the_same_loss():
    objective = MKEObjective(**EVERYTHING)
    losses = [objective(_student(), _batch(), 0.5)["loss"] for _ in range(2)]
    assert torch.equal(losses[0], losses[1])


def test_noise_helps_where_the_second_modality_knows_better():
    """A small two-moon-like case: the plain student copies the teacher, the noisy one does not."""
    generator = torch.Generator().manual_seed(3)
    truth = torch.randint(0, 2, (400,), generator=generator)
    sign = (2.0 * truth - 1.0)[:, None]
    a = sign + torch.randn(400, 1, generator=generator)
    b = sign + 0.3 * torch.randn(400, 1, generator=generator)
    teacher = (a[:, 0] > 0).long()
    present = {name: torch.ones(400, dtype=torch.bool) for name in ("a", "b")}
    spec = {
        "encoders": {name: {"type": "features", "num_inputs": 1} for name in ("a", "b")},
        "fusion": {"type": "concat"},
        "head_hidden": [16, 16],
    }
    right = {}
    for alpha in (0.0, 1.0):
        torch.manual_seed(0)
        student = build_student(spec, 2)
        for step in range(80):
            target = functional.one_hot(teacher, 2).float()
            batch = Batch(
                torch.arange(400), {"a": a, "b": b}, present, target, torch.ones(400), step
            )
            student.zero_grad()
            MKEObjective(alpha=alpha)(student, batch, 0.0)["loss"].backward()
            with torch.no_grad():
                for one in student.parameters():
                    one.sub_(one.grad, alpha=0.5)
        predicted = student({"a": a, "b": b}, present).argmax(dim=1)
        right[alpha] = float((predicted == truth).float().mean())
    assert right[1.0] > right[0.0] + 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1.0}, r"objective\.alpha is -1\.0"),
        ({"alpha": {"video": float("nan")}}, r"objective\.alpha\.video is nan"),
        ({"beta": -0.1}, r"objective\.beta is -0\.1"),
        ({"consistency_weight": float("inf")}, r"objective\.consistency_weight is inf"),
        ({"modality_dropout": {"a": 1.5}}, r"objective\.modality_dropout\.a is 1\.5"),
        ({"kind": "pixel"}, r"objective\.kind is 'pixel'"),
        ({"class_weights": [1.0]}, "for kind=dense alone"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        MKEObjective(**settings)


def test_the_noise_comes_from_the_seed_the_epoch_and_the_sample():
    batch = _batch(2, epoch=4, seed=9)
    ones = torch.ones(2, 3)
    drawn = Noise(batch, batch.present, 1.0, 0.0).input("a", ones) - 1
    stream = zlib.crc32(b"noise/a")
    expected = gaussian(keys_for(batch.sample_id_B, seed=9, epoch=4, stream=stream), 3)
    assert torch.allclose(drawn, expected, atol=1e-6)
