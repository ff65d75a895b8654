"""A fit of one modality serves as a teacher, if the store holds what it needs."""

import contextlib

import numpy as np
import pytest
import torch

from mke_ray.errors import ConfigError, StoreError
from mke_ray.models import StudentTeacher, build_student, save_student
from mke_ray.models.teachers import Teacher, check_needs
from mke_ray.schema import AudioSpec, FeatureSpec, LabelSpace, VideoSpec

ENCODERS = {
    "audio": {"type": "log_mel", "sample_rate_hz": 8000, "channels": [4], "num_features": 4},
    "x": {"type": "features", "num_inputs": 3},
}


def _saved(folder, modalities, seed=0):
    spec = {"encoders": {one: ENCODERS[one] for one in modalities}, "fusion": {"type": "concat"}}
    torch.manual_seed(seed)
    student = build_student(spec, 2).eval()
    save_student(folder, student, spec=spec, label_space=LabelSpace(("a", "b")))
    return student


def test_a_teacher_gives_the_logits_of_its_student(tmp_path):
    student = _saved(tmp_path, ["x"])
    teacher = StudentTeacher(tmp_path)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    logits = teacher.predict(x)
    expected = student({"x": torch.from_numpy(x)}, {"x": torch.ones(5, dtype=torch.bool)})
    assert isinstance(teacher, Teacher) and teacher.modality == "x"
    assert logits.dtype == np.float32 and logits.shape == (5, 2)
    assert np.array_equal(logits, expected.detach().numpy())
    assert np.array_equal(teacher.predict(torch.from_numpy(x)), logits)


def test_a_teacher_computes_where_it_is_told_and_answers_on_the_cpu(tmp_path):
    _saved(tmp_path, ["x"])
    x = np.ones((2, 3), np.float32)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        teacher = StudentTeacher(tmp_path, device=device)
        np.testing.assert_allclose(teacher.predict(x), StudentTeacher(tmp_path).predict(x), 1e-3)


@pytest.mark.parametrize("device", ["meta", "nonsense", "cuda:99"])
def test_a_device_that_cannot_compute_is_refused_when_it_is_used_and_no_sooner(tmp_path, device):
    _saved(tmp_path, ["x"])
    teacher = StudentTeacher(tmp_path, device=device)
    assert teacher.fingerprint() == StudentTeacher(tmp_path).fingerprint()
    with pytest.raises(
        ConfigError, match=rf"device={device} cannot compute.*labelling\.num_gpus=0"
    ):
        teacher.predict(np.ones((2, 3), np.float32))


def test_network_and_batch_are_put_on_the_device(tmp_path, monkeypatch):
    # "meta" takes part in computations like any device, but has no numbers to bring back.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr("mke_ray.models.whole_student.checked_device", torch.device)
    _saved(tmp_path, ["x"])
    with pytest.raises(NotImplementedError, match="meta"):
        StudentTeacher(tmp_path, device="meta").predict(np.ones((2, 3), np.float32))


def test_a_teacher_keeps_its_label_space(tmp_path):
    _saved(tmp_path, ["x"])
    assert StudentTeacher(tmp_path).label_space.classes == ("a", "b")


def test_the_fingerprint_follows_the_weights(tmp_path):
    for name, seed in [("one", 0), ("same", 0), ("other", 1)]:
        _saved(tmp_path / name, ["x"], seed)
    prints = [StudentTeacher(tmp_path / name).fingerprint() for name in ("one", "same", "other")]
    assert prints[0] == prints[1] != prints[2]


def test_a_student_of_two_modalities_is_no_teacher(tmp_path):
    _saved(tmp_path, ["x", "audio"])
    with pytest.raises(ConfigError, match=r"reads \['audio', 'x'\].*exactly one"):
        StudentTeacher(tmp_path)


def test_a_teacher_that_finds_what_it_needs_is_accepted(tmp_path):
    _saved(tmp_path, ["audio"])
    check_needs(StudentTeacher(tmp_path), {"audio": AudioSpec(8000, 2.0), "x": FeatureSpec(9)})


class _VideoTeacher:
    modality = "video"
    needs = {"kind": "video", "num_frames": 4, "height": 40}  # noqa: RUF012


def test_a_store_may_hold_more_frames_than_a_teacher_needs():
    check_needs(_VideoTeacher(), {"video": VideoSpec(8, 48, 48)})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"x": FeatureSpec(3)}, r"reads 'video' but decode stores \['x'\]"),
        (
            {"video": AudioSpec(8000, 1.0)},
            r"kind=video .* but decode\.video\.kind is audio",
        ),
        (
            {"video": VideoSpec(3, 40, 40)},
            r"least num_frames=4 .*decode\.video\.num_frames is 3",
        ),
        ({"video": VideoSpec(4, 39, 40)}, r"at least height=40 .*decode\.video\.height is 39"),
    ],
)
def test_a_teacher_that_needs_more_than_is_stored_is_refused(spec, message):
    with pytest.raises(StoreError, match=message):
        check_needs(_VideoTeacher(), spec)


def test_another_sample_rate_is_refused_even_when_it_is_higher(tmp_path):
    _saved(tmp_path, ["audio"])
    with pytest.raises(StoreError, match=r"sample_rate_hz=8000 .* is 16000"):
        check_needs(StudentTeacher(tmp_path), {"audio": AudioSpec(16_000, 2.0)})
