"""Mixing by hand: who is mixed with whom, how much, and what the loss is of."""

import math

import pytest
import torch
from scipy import stats

from mke_ray.errors import ConfigError
from mke_ray.models import build_student
from mke_ray.objectives import MKEObjective, Noise
from mke_ray.objectives.losses import consistency, dense_cross_entropy, soft_cross_entropy
from mke_ray.objectives.mixing import Mixing, MixSettings, draw_mixing
from mke_ray.schema import Batch

FEATURES = {
    "encoders": {
        "a": {"type": "features", "num_inputs": 2},
        "b": {"type": "features", "num_inputs": 3},
    },
    "fusion": {"type": "concat"},
    "head_hidden": [8],
}
PYRAMID = {"type": "pyramid", "channels": [4, 8]}
DENSE = {
    "encoders": {"rgb": PYRAMID, "depth": {**PYRAMID, "reads": "metres"}},
    "fusion": {"type": "add"},
    "decoder": {"channels": [4]},
}


def _batch(num=8, *, epoch=0, ids=None, **present):
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.arange(100, 100 + num) if ids is None else ids,
        {
            "a": torch.randn(num, 2, generator=generator),
            "b": torch.randn(num, 3, generator=generator),
        },
        {name: present.get(name, torch.ones(num, dtype=torch.bool)) for name in ("a", "b")},
        torch.softmax(torch.randn(num, 3, generator=generator), dim=1),
        torch.ones(num),
        epoch,
    )


def _drawn(batch, **settings):
    settings = MixSettings(**{"type": "mixup", **settings})
    return draw_mixing(batch, batch.present, settings, modalities=["a", "b"])


def test_every_sample_is_the_partner_of_one_other():
    partner = _drawn(_batch(50)).partner_B
    assert sorted(partner.tolist()) == list(range(50))
    assert not (partner == torch.arange(50)).any()


def test_a_partner_has_the_same_modalities():
    torch.manual_seed(0)
    a, b = torch.rand(200) < 0.7, torch.rand(200) < 0.5
    partner = _drawn(_batch(200, a=a, b=b)).partner_B
    assert torch.equal(a[partner], a) and torch.equal(b[partner], b)


def test_who_is_alone_with_its_modalities_is_not_mixed():
    mixing = _drawn(_batch(5, a=torch.tensor([True, True, False, True, True])))
    assert int(mixing.partner_B[2]) == 2 and float(mixing.kept_B[2]) == 1.0
    assert (mixing.kept_B[[0, 1, 3, 4]] < 1).all()


def test_samples_that_count_for_nothing_are_no_partners():
    batch = _batch(6)
    batch.weight_B = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    partner = _drawn(batch).partner_B
    assert set(partner[[0, 2, 3, 5]].tolist()) == {0, 2, 3, 5}


@pytest.mark.parametrize("strength", [0.2, 1.0, 4.0])
def test_the_share_that_is_kept_is_of_the_beta_distribution(strength):
    kept = _drawn(_batch(4000), strength=strength).kept_B.double().numpy()
    assert stats.kstest(kept, stats.beta(strength, strength).cdf).pvalue > 0.01


