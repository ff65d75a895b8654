"""A student is built from plain data, ignores what it lacks, and is exactly the paper's network."""

import pytest
import torch
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.models.encoders import FeatureEncoder
from mke_ray.models.fusion import ConcatFusion
from mke_ray.models.student import build_student

TWO_MOON = {
    "encoders": {
        "b": {"type": "features", "num_inputs": 1, "hidden": [], "normalise": False},
        "a": {"type": "features", "num_inputs": 1, "hidden": [], "normalise": False},
    },
    "fusion": {"type": "concat", "num_features": None},
    "head_hidden": [16, 16],
    "dropout": 0.0,
}
CLIPS = {
    "encoders": {
        "video": {"type": "frames", "channels": [4, 8], "num_features": 6},
        "audio": {"type": "log_mel", "sample_rate_hz": 8000, "channels": [4], "num_features": 6},
    },
    "fusion": {"type": "gated", "num_features": 8},
    "head_hidden": [8],
    "dropout": 0.0,
}


def _clips(num=3):
    generator = torch.Generator().manual_seed(0)
    arrays = {
        "video": torch.randint(0, 256, (num, 2, 16, 16, 3), dtype=torch.uint8, generator=generator),
        "audio": torch.rand(num, 4000, generator=generator) - 0.5,
    }
    return arrays, {name: torch.ones(num, dtype=torch.bool) for name in arrays}


class _AddOne:
    """A perturbation that leaves a trace."""

    def __init__(self):
        self.seen = {}

    def input(self, modality, x_BX):
        self.seen[modality] = x_BX
        return x_BX + 1

    def hidden(self, x_BD):
        self.seen["hidden"] = x_BD
        return x_BD * 0


def test_two_moon_is_exactly_the_network_of_the_paper_with_the_same_random_weights():
    torch.manual_seed(5)
    paper = nn.Sequential(
        nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )
    torch.manual_seed(5)
    student = build_student(TWO_MOON, 2)
    x = torch.randn(50, 2)
    present = torch.ones(50, dtype=torch.bool)
    logits = student({"b": x[:, 1:], "a": x[:, :1]}, {"a": present, "b": present})
    assert torch.equal(logits, paper(x))


def test_hidden_noise_is_put_after_the_activation_of_the_first_hidden_layer():
    student = build_student(TWO_MOON, 2)
    x = torch.randn(4, 1)
    present = torch.ones(4, dtype=torch.bool)
    trace = _AddOne()
    logits = student({"a": x, "b": x}, {"a": present, "b": present}, trace)
    joined = torch.cat([x, x], dim=1) + 1
    assert torch.equal(trace.seen["hidden"], student.hidden[0](joined))
    assert torch.equal(logits, student.output(student.hidden[1](torch.zeros(4, 16))))


def test_without_hidden_layers_the_fused_features_are_perturbed():
    student = build_student({**TWO_MOON, "head_hidden": []}, 2)
    x, present = torch.randn(4, 1), torch.ones(4, dtype=torch.bool)
    logits = student({"a": x, "b": x}, {"a": present, "b": present}, _AddOne())
    assert torch.equal(logits, student.output(torch.zeros(4, 2)))


def test_input_noise_is_put_on_the_normalised_representation():
    student = build_student(CLIPS, 3)
    arrays, present = _clips()
    student.observe(arrays, present)
    student.freeze_normalisation()
    trace = _AddOne()
    student(arrays, present, trace)
    assert torch.equal(trace.seen["video"], student.encoder("video").represent(arrays["video"]))
    assert torch.equal(trace.seen["audio"], student.encoder("audio").represent(arrays["audio"]))


@pytest.mark.parametrize("fusion", ["concat", "gated", "attention", "film"])
def test_a_row_does_not_depend_on_the_array_of_a_modality_that_it_lacks(fusion):
    student = build_student({**CLIPS, "fusion": {"type": fusion, "num_features": 8}}, 3)
    arrays, present = _clips()
    present["audio"][1] = False
    expected = student(arrays, present)
    arrays["audio"][1] = float("nan")
    found = student(arrays, present)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in student.parameters())


@pytest.mark.parametrize("fusion", ["concat", "gated", "attention", "film"])
def test_a_modality_that_is_not_given_counts_as_missing(fusion):
    student = build_student({**CLIPS, "fusion": {"type": fusion, "num_features": 8}}, 3)
    arrays, present = _clips()
    present["audio"][:] = False
    expected = student(arrays, present)
    found = student({"video": arrays["video"]}, {"video": present["video"]})
    assert torch.allclose(found, expected, atol=1e-6)


def test_modalities_without_an_encoder_are_ignored():
    spec = {**CLIPS, "encoders": {"video": CLIPS["encoders"]["video"]}}
    student = build_student(spec, 3)
    arrays, present = _clips()
    expected = student({"video": arrays["video"]}, {"video": present["video"]})
    assert torch.equal(student(arrays, present), expected)
    assert student.modalities == ("video",)


