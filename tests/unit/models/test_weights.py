"""A student as files: everything comes back, and nothing is trusted."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load, save

from mke_ray.errors import ConfigError, StoreError
from mke_ray.models import build_student, load_student, save_student
from mke_ray.models.encoders import FeatureEncoder
from mke_ray.schema import LabelKind, LabelSpace
from mke_ray.storage import open_root

SPEC = {
    "encoders": {
        "x": {"type": "features", "num_inputs": 3, "hidden": [4]},
        "video": {"type": "frames", "channels": [4], "num_features": 4},
    },
    "fusion": {"type": "concat", "num_features": 5},
    "head_hidden": [6],
    "dropout": 0.1,
}
SPACE = LabelSpace(("cat", "dog", "owl"), LabelKind.SINGLE)


def _batch():
    torch.manual_seed(1)
    arrays = {
        "x": torch.randn(4, 3) * 5 + 2,
        "video": torch.randint(0, 256, (4, 2, 8, 8, 3), dtype=torch.uint8),
    }
    return arrays, {name: torch.ones(4, dtype=torch.bool) for name in arrays}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    student = build_student(SPEC, 3).to(memory_format=torch.channels_last)
    student.observe(*_batch())
    student.freeze_normalisation()
    folder = tmp_path / "student"
    save_student(
        folder, student, spec=SPEC, label_space=SPACE, temperature=1.7, extra={"arm": "mke"}
    )
    return folder, student.eval()


def test_a_student_comes_back_whole(saved):
    folder, student = saved
    loaded = load_student(folder)
    assert torch.equal(loaded.student(*_batch()), student(*_batch()))
    assert not loaded.student.training
    assert loaded.label_space == SPACE
    assert (loaded.temperature, loaded.spec, loaded.extra) == (1.7, SPEC, {"arm": "mke"})


def test_a_student_is_read_from_any_file_system():
    root = open_root("memory://students/one")
    student = build_student(SPEC, 3).eval()
    save_student(root, student, spec=SPEC, label_space=SPACE)
    loaded = load_student("memory://students/one")
    assert torch.equal(loaded.student(*_batch()), student(*_batch()))


def test_a_student_is_read_where_the_rest_of_the_stack_cannot_be_imported(saved):
    absent = ("ray", "deepspeed", "mlflow", "hydra", "omegaconf")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from mke_ray.models import load_student\n"
        f"loaded = load_student({str(saved[0])!r})\n"
        "import torch\n"
        "x, has = torch.ones(2, 3), torch.ones(2, dtype=torch.bool)\n"
        "logits = loaded.student({'x': x}, {'x': has})\n"
        "print(loaded.probabilities(logits).sum().item())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=saved[0], check=True
    )
    assert float(done.stdout) == pytest.approx(2.0, abs=1e-5)


def test_what_its_arrays_hold_travels_with_a_student(saved, tmp_path):
    decode = {
        "video": {"kind": "video", "num_frames": 2, "height": 8, "width": 8},
        "x": {"kind": "features", "num_features": 3},
    }
    with pytest.raises(StoreError, match="saved without the decode specification"):
        load_student(saved[0]).decode  # noqa: B018 - it is computed
    extra = {"decode": {**decode, "mask": {"kind": "mask", "height": 8, "width": 8}}}
    save_student(tmp_path, saved[1], spec=SPEC, label_space=SPACE, extra=extra)
    assert load_student(tmp_path).decode == decode


def test_the_model_card_says_how_to_load_it(saved):
    text = (saved[0] / "README.md").read_text()
    assert "load_student" in text and "video, x" in text and "cat, dog, owl" in text


def test_a_model_card_of_the_users_is_kept(saved, tmp_path):
    save_student(tmp_path, saved[1], spec=SPEC, label_space=SPACE, card="# Mine\n")
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_a_changed_byte_of_the_weights_is_noticed(saved):
    file = saved[0] / "student.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"student\.safetensors has SHA-256"):
        load_student(saved[0])


@pytest.mark.parametrize("name", ["student.safetensors", "student.json"])
def test_a_missing_file_is_named(saved, name):
    (saved[0] / name).unlink()
    with pytest.raises(StoreError, match=f"{name} is missing"):
        load_student(saved[0])


def _rewrite(folder, **changes):
    file = folder / "student.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_another_format_is_refused(saved):
    _rewrite(saved[0], format_version=99)
    with pytest.raises(StoreError, match="format_version 99"):
        load_student(saved[0])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1}'])
def test_a_damaged_specification_is_a_store_error(saved, content):
    (saved[0] / "student.json").write_text(content)
    with pytest.raises(StoreError, match=r"student\.json"):
        load_student(saved[0])


def test_weights_of_another_specification_are_refused(saved):
    _rewrite(saved[0], spec={**SPEC, "head_hidden": [7]})
    with pytest.raises(StoreError, match="does not fit its specification"):
        load_student(saved[0])


def test_weights_that_lack_a_tensor_are_refused(saved):
    file = saved[0] / "student.safetensors"
    state = load(file.read_bytes())
    state.pop("output.bias")
    _write_weights(saved[0], save(state))
    with pytest.raises(StoreError, match=r"output\.bias"):
        load_student(saved[0])


def test_weights_that_are_no_safetensors_are_refused(saved):
    _write_weights(saved[0], b"\x80\x04 a pickle, perhaps")
    with pytest.raises(StoreError, match="does not fit its specification"):
        load_student(saved[0])


def _write_weights(folder, content):
    import hashlib

    (folder / "student.safetensors").write_bytes(content)
    _rewrite(folder, sha256=hashlib.sha256(content).hexdigest())


def test_a_class_that_a_file_names_is_built_only_when_it_is_given(tmp_path):
    spec = {
        "encoders": {"x": {"_target_": "mine.Encoder", "num_inputs": 3}},
        "fusion": {"type": "concat"},
    }

    def build(part, **extra):
        return FeatureEncoder(num_inputs=part["num_inputs"], **extra)

    student = build_student(spec, 3, build=build).eval()
    save_student(tmp_path, student, spec=spec, label_space=SPACE)
    with pytest.raises(ConfigError, match=r"mine\.Encoder"):
        load_student(tmp_path)
    with pytest.raises(ConfigError, match=r"needs the class 'mine\.Encoder'"):
        load_student(tmp_path, classes={"mine.Other": FeatureEncoder})
    loaded = load_student(tmp_path, classes={"mine.Encoder": FeatureEncoder})
    assert torch.equal(loaded.student(*_batch()), student(*_batch()))