def test_only_a_share_of_the_samples_is_mixed():
    kept = _drawn(_batch(4000), share=0.25).kept_B
    assert float((kept < 1).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_shares_and_partners_come_from_the_samples_and_the_epoch():
    first, again = _drawn(_batch(20)), _drawn(_batch(20))
    assert torch.equal(first.kept_B, again.kept_B)
    assert torch.equal(first.partner_B, again.partner_B)
    other = _drawn(_batch(20, epoch=1))
    assert not torch.equal(first.kept_B, other.kept_B)
    assert not torch.equal(first.partner_B, other.partner_B)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = _drawn(_batch(20, ids=100 + order))
    assert torch.equal(shuffled.kept_B, first.kept_B[order])
    assert torch.equal(order[shuffled.partner_B], first.partner_B[order])


def test_mixup_is_the_same_for_all_modalities_and_comes_before_the_noise():
    torch.manual_seed(0)
    student, batch = build_student(FEATURES, 3), _batch()
    student.observe(batch.arrays, batch.present)
    student.freeze_normalisation()
    objective = MKEObjective(alpha=1.0, mix={"type": "mixup"})
    found = objective(student, batch, 0.0)["loss"]
    drawn, noise = _drawn(batch), Noise(batch, batch.present, 1.0, 0.0)
    seen = {}
    for name in ("a", "b"):
        x = student.encoder(name).represent(batch.arrays[name])
        kept = drawn.kept_B[:, None]
        seen[name] = noise.input(name, kept * x + (1 - kept) * x[drawn.partner_B])
    logits = student.output(student.hidden[0](torch.cat([seen["a"], seen["b"]], dim=1)))
    kept = drawn.kept_B[:, None]
    target = kept * batch.target_BC + (1 - kept) * batch.target_BC[drawn.partner_B]
    assert torch.allclose(found, soft_cross_entropy(logits, target, batch.weight_B), atol=1e-6)
    assert not torch.allclose(found, MKEObjective()(student, batch, 0.0)["loss"], atol=1e-3)


def test_a_partner_counts_with_its_own_weight():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    target, weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 3.0])
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
    found = soft_cross_entropy(*mixing.labelled(logits, target, weight))
    first = 0.75 * math.log(4) + 0.25 * 3 * math.log(4 / 3)
    second = 0.5 * 3 * math.log(2) + 0.5 * 1 * math.log(2)
    assert float(found) == pytest.approx((first + second) / (0.75 + 0.75 + 1.5 + 0.5))


def test_weights_of_classes_and_pixels_go_with_their_labels():
    partner, kept = torch.tensor([1, 0]), torch.tensor([0.75, 0.75])
    weight_BC = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    mixup = Mixing(partner, kept)
    assert mixup.label_weights(weight_BC).tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    assert mixup.label_weights(None) is None
    cutmix = Mixing(partner, kept, corner_B2=torch.zeros(2, 2))
    weight_BHW = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    found = cutmix.label_weights(weight_BHW)
    assert found[0].sum() == 12 and found[1].sum() == 4  # a quarter is the partner's
    assert found[0, 0, 0] == 0 and found[1, 0, 0] == 1


def test_a_partner_brings_the_weights_of_its_classes_and_of_its_pixels():
    partner, kept = torch.tensor([1, 0]), torch.tensor([0.75, 1.0])
    weights = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert Mixing(partner, kept).label_weights(None) is None
    assert Mixing(partner, kept).label_weights(weights).tolist() == [[1, 2], [3, 4], [3, 4], [1, 2]]
    corner = torch.zeros(2, 2)
    pixels = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    pasted = Mixing(partner, kept, corner).label_weights(pixels)
    assert pasted.tolist() == [[[1, 0], [0, 0]], [[1, 1], [1, 1]]]


def test_consistency_is_with_the_clean_answers_of_both():
    torch.manual_seed(0)
    student, batch = build_student(FEATURES, 3), _batch()
    objective = MKEObjective(alpha=0.0, mix={"type": "mixup"}, consistency_weight=2.0)
    losses = objective(student, batch, 0.0)
    drawn = _drawn(batch)
    mixed = {name: drawn.input(name, x) for name, x in batch.arrays.items()}
    clean = student(batch.arrays, batch.present)
    logits = student(mixed, batch.present)
    kept = drawn.kept_B
    both = [
        consistency(logits, clean, weight_B=kept),
        consistency(logits, clean[drawn.partner_B], weight_B=1 - kept),
    ]
    expected = (both[0] * kept.sum() + both[1] * (1 - kept).sum()) / len(kept)
    assert torch.allclose(losses["consistency"], expected, atol=1e-6)


def test_a_box_of_the_partner_has_its_share_of_the_pixels():
    mixing = Mixing(
        torch.tensor([1, 0]),
        torch.tensor([0.75, 1.0]),
        torch.tensor([[0.25, 0.5], [0.0, 0.0]]),
        ["rgb"],
    )
    own, other = torch.zeros(1, 4, 8), torch.ones(1, 4, 8)
    pasted = mixing.input("rgb", torch.stack([own, other]))
    expected = torch.zeros(4, 8)
    expected[1:3, 4:8] = 1
    assert torch.equal(pasted[0, 0], expected) and torch.equal(pasted[1], other)
    assert float(pasted[0].mean()) == 0.25


