"""Networks of transformers as encoders of a student."""

import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import (
    save_ast,
    save_clip,
    save_convnext,
    save_videomae,
    save_vit,
    save_wav2vec2,
)

from mke_ray.errors import ConfigError, StoreError
from mke_ray.models import build_student, load_student, save_student
from mke_ray.models.backbone_spec import pinned, portable
from mke_ray.models.backbones import BackboneEncoder
from mke_ray.models.encoders import Encoder
from mke_ray.schema import LabelSpace
from mke_ray.train.average import WeightAverage
from mke_ray.train.engine import TorchEngine
from mke_ray.train.sharded import ShardedTorchEngine

RNG = np.random.default_rng(0)
VIDEO = torch.from_numpy(RNG.integers(0, 256, (2, 6, 40, 48, 3), np.uint8))
SOUND = torch.from_numpy(RNG.normal(size=(2, 8000)).astype(np.float32) * 0.1)
VIT = {
    "model_type": "vit",
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}


def encoder_of(**settings) -> BackboneEncoder:
    torch.manual_seed(0)
    return BackboneEncoder("seen", num_features=5, **settings)


def features_of(encoder, x):
    return encoder(encoder.represent(x))


@pytest.mark.parametrize(
    ("save", "array", "needs"),
    [
        (save_vit, VIDEO, {"kind": "video"}),
        (save_convnext, VIDEO, {"kind": "video"}),
        (save_videomae, VIDEO, {"kind": "video", "num_frames": 4}),
        (save_ast, SOUND, {"kind": "audio", "sample_rate_hz": 16000}),
        (save_wav2vec2, SOUND, {"kind": "audio", "sample_rate_hz": 16000}),
    ],
)
def test_a_pretrained_network_is_an_encoder_and_every_weight_gets_its_gradient(
    tmp_path, save, array, needs
):
    wanted = save(tmp_path)
    extra = {"input": {"size": [32, 32]}} if save is save_convnext else {}
    encoder = encoder_of(path=str(tmp_path), **extra)
    assert isinstance(encoder, Encoder) and encoder.needs == needs
    base = dict(wanted.base_model.named_parameters())
    for name, weight in encoder.network.named_parameters():
        torch.testing.assert_close(weight, base[name])
    found = features_of(encoder.train(), array)
    assert found.shape == (2, 5)
    found.sum().backward()
    trained = [one for one in encoder.parameters() if one.requires_grad]
    assert all(one.grad is not None for one in trained) and len(trained) > 10


def test_pictures_are_resized_standardised_and_averaged_over_frames_and_tokens(tmp_path):
    save_vit(tmp_path)
    encoder = encoder_of(path=str(tmp_path)).eval()
    x = encoder.represent(VIDEO)
    assert x.shape == (2, 6, 3, 32, 32)
    torch.testing.assert_close(x, (encoder.raw(VIDEO) - 0.5) / 0.5)
    with torch.no_grad():
        hidden = encoder.network(pixel_values=x.flatten(0, 1)).last_hidden_state
        wanted = encoder.project(hidden.mean(dim=1).reshape(2, 6, 8).mean(dim=1))
        torch.testing.assert_close(encoder(x), wanted)
    picture = encoder_of(path=str(tmp_path), stored="image")
    assert picture.needs == {"kind": "image"} and features_of(picture, VIDEO[:, 0]).shape == (2, 5)


def test_a_tower_of_a_network_of_two_is_an_encoder(tmp_path):
    save_clip(tmp_path)
    encoder = encoder_of(path=str(tmp_path), tower="vision_model", input={"size": [32, 32]})
    assert features_of(encoder, VIDEO).shape == (2, 5)
    assert not any("text" in name for name, _ in encoder.named_parameters())
    with pytest.raises(ConfigError, match="tower=nose_model is no part of clip"):
        encoder_of(path=str(tmp_path), tower="nose_model", input={"size": [32, 32]})


def test_sound_is_made_as_the_extractor_makes_it(tmp_path):
    from transformers import AutoFeatureExtractor

    for save, name in ((save_ast, "ast"), (save_wav2vec2, "wav")):
        save(tmp_path / name)
        extractor = AutoFeatureExtractor.from_pretrained(tmp_path / name)
        made = extractor(list(SOUND.numpy()), sampling_rate=16000, return_tensors="pt")
        found = encoder_of(path=str(tmp_path / name)).represent(SOUND)
        torch.testing.assert_close(found, made["input_values"].float(), atol=1e-3, rtol=0)


def trained_names(encoder) -> set[str]:
    return {name for name, one in encoder.network.named_parameters() if one.requires_grad}


