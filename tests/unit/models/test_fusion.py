"""Fusions of one to many modalities, whatever is missing."""

import pytest
import torch

from mke_ray.errors import ConfigError
from mke_ray.models.fusion import AttentionFusion, ConcatFusion, FilmFusion, Fusion, GatedFusion

WIDTHS = {"video": 5, "audio": 3, "touch": 4}


def _fusions(widths):
    torch.manual_seed(0)
    fusions = {
        "plain concat": ConcatFusion(widths),
        "concat": ConcatFusion(widths, num_features=8),
        "gated": GatedFusion(widths, num_features=8),
        "attention": AttentionFusion(widths, num_features=8, num_heads=2),
        "film": FilmFusion(widths, num_features=8),
    }
    for fusion in fusions.values():  # placeholders start at zero, which could hide a mistake
        for one in fusion.parameters():
            torch.nn.init.normal_(one, std=0.5)
    return fusions


KINDS = list(_fusions(WIDTHS))


def _inputs(widths, num=6):
    features = {name: torch.randn(num, width) for name, width in widths.items()}
    present = {name: torch.ones(num, dtype=torch.bool) for name in widths}
    return features, present


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_modalities", [1, 2, 3])
def test_every_fusion_gives_its_number_of_features(kind, num_modalities):
    widths = dict(list(WIDTHS.items())[:num_modalities])
    fusion = _fusions(widths)[kind]
    assert isinstance(fusion, Fusion)
    assert fusion(*_inputs(widths)).shape == (6, fusion.num_features)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", [0.0, 1e6, float("nan"), float("inf")])
@pytest.mark.parametrize("training", [True, False])
def test_a_row_does_not_depend_on_a_modality_that_it_lacks(kind, rest, training):
    fusion = _fusions(WIDTHS)[kind].train(training)
    features, present = _inputs(WIDTHS)
    present["audio"][2] = False
    expected = fusion(features, present)
    features["audio"] = features["audio"].clone()
    features["audio"][2] = rest
    assert torch.equal(fusion(features, present), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_depends_on_every_modality_that_it_has(kind):
    fusion = _fusions(WIDTHS)[kind]
    features, present = _inputs(WIDTHS)
    expected = fusion(features, present)
    for name in WIDTHS:
        changed = features | {name: features[name] + 3.0}
        assert ((fusion(changed, present) - expected).abs().amax(dim=1) > 1e-4).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_that_lacks_a_modality_does_not_change_the_others(kind):
    fusion = _fusions(WIDTHS)[kind]
    features, present = _inputs(WIDTHS)
    whole = fusion(features, present)
    present["video"][4] = False
    found = fusion(features, present)
    others = [0, 1, 2, 3, 5]
    assert torch.allclose(found[others], whole[others], atol=1e-6)
    assert not torch.allclose(found[4], whole[4], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_any_modality_is_finite_and_always_the_same(kind):
    fusion = _fusions(WIDTHS)[kind]
    features, present = _inputs(WIDTHS)
    for one in present.values():
        one[:2] = False
    fused = fusion(features, present)
    assert torch.isfinite(fused).all()
    assert torch.allclose(fused[0], fused[1], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [0, 1, 6])
def test_every_parameter_has_a_finite_gradient_whatever_is_missing(kind, missing):
    fusion = _fusions(WIDTHS)[kind]
    features, present = _inputs(WIDTHS)
    present["audio"][:missing] = False
    fusion(features, present).square().sum().backward()
    for name, one in fusion.named_parameters():
        assert one.grad is not None and torch.isfinite(one.grad).all(), name


def test_plain_concatenation_is_exact_and_in_order_of_name():
    features, present = _inputs(WIDTHS)
    fused = ConcatFusion(WIDTHS)(features, present)
    assert torch.equal(
        fused, torch.cat([features[name] for name in ("audio", "touch", "video")], dim=1)
    )


def test_a_missing_modality_is_replaced_by_its_placeholder():
    fusion = ConcatFusion({"a": 2, "b": 1})
    torch.nn.init.constant_(fusion.fill.placeholder["a"], 7.0)
    features = {"a": torch.zeros(2, 2), "b": torch.zeros(2, 1)}
    present = {"a": torch.tensor([True, False]), "b": torch.tensor([True, True])}
    assert fusion(features, present).tolist() == [[0, 0, 0], [7, 7, 0]]


def test_gates_are_a_weighted_mean_of_what_is_there():
    fusion = _fusions({"a": 2, "b": 2})["gated"]
    features, present = _inputs({"a": 2, "b": 2})
    present["b"][:] = False
    expected = torch.relu(fusion.project["a"](features["a"]))
    assert torch.allclose(fusion(features, present), expected, atol=1e-6)


def test_a_modality_conditions_the_others_by_scale_and_shift():
    fusion = _fusions({"a": 2, "b": 3})["film"]
    features, present = _inputs({"a": 2, "b": 3})
    scale, shift = fusion.modulate["b"](features["a"]).chunk(2, dim=1)
    joined = fusion.project["a"](features["a"])
    joined = joined + (1 + scale) * fusion.project["b"](features["b"]) + shift
    assert torch.allclose(fusion(features, present), torch.relu(joined), atol=1e-6)


def test_the_conditioning_modality_can_be_named():
    assert FilmFusion(WIDTHS).condition == "audio"
    assert FilmFusion(WIDTHS, condition="video").condition == "video"
    with pytest.raises(ConfigError, match="condition='smell'"):
        FilmFusion(WIDTHS, condition="smell")


def test_heads_that_do_not_divide_the_features_are_refused():
    with pytest.raises(ConfigError, match="num_heads=3 does not divide num_features=8"):
        AttentionFusion(WIDTHS, num_features=8, num_heads=3)


def test_attention_does_not_look_at_what_is_missing():
    whole = AttentionFusion({"a": 3, "b": 2}, num_features=8, num_heads=2)
    part = AttentionFusion({"a": 3}, num_features=8, num_heads=2)
    shared = {name: one for name, one in whole.state_dict().items() if "project.b" not in name}
    part.load_state_dict(shared)
    features, present = _inputs({"a": 3, "b": 2})
    present["b"][:] = False
    expected = part({"a": features["a"]}, {"a": present["a"]})
    assert torch.allclose(whole(features, present), expected, atol=1e-6)
