"""Networks of timm as encoders of a student; timm needs torchvision, of which there may be none."""

import sys

import pytest
import torch

from mke_ray.errors import ConfigError
from mke_ray.models import build_student
from mke_ray.models.backbone_spec import portable

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