@pytest.mark.parametrize("trainable", ["none", "last_1", "last_3", "lora", "all"])
def test_what_is_frozen_has_no_gradient_no_dropout_and_no_optimizer(trainable):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    dropout = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    spec = {"type": "transformers", "config": {**VIT, **dropout}, "trainable": trainable}
    torch.manual_seed(0)
    student = build_student({"encoders": {"seen": spec}, "fusion": {"type": "concat"}}, 2).train()
    encoder = student.encoders["seen"]
    names = trained_names(encoder)
    if trainable == "none":
        assert not names
        torch.testing.assert_close(*(encoder._pooled(encoder.represent(VIDEO)) for _ in "ab"))
    elif trainable == "lora":
        assert names and all("lora_" in name for name in names)
    elif trainable == "last_1":
        assert all(".2." in name or name.startswith("layernorm") for name in names)
        assert any(name.startswith("layernorm") for name in names)
        blocks = encoder.recomputed_blocks()
        assert not blocks[0].training and blocks[2].training
    frozen = {n: p.clone() for n, p in student.named_parameters() if not p.requires_grad}
    before = {n: p.clone() for n, p in student.named_parameters() if p.requires_grad}
    engine = TorchEngine(student, optimizer={"type": "sgd", "lr": 0.1, "weight_decay": 0.1})
    average = WeightAverage(engine.module, 0.9)
    logits = student({"seen": VIDEO}, {"seen": torch.ones(2, dtype=torch.bool)})
    engine.backward(logits.square().sum(), share=1.0)
    assert all(p.grad is None for n, p in student.named_parameters() if n in frozen)
    engine.step(lr=0.1)
    average.update(engine.module)
    after = dict(student.named_parameters())
    assert all(torch.equal(after[n], one) for n, one in frozen.items())
    assert any(not torch.equal(after[n], one) for n, one in before.items())
    assert sum(len(g["params"]) for g in engine._optimizer.param_groups) == len(before)
    mean = average.over(engine.weights())
    assert mean.keys() == student.state_dict().keys()


@pytest.mark.parametrize("trainable", ["all", "lora", "last_1"])
def test_an_exported_student_needs_no_file_of_what_it_started_from(tmp_path, trainable):
    pytest.importorskip("peft", reason="the extra lora is not installed")
    save_vit(tmp_path / "vit")
    one = {"type": "transformers", "path": str(tmp_path / "vit"), "trainable": trainable}
    spec = {"encoders": {"seen": one}, "fusion": {"type": "concat"}}
    student = build_student(spec, 2).eval()
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    save_student(tmp_path / "out", student, spec=spec, label_space=LabelSpace(("a", "b")))
    shutil.rmtree(tmp_path / "vit")
    loaded = load_student(tmp_path / "out")
    args = ({"seen": VIDEO}, {"seen": torch.ones(2, dtype=torch.bool)})
    with torch.no_grad():
        torch.testing.assert_close(loaded.student(*args), student(*args))
    kept = loaded.spec["encoders"]["seen"]
    assert not {"path", "digest"} & set(kept) and kept["config"]["model_type"] == "vit"
    assert portable(loaded.spec) == loaded.spec


def test_files_that_changed_since_the_run_was_planned_are_refused(tmp_path):
    save_vit(tmp_path)
    spec = {"encoders": {"seen": {"type": "transformers", "path": str(tmp_path)}}}
    plan = pinned(spec)
    assert pinned(plan) == plan and plan["encoders"]["seen"]["input"]["size"] == [32, 32]
    assert plan["encoders"]["seen"]["input"]["mean"] == [0.5, 0.5, 0.5]
    build_student({**plan, "fusion": {"type": "concat"}}, 2)
    save_vit(tmp_path, seed=1)
    with pytest.raises(StoreError, match="where the run was planned"):
        build_student({**plan, "fusion": {"type": "concat"}}, 2)


def test_other_encoders_are_pinned_as_they_are():
    spec = {"encoders": {"x": {"type": "features", "num_inputs": 3}}, "head_hidden": [4]}
    assert pinned(spec) == spec == portable(spec)


def test_low_rank_matrices_train_sharded_too():
    pytest.importorskip("peft", reason="the extra lora is not installed")
    encoder = encoder_of(config=VIT, trainable="lora", lora={"r": 2}).train()
    engine = ShardedTorchEngine(encoder, optimizer={"type": "adamw", "lr": 0.01})
    before = {name: one.clone() for name, one in engine.weights().items()}
    engine.backward(features_of(encoder, VIDEO).square().sum(), share=1.0)
    engine.step(lr=0.1)
    moved = {n for n, one in engine.weights().items() if not torch.equal(one, before[n])}
    assert any("lora_B" in name for name in moved)
    assert all("lora_" in name or name.startswith("project") for name in moved)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({}, ConfigError, "neither path nor config"),
        ({"config": {"hidden_size": 8}}, ConfigError, "config lacks model_type"),
        (
            {"config": {"model_type": "nothing", "image_size": 8}},
            ConfigError,
            r"seen\.config: .*nothing",
        ),
        ({"config": VIT, "trainable": "some"}, ConfigError, "trainable='some'; choose all"),
        ({"config": VIT, "trainable": "last_4"}, ConfigError, "ViTModel has 3 blocks"),
        ({"config": VIT, "lora": {"r": 2}}, ConfigError, "lora is for trainable=lora"),
        ({"config": VIT, "trainable": "lora", "lora": {"rank": 2}}, ConfigError, r"\['rank'\]"),
        ({"config": VIT, "input": {"colour": 1}}, ConfigError, r"input has the keys \['colour'\]"),
        ({"config": VIT, "reads": "smell"}, ConfigError, "reads=smell"),
        ({"config": VIT, "stored": "audio"}, ConfigError, "reads video or image"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(settings, error, said):
    with pytest.raises(error, match=said):
        encoder_of(**settings)
