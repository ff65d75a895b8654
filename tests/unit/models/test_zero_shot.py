"""Teachers that know classes by their names, against what CLIP and CLAP themselves answer."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import save_clap, save_clip

from mke_ray.errors import ConfigError
from mke_ray.models.teachers import Teacher
from mke_ray.models.zero_shot import ZeroShotPictures, ZeroShotSound

RNG = np.random.default_rng(0)
VIDEO = np.repeat(np.repeat(RNG.integers(0, 256, (2, 3, 10, 10, 3), np.uint8), 4, 2), 4, 3)
SOUND = RNG.normal(size=(3, 8000)).astype(np.float32) * 0.1
CLASSES = ["dog", "red_cat", "rain"]


def test_logits_are_those_of_clip_for_the_same_texts(tmp_path):
    from transformers import AutoImageProcessor, AutoTokenizer

    network = save_clip(tmp_path)
    texts = ["a photo of a dog.", "a photo of a red cat.", "a photo of a rain."]
    tokens = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True, return_tensors="pt")
    assert len({tuple(one) for one in tokens["input_ids"].tolist()}) == 3
    pixels = AutoImageProcessor.from_pretrained(tmp_path)(
        list(VIDEO.reshape(-1, *VIDEO.shape[2:])), return_tensors="pt"
    )
    with torch.inference_mode():
        wanted = network(**tokens, **pixels).logits_per_image.reshape(2, 3, 3).mean(dim=1)
    teacher = ZeroShotPictures(str(tmp_path), CLASSES, batch_size=4)
    found = teacher.predict(VIDEO)
    assert isinstance(teacher, Teacher) and teacher.label_space.classes == tuple(CLASSES)
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert np.ptp(found, axis=1).min() > 0.01


def test_several_templates_are_averaged_and_texts_are_encoded_once(tmp_path, monkeypatch):
    network = save_clip(tmp_path)
    first, second = "a photo of a {}.", "a drawing of a {}."

    def of(*templates, **more):
        return ZeroShotPictures(str(tmp_path), CLASSES, templates=templates, **more)

    both, calls = of(first, second), []
    encode = type(network).get_text_features
    monkeypatch.setattr(
        type(network), "get_text_features", lambda *a, **k: calls.append(1) or encode(*a, **k)
    )
    logits = both.predict(VIDEO)
    np.testing.assert_array_equal(both.predict(VIDEO), logits)
    assert len(calls) == len(CLASSES)
    sides = np.stack([of(first).predict(VIDEO), of(second).predict(VIDEO)])
    assert ((logits - sides.min(axis=0)) > -0.5).all() and not np.allclose(logits, sides[0])
    several = {one.fingerprint() for one in (both, of(first), of(first, names={"dog": "hound"}))}
    assert len(several) == 3 and both.fingerprint() == of(first, second).fingerprint()


def test_logits_are_those_of_clap_for_the_same_texts(tmp_path):
    from transformers import AutoFeatureExtractor, AutoTokenizer

    network = save_clap(tmp_path)
    texts = [f"This is a sound of {one}." for one in ("dog", "red cat", "rain")]
    tokens = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True, return_tensors="pt")
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    heard = extractor(list(SOUND), sampling_rate=8000, return_tensors="pt")
    with torch.inference_mode():
        wanted = network(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            input_features=heard["input_features"],
        ).logits_per_audio
    teacher = ZeroShotSound(str(tmp_path), CLASSES, batch_size=2)
    np.testing.assert_allclose(teacher.predict(SOUND), wanted, atol=1e-5)
    assert teacher.needs == {"kind": "audio", "sample_rate_hz": 8000}
    assert np.ptp(wanted.numpy(), axis=1).min() > 1e-3


def test_sound_that_is_too_long_is_cut_and_not_drawn_from(tmp_path):
    save_clap(tmp_path)
    teacher = ZeroShotSound(str(tmp_path), CLASSES)
    long = np.concatenate([SOUND, -2 * SOUND[:, ::-1]], axis=1)
    several = [teacher.predict(long) for _ in range(4)]
    np.testing.assert_allclose(several, [teacher.predict(SOUND)] * 4, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"templates": ["a photo"]}, r"templates=\['a photo'\]; write {}"),
        ({"templates": []}, "write {}"),
        ({"names": {"cow": "bull"}}, r"names: \['cow'\] are no classes"),
    ],
)
def test_texts_that_do_not_fit_are_refused(tmp_path, more, said):
    with pytest.raises(ConfigError, match=said):
        ZeroShotPictures(str(tmp_path), CLASSES, **more)
