"""Segmenters of transformers as teachers, against what their own processors make of them."""

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import save_mask2former, save_segformer, save_vit

from mke_ray.errors import ConfigError
from mke_ray.models.label_map import MappedTeacher
from mke_ray.models.segmenters import SegmenterTeacher
from mke_ray.models.teachers import Teacher
from mke_ray.schema import LabelKind

RNG = np.random.default_rng(0)
PICTURES = np.repeat(np.repeat(RNG.integers(0, 256, (3, 10, 13, 3), np.uint8), 4, 1), 4, 2)
THREE = {"id2label": {0: "wall", 1: "floor", 2: "cat"}}


@pytest.mark.parametrize("preparation", ["device", "own"])
@pytest.mark.parametrize("save", [save_segformer, save_mask2former])
def test_a_segmenter_says_of_every_stored_pixel_what_its_processor_says(
    tmp_path, save, preparation
):
    from transformers import AutoImageProcessor

    network = save(tmp_path, **THREE)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    with torch.inference_mode():
        said = network(**processor(list(PICTURES), return_tensors="pt"))
    wanted = processor.post_process_semantic_segmentation(said, target_sizes=[(40, 52)] * 3)
    teacher = SegmenterTeacher(str(tmp_path), preparation=preparation, batch_size=2)
    found = teacher.predict(PICTURES)
    assert isinstance(teacher, Teacher) and found.shape == (3, 3, 40, 52)
    same = (found.argmax(axis=1) == torch.stack(wanted).numpy()).mean()
    assert same > (0.999 if preparation == "own" else 0.99)
    assert len(np.unique(found.argmax(axis=1))) > 1
    assert teacher.label_space.kind == LabelKind.DENSE and np.isfinite(found).all()


def test_its_classes_can_be_mapped_at_every_pixel(tmp_path):
    save_segformer(tmp_path, **THREE)
    inner = SegmenterTeacher(str(tmp_path))
    table = {"building": ["wall", "floor"], "animal": ["cat"]}
    mapped = MappedTeacher(inner, table, ["animal", "building"])
    shares = torch.from_numpy(inner.predict(PICTURES)).softmax(dim=1)
    found = np.exp(mapped.predict(PICTURES))
    np.testing.assert_allclose(found[:, 1], shares[:, 0] + shares[:, 1], atol=1e-5)
    assert mapped.label_space.kind == LabelKind.DENSE


def test_a_network_of_another_kind_is_refused(tmp_path):
    save_vit(tmp_path)
    with pytest.raises(ConfigError, match="is no AutoModelForSemanticSegmentation"):
        SegmenterTeacher(str(tmp_path))