def test_a_batch_without_any_of_its_modalities_is_refused():
    student = build_student(TWO_MOON, 2)
    with pytest.raises(ConfigError, match=r"reads \['a', 'b'\] but was given \['c'\]"):
        student({"c": torch.zeros(1, 1)}, {"c": torch.ones(1, dtype=torch.bool)})


def test_statistics_come_from_the_samples_that_have_the_modality():
    student = build_student(CLIPS, 3)
    arrays, present = _clips()
    present["audio"][0] = False
    arrays["audio"][0] = float("nan")
    student.observe(arrays, present)
    student.freeze_normalisation()
    flat = student.encoder("audio").represent(arrays["audio"][1:]).transpose(0, 2).flatten(1)
    assert flat.mean(dim=1).abs().max() < 1e-3


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    student = build_student({**TWO_MOON, "dropout": 0.5}, 2)
    x, present = torch.randn(8, 1), torch.ones(8, dtype=torch.bool)
    arrays, has = {"a": x, "b": x}, {"a": present, "b": present}
    assert not torch.equal(student(arrays, has), student(arrays, has))
    student.eval()
    assert torch.equal(student(arrays, has), student(arrays, has))


def test_spectra_stay_exact_under_bfloat16():
    student = build_student(CLIPS, 3)
    arrays, present = _clips()
    exact, rounded = _AddOne(), _AddOne()
    student(arrays, present, exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = student(arrays, present, rounded)
    assert torch.equal(exact.seen["audio"], rounded.seen["audio"])
    assert torch.isfinite(logits).all()


def _changed(*keys, value):
    spec = {name: dict(one) if isinstance(one, dict) else one for name, one in CLIPS.items()}
    place = spec["encoders"] = {name: dict(one) for name, one in spec["encoders"].items()}
    if keys[0] != "encoders":
        place = spec
    for key in keys[(1 if keys[0] == "encoders" else 0) : -1]:
        place = place[key]
    place[keys[-1]] = value
    return spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (_changed("encoders", "video", "type", value="movie"), r"video\.type is 'movie'; choose"),
        (_changed("encoders", "video", "chanels", value=[1]), r"video\.chanels is no such key"),
        (_changed("encoders", "video", "modality", value="a"), r"video\.modality is no such key"),
        (
            _changed("encoders", "sound", value={"type": "features"}),
            r"sound\.num_inputs is mis",
        ),
        (_changed("fusion", "type", value="sum"), r"fusion\.type is 'sum'; choose one of \['att"),
        (_changed("fusion", "heads", value=2), r"fusion\.heads is no such key"),
        (_changed("head", value=[3]), r"student\.head is no such key; choose from \['dropout'"),
        (_changed("dropout", value=1.0), r"student\.dropout is 1\.0"),
        ({**CLIPS, "encoders": {}}, r"student\.encoders is empty"),
        ({**CLIPS, "fusion": None}, r"student\.fusion\.type is 'None'"),
        (_changed("encoders", "a.b", value={"type": "frames"}), r"encoders\.a\.b: a modality is"),
        (_changed("encoders", "keys", value={"type": "frames"}), r"encoders\.keys: a modality is"),
    ],
)
def test_a_mistake_in_the_specification_is_named_by_its_key(spec, message):
    with pytest.raises(ConfigError, match=message):
        build_student(spec, 3)


class _Doubling(FeatureEncoder):
    """An encoder of the user's."""

    def forward(self, x_BD):
        return x_BD * 2


def test_a_class_of_the_users_is_built_by_the_given_callable():
    spec = {
        "encoders": {"x": {"_target_": "mine.Doubling", "num_inputs": 2}},
        "fusion": {"_target_": "mine.Join"},
    }
    classes = {"mine.Doubling": _Doubling, "mine.Join": ConcatFusion}

    def build(part, **extra):
        rest = {name: value for name, value in part.items() if name != "_target_"}
        return classes[part["_target_"]](**rest, **extra)

    student = build_student(spec, 3, build=build)
    x = torch.randn(2, 2)
    logits = student({"x": x}, {"x": torch.ones(2, dtype=torch.bool)})
    assert torch.equal(logits, student.output(x * 2))


def test_a_class_of_the_users_is_never_found_by_name_alone():
    spec = {"encoders": {"x": {"_target_": "os.system"}}, "fusion": {"type": "concat"}}
    with pytest.raises(ConfigError, match=r"encoders\.x is the class 'os\.system'"):
        build_student(spec, 2)
    with pytest.raises(ConfigError, match=r"_target_='x' is not a torch\.nn\.Module"):
        build_student({**spec, "encoders": {"x": {"_target_": "x"}}}, 2, build=lambda *_, **__: 3)