def test_boxes_lie_within_the_picture_and_everywhere_in_it():
    batch = _batch(2000)
    settings = MixSettings("cutmix")
    mixing = draw_mixing(batch, batch.present, settings, modalities=["a", "b"], pictures=["a"])
    side = (1 - mixing.kept_B).sqrt()[:, None]
    assert (mixing.corner_B2 >= 0).all() and (mixing.corner_B2 + side <= 1 + 1e-6).all()
    middle = (mixing.corner_B2 + side / 2).mean(dim=0)
    assert torch.allclose(middle, torch.full((2,), 0.5), atol=0.02)


def test_what_has_no_pixels_is_mixed_with_the_share_of_the_picture():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    corner = torch.zeros(2, 2)
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 0.5]), corner, ["image"])
    assert torch.allclose(mixing.input("sound", x), torch.tensor([[0.75, 0.5], [0.5, 1.0]]))


def _scenes(num=4, *, soft=False):
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (num, 8, 8), generator=generator).to(torch.uint8)
    target[:, 0] = 255
    if soft:
        classes = torch.arange(3)[:, None, None]
        target = (target[:, None] == classes).float()
    return Batch(
        torch.arange(num),
        {
            "rgb": torch.randint(0, 256, (num, 8, 8, 3), generator=generator).to(torch.uint8),
            "depth": torch.rand(num, 8, 8, 1, generator=generator),
        },
        {name: torch.ones(num, dtype=torch.bool) for name in ("rgb", "depth")},
        target,
        torch.ones(num),
    )


@pytest.mark.parametrize("soft", [False, True])
def test_class_maps_are_cut_where_the_pictures_are(soft):
    torch.manual_seed(0)
    student, batch = build_student(DENSE, 3), _scenes(soft=soft)
    settings = {"type": "cutmix"}
    objective = MKEObjective(alpha=0.0, kind="dense", mix=settings)
    found = objective(student, batch, 0.0)["loss"]
    drawn = draw_mixing(
        batch,
        batch.present,
        MixSettings(**settings),
        modalities=["depth", "rgb"],
        pictures=["rgb", "depth"],
    )
    arrays = {
        name: drawn.input(name, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        for name, x in batch.arrays.items()
    }
    maps = batch.target_BC if soft else batch.target_BC[:, None]
    target = drawn.input("rgb", maps)
    target = target if soft else target[:, 0]
    assert not torch.equal(target, batch.target_BC)
    expected = dense_cross_entropy(student(arrays, batch.present), target, torch.ones(4))
    assert torch.allclose(found, expected, atol=1e-6)


def test_mixup_of_class_maps_is_the_mean_of_both_losses():
    torch.manual_seed(0)
    student, batch = build_student(DENSE, 3), _scenes()
    found = MKEObjective(alpha=0.0, kind="dense", mix={"type": "mixup"})(student, batch, 0.0)
    soft = MKEObjective(alpha=0.0, kind="dense", mix={"type": "mixup"})(
        student, _scenes(soft=True), 0.0
    )
    assert torch.allclose(found["loss"], soft["loss"], atol=1e-6)
    plain = MKEObjective(alpha=0.0, kind="dense")(student, batch, 0.0)["loss"]
    assert not torch.allclose(found["loss"], plain, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "manifold"}, r"objective\.mix\.type is 'manifold'"),
        ({"strength": 1.0}, r"objective\.mix\.type is None"),
        ({"type": "mixup", "strength": 0.0}, r"objective\.mix\.strength is 0\.0"),
        ({"type": "mixup", "share": 1.5}, r"objective\.mix\.share is 1\.5"),
        ({"type": "mixup", "alpha": 1.0}, r"objective\.mix\.alpha is no such key"),
        ("mixup", r"objective\.mix is 'mixup'; give a mapping"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(spec, message):
    with pytest.raises(ConfigError, match=message):
        MKEObjective(mix=spec)
