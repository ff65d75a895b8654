"""A student as ONNX and as a program: the same answers, any number of samples, anything missing."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.models import build_student, load_student, save_student
from mke_ray.models.encoders import FeatureEncoder
from mke_ray.models.exporting import StudentProgram, example_inputs, exported
from mke_ray.schema import LabelKind, LabelSpace, decode_spec_from_dict

SPACE = LabelSpace(("cat", "dog", "owl"), LabelKind.SINGLE)
DECODE = {
    "audio": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 0.25},
    "video": {"kind": "video", "num_frames": 2, "height": 12, "width": 16},
}
SPEC = {
    "encoders": {
        "audio": {"type": "log_mel", "sample_rate_hz": 8000, "channels": [4], "num_features": 4},
        "video": {"type": "frames", "channels": [4], "num_features": 4},
    },
    "fusion": {"type": "gated", "num_features": 4},
    "head_hidden": [4],
}
ROWS = {"x": {"kind": "features", "num_features": 3}}
PICTURES = {"image": {"kind": "image", "height": 8, "width": 8}, **ROWS}
SMALL = {
    "encoders": {
        "image": {"type": "image", "channels": [4], "num_features": 4},
        "x": {"type": "features", "num_inputs": 3, "hidden": [4]},
    },
    "fusion": {"type": "attention", "num_features": 4, "num_heads": 2},
}


def saved(folder, spec=SPEC, decode=DECODE, build=None, space=SPACE):
    torch.manual_seed(0)
    student = build_student(spec, space.num_classes, build=build).eval()
    save_student(
        folder, student, spec=spec, label_space=space, temperature=0.3, extra={"decode": decode}
    )
    return folder


def test_a_program_of_torch_export_answers_as_the_student_does(tmp_path):
    loaded = load_student(saved(tmp_path, SMALL, PICTURES))
    files = exported(loaded, format="torch")
    assert list(files) == ["student.pt2"]
    (tmp_path / "student.pt2").write_bytes(files["student.pt2"])
    extra = {"mke_ray.json": ""}
    module = torch.export.load(str(tmp_path / "student.pt2"), extra_files=extra).module()
    for num_samples in (1, 6):
        inputs = example_inputs(("image", "x"), decode_spec_from_dict(PICTURES), num_samples)
        logits, probability = module(*inputs)
        expected = StudentProgram(loaded)(*inputs)
        torch.testing.assert_close(logits, expected[0], rtol=1e-4, atol=1e-5)
        wanted = (expected[0] / 0.3).softmax(dim=1)
        torch.testing.assert_close(probability, wanted, rtol=1e-4, atol=1e-5)
    assert json.loads(extra["mke_ray.json"])["classes"] == ["cat", "dog", "owl"]


def test_a_network_as_onnx_answers_as_the_student_does_whatever_is_missing(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript", reason="pip install 'mke-ray[onnx]' writes ONNX")
    loaded = load_student(saved(tmp_path))
    path = tmp_path / "student.onnx"
    path.write_bytes(exported(loaded, format="onnx")["student.onnx"])
    session = onnxruntime.InferenceSession(str(path))
    names = [one.name for one in session.get_inputs()]
    assert names == ["audio", "video", "audio_present", "video_present"]
    for num_samples in (1, 6):
        inputs = example_inputs(("audio", "video"), decode_spec_from_dict(DECODE), num_samples)
        given = {one: value.numpy() for one, value in zip(names, inputs, strict=True)}
        logits, probability = session.run(["logits", "probabilities"], given)
        expected = StudentProgram(loaded)(*inputs)
        np.testing.assert_allclose(logits, expected[0].detach(), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(probability, expected[1].detach(), rtol=1e-3, atol=1e-4)
        silent = {**given, "audio_present": np.zeros(num_samples, bool)}
        noisy = {**silent, "audio": np.ones_like(given["audio"])}
        np.testing.assert_array_equal(session.run(None, silent)[0], session.run(None, noisy)[0])
    about = json.loads(session.get_modelmeta().custom_metadata_map["mke_ray"])
    assert about["temperature"] == 0.3 and about["decode"]["video"]["num_frames"] == 2


class Branching(FeatureEncoder):
    """An encoder whose way depends on what it reads."""

    def forward(self, x_BD):
        return x_BD * 2 if float(x_BD.sum()) > 0 else x_BD


def test_a_network_that_cannot_be_written_is_named_with_the_way_out(tmp_path):
    spec = {
        "encoders": {"x": {"_target_": "mine.Net", "num_inputs": 3}},
        "fusion": {"type": "concat"},
    }

    def build(part, **extra):
        return Branching(num_inputs=part["num_inputs"], **extra)

    loaded = load_student(saved(tmp_path, spec, ROWS, build), classes={"mine.Net": Branching})
    with pytest.raises(ConfigError, match=r"format=torch: .*mine\.Net.*use load_student"):
        exported(loaded, format="torch")


class Forgetful(FeatureEncoder):
    """An encoder that adds the number of times it was asked."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.num = 0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x_BD):
        self.num += 1
        return x_BD * self.scale * self.num


@pytest.mark.parametrize("num_classes", [3, 1000])
def test_a_file_that_computes_otherwise_is_refused(tmp_path, num_classes):
    space = LabelSpace(tuple(f"class {number}" for number in range(num_classes)))
    spec = {
        "encoders": {"x": {"_target_": "mine.Net", "num_inputs": 3}},
        "fusion": {"type": "concat"},
    }

    def build(part, **extra):
        return Forgetful(num_inputs=part["num_inputs"], **extra)

    folder = saved(tmp_path, spec, ROWS, build, space)
    loaded = load_student(folder, classes={"mine.Net": Forgetful})
    with pytest.raises(ConfigError, match="differ by up to"):
        exported(loaded, format="torch")


def test_an_unknown_format_and_a_student_without_its_arrays_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"format='keras'; choose one of \['onnx', 'torch'\]"):
        exported(load_student(saved(tmp_path)), format="keras")
