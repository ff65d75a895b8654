"""Classifiers of transformers as teachers, against what the library itself answers."""

import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import (
    save_ast,
    save_convnext,
    save_videomae,
    save_vit,
    save_wav2vec2,
)

from mke_ray.config import build
from mke_ray.errors import ConfigError
from mke_ray.models.brought import ClipTeacher, PictureTeacher, SoundTeacher
from mke_ray.models.computing import Computing
from mke_ray.models.teachers import Teacher
from mke_ray.schema import LabelKind

RNG = np.random.default_rng(0)
SOUND = RNG.normal(size=(3, 8000)).astype(np.float32) * 0.1
VIDEO = np.repeat(np.repeat(RNG.integers(0, 256, (2, 6, 10, 13, 3), np.uint8), 4, 2), 4, 3)


def by_the_library(network, folder, inputs, auto="AutoFeatureExtractor", **more):
    import transformers

    processor = getattr(transformers, auto).from_pretrained(folder)
    with torch.inference_mode():
        return network(**processor(inputs, return_tensors="pt", **more)).logits.numpy()


@pytest.mark.parametrize("save", [save_ast, save_wav2vec2])
@pytest.mark.parametrize("preparation", ["device", "own"])
def test_a_network_of_sound_answers_as_in_the_library(tmp_path, save, preparation):
    network = save(tmp_path)
    teacher = SoundTeacher(str(tmp_path), preparation=preparation, batch_size=2)
    wanted = by_the_library(network, tmp_path, list(SOUND), sampling_rate=16000)
    found = teacher.predict(SOUND)
    assert isinstance(teacher, Teacher) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert np.ptp(wanted, axis=0).max() > 1e-2  # samples differ by more than that
    assert teacher.needs == {"kind": "audio", "sample_rate_hz": 16000}
    assert teacher.label_space.classes == ("calm", "loud")


@pytest.mark.parametrize("save", [save_vit, save_convnext])
@pytest.mark.parametrize("preparation", ["device", "own"])
def test_a_network_of_pictures_answers_by_the_mean_over_frames(tmp_path, save, preparation):
    network = save(tmp_path)
    teacher = PictureTeacher(str(tmp_path), preparation=preparation, batch_size=5)
    frames = list(VIDEO.reshape(-1, *VIDEO.shape[2:]))
    wanted = by_the_library(network, tmp_path, frames, "AutoImageProcessor").reshape(2, 6, 2)
    found = teacher.predict(VIDEO)
    np.testing.assert_allclose(found, wanted.mean(axis=1), atol=2e-3)
    assert np.ptp(wanted, axis=1).min() > 0 and teacher.needs == {"kind": "video"}
    picture = PictureTeacher(str(tmp_path), stored="image", modality="rgb", preparation=preparation)
    np.testing.assert_allclose(picture.predict(VIDEO[:, 3]), wanted[:, 3], atol=2e-3)


@pytest.mark.parametrize("preparation", ["device", "own"])
def test_a_network_of_clips_sees_evenly_spaced_frames(tmp_path, preparation):
    network = save_videomae(tmp_path)
    teacher = ClipTeacher(str(tmp_path), preparation=preparation)
    clips = [list(one[[0, 2, 3, 5]]) for one in VIDEO]
    wanted = by_the_library(network, tmp_path, clips, "AutoImageProcessor")
    np.testing.assert_allclose(teacher.predict(VIDEO), wanted, atol=2e-3)
    assert teacher.needs == {"kind": "video", "num_frames": 4}


def test_the_fingerprint_is_of_the_weights_and_the_preprocessing_and_not_of_the_place(tmp_path):
    save_vit(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    save_vit(tmp_path / "b", seed=1)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    settings = tmp_path / "c" / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("32", "24"))
    (tmp_path / "moved" / "notes.md").write_text("does not matter")

    def of(name, **more):
        return PictureTeacher(str(tmp_path / name), **more).fingerprint()

    assert of("a") == of("a") == of("moved") == of("a", batch_size=3)
    assert len({of("a"), of("b"), of("c"), of("a", preparation="own"), of("a", kind="multi")}) == 5


def test_a_network_without_its_head_is_refused_since_the_head_would_be_random(tmp_path):
    save_vit(tmp_path, head=False)
    with pytest.raises(ConfigError, match=r"lacks weights .* would be random.*classifier"):
        PictureTeacher(str(tmp_path))


def test_weights_that_may_carry_code_are_refused(tmp_path):
    network = save_vit(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="no weights in safetensors"):
        PictureTeacher(str(tmp_path))


def test_code_beside_the_weights_is_never_run(tmp_path):
    save_vit(tmp_path)
    config = tmp_path / "config.json"
    auto = (
        '{"auto_map": {"AutoModelForImageClassification": "evil.Evil", "AutoConfig": "evil.Evil"},'
    )
    config.write_text(auto + config.read_text().lstrip()[1:])
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Evil: pass\n")
    PictureTeacher(str(tmp_path))
    assert not ran.exists()


@pytest.mark.parametrize(
    ("path", "revision", "said"),
    [
        ("/nowhere/at/all", None, "neither a folder here nor owner/name"),
        ("owner/name", None, "needs a revision that cannot move"),
        ("owner/name", "main", "revision=main is no commit of 40"),
        ("owner/name", "0" * 40, "cannot be fetched"),
    ],
)
def test_a_network_that_is_not_there_is_named(monkeypatch, path, revision, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=said):
        PictureTeacher(path, revision=revision)


def test_a_network_of_the_hub_is_found_by_its_commit_in_the_cache(tmp_path, monkeypatch):
    commit = "ab" * 20
    folder = tmp_path / "models--owner--name" / "snapshots" / commit
    save_vit(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = PictureTeacher("owner/name", revision=commit)
    assert found.fingerprint() == PictureTeacher(str(folder)).fingerprint()


def test_a_network_of_another_kind_is_refused(tmp_path):
    save_vit(tmp_path)
    with pytest.raises(ConfigError, match="is no AutoModelForAudioClassification"):
        SoundTeacher(str(tmp_path))


def test_names_that_occur_twice_can_be_told_apart(tmp_path):
    save_vit(tmp_path, id2label={0: "crane", 1: "dog", 2: "crane"})
    space = PictureTeacher(str(tmp_path), kind="multi").label_space
    assert space.classes == ("crane #0", "dog", "crane #2") and space.kind == LabelKind.MULTI


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"kind": "many"}, "kind=many"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"stored": "audio"}, "stored=audio"),
        ({"preparation": "fast"}, "preparation=fast"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(tmp_path, more, said):
    save_vit(tmp_path)
    with pytest.raises(ConfigError, match=said):
        PictureTeacher(str(tmp_path), **more)


def test_the_network_can_be_compiled_and_it_is_built_from_a_configuration(tmp_path):
    save_convnext(tmp_path)
    spec = {"_target_": "mke_ray.models.brought.PictureTeacher", "path": str(tmp_path)}
    teacher = build(spec, Teacher)
    before = teacher.predict(VIDEO)
    computing = Computing(channels_last=True)
    computing.check(teacher, key="teacher.network")
    computing.prepare(teacher)
    np.testing.assert_allclose(teacher.predict(VIDEO), before, atol=1e-4)
