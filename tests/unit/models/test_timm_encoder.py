"""Networks of timm as encoders of a student; timm needs torchvision, of which there may be none."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from mke_ray.errors import ConfigError
from mke_ray.models import build_student, load_student, save_student
from mke_ray.models.backbone_spec import portable
from mke_ray.schema import LabelSpace

SPEC = {"type": "timm", "name": "resnet10t", "num_features": 4}
VIDEO = torch.randint(0, 256, (2, 3, 40, 48, 3), dtype=torch.uint8)


def student_of(**more):
    spec = {"encoders": {"seen": {**SPEC, **more}}, "fusion": {"type": "concat"}}
    return build_student(spec, 2)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"timm cannot be imported.*mke-ray\[timm\]"):
        student_of()


def test_a_saved_student_names_no_file_of_weights():
    spec = {"encoders": {"seen": {**SPEC, "weights": "resnet.safetensors"}}}
    assert portable(spec) == {"encoders": {"seen": SPEC}}


def test_a_network_of_timm_is_an_encoder():
    pytest.importorskip("timm", reason="timm, or the torchvision that it needs, is not installed")
    student = student_of(trainable="none").train()
    student({"seen": VIDEO}, {"seen": torch.ones(2, dtype=torch.bool)}).sum().backward()
    encoder = student.encoders["seen"]
    assert all(one.grad is None for one in encoder.network.parameters())
    assert all(one.grad is not None for one in encoder.project.parameters())
    with pytest.raises(ConfigError, match="name=nothing is no network of timm"):
        student_of(name="nothing")


@pytest.mark.parametrize("trainable", ["all", "last_1", "lora"])
def test_it_starts_from_a_file_of_weights_and_is_saved_without_it(tmp_path, trainable):
    timm = pytest.importorskip("timm", reason="timm, or the torchvision it needs, is not installed")
    pytest.importorskip("peft", reason="the extra lora is not installed")
    network = timm.create_model("test_vit", num_classes=3)
    weights = tmp_path / "test_vit.safetensors"
    save_file(network.state_dict(), weights)
    of = {"name": "test_vit", "weights": str(weights), "trainable": trainable}
    spec = {"encoders": {"seen": {**SPEC, **of}}, "fusion": {"type": "concat"}}
    student = build_student(spec, 2).eval()
    encoder = student.encoders["seen"]
    with torch.no_grad():
        pooled = network.forward_head(
            network.forward_features(encoder.represent(VIDEO).flatten(0, 1)), pre_logits=True
        )
        found = encoder(encoder.represent(VIDEO))
        wanted = encoder.project(pooled.unflatten(0, VIDEO.shape[:2]).mean(dim=1))
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    trained = [name for name, one in encoder.network.named_parameters() if one.requires_grad]
    whole = len(list(network.parameters()))
    assert len(trained) >= whole - 2 if trainable == "all" else 0 < len(trained) < whole
    save_student(tmp_path / "student", student, spec=spec, label_space=LabelSpace(("a", "b")))
    weights.unlink()
    present = {"seen": torch.ones(2, dtype=torch.bool)}
    with torch.no_grad():
        again = load_student(tmp_path / "student").student({"seen": VIDEO}, present)
        torch.testing.assert_close(again, student({"seen": VIDEO}, present))
    with pytest.raises(ConfigError, match=r"weights=.* does not exist here"):
        build_student(spec, 2)
