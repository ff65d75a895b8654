"""Backbones of transformers as encoders of a dense student."""

import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import save_convnext, save_vit

from mke_ray.errors import ConfigError
from mke_ray.models import build_student, load_student, save_student
from mke_ray.models.backbone_spec import pinned
from mke_ray.models.dense_backbones import DenseBackboneEncoder
from mke_ray.models.pyramid import DenseEncoder
from mke_ray.schema import IGNORE, LabelKind, LabelSpace

PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 45, 52, 3), np.uint8))
SWIN = {
    "model_type": "swin",
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [1, 1],
    "window_size": 2,
    "image_size": 32,
}


def encoder_of(channels=(4, 6, 8), **settings):
    torch.manual_seed(0)
    return DenseBackboneEncoder("rgb", channels=channels, **settings)


def test_every_stage_gives_the_map_of_its_level(tmp_path):
    save_convnext(tmp_path)
    for settings in ({"path": str(tmp_path)}, {"config": SWIN}):
        encoder = encoder_of(**settings).train()
        maps = encoder(encoder.represent(PICTURES))
        assert [tuple(one.shape) for one in maps] == [
            (2, 4, 23, 26),
            (2, 6, 12, 13),
            (2, 8, 6, 7),
        ]
        assert isinstance(encoder, DenseEncoder) and encoder.widths == (4, 6, 8)
        sum(one.sum() for one in maps).backward()
        lacking = [n for n, p in encoder.named_parameters() if p.grad is None and p.requires_grad]
        assert not lacking


def test_weights_and_statistics_are_those_of_the_folder(tmp_path):
    network = save_convnext(tmp_path)
    encoder = encoder_of(path=str(tmp_path))
    mine = dict(encoder.network.named_parameters())
    for name, weight in network.convnext.named_parameters():
        if not name.startswith("layernorm"):
            torch.testing.assert_close(mine[name], weight)
    mean = torch.tensor([0.5, 0.5, 0.5]).view(3, 1, 1)
    wanted = (PICTURES.permute(0, 3, 1, 2) / 255 - mean) / 0.5
    torch.testing.assert_close(encoder.represent(PICTURES), wanted)


@pytest.mark.parametrize("trainable", ["none", "last_1"])
def test_a_dense_student_is_exported_with_it(tmp_path, trainable):
    save_convnext(tmp_path / "net")
    spec = {
        "encoders": {
            "rgb": {
                "type": "transformers",
                "path": str(tmp_path / "net"),
                "trainable": trainable,
                "channels": [4, 6, 8],
            },
            "other": {"type": "pyramid", "channels": [4, 6, 8]},
        },
        "fusion": {"type": "add"},
        "decoder": {"channels": [6, 4]},
    }
    plan = pinned(spec)
    student = build_student(plan, 2).train()
    arrays = {"rgb": PICTURES, "other": PICTURES}
    present = {name: torch.ones(2, dtype=torch.bool) for name in arrays}
    student(arrays, present).sum().backward()
    moved = [n for n, p in student.encoders["rgb"].network.named_parameters() if p.grad is not None]
    assert bool(moved) == (trainable == "last_1") and not any("stages.0" in one for one in moved)
    space = LabelSpace(("a", "b"), LabelKind.DENSE, IGNORE)
    save_student(tmp_path / "out", student, spec=plan, label_space=space)
    shutil.rmtree(tmp_path / "net")
    loaded = load_student(tmp_path / "out").student
    with torch.no_grad():
        torch.testing.assert_close(loaded(arrays, present), student.eval()(arrays, present))


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ConfigError, match="swin has 2 stages: give 3 levels"):
        encoder_of(channels=(4, 6), config=SWIN)
    save_vit(tmp_path)
    with pytest.raises(ConfigError, match=r"student\.encoders\.rgb"):
        encoder_of(config={"model_type": "wav2vec2"})
    spec = {"type": "transformers", "config": SWIN, "reads": "maps"}
    with pytest.raises(ConfigError, match="reads=maps is for labels at every pixel"):
        build_student({"encoders": {"rgb": spec}, "fusion": {"type": "concat"}}, 2)
