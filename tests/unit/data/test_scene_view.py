"""Tests of the training view of a scene."""

import pytest
import torch

from mke_ray.data.scene_view import SceneView
from mke_ray.errors import ConfigError
from mke_ray.randomness import keys_for

HEIGHT, WIDTH, NUM = 12, 16, 24
SIZE = {"height": HEIGHT, "width": WIDTH}
MOVED = {**SIZE, "flip": True, "scale": (0.6, 1.2)}


def keys(epoch=0, num=NUM):
    return keys_for(torch.arange(num), seed=0, epoch=epoch, stream=7)


def class_maps(num=NUM):
    """Return maps of large blocks [B, H, W], so that most pixels lie within a block."""
    blocks = torch.arange(12, dtype=torch.uint8).reshape(3, 4) * 20 + 10
    whole = blocks.repeat_interleave(4, 0).repeat_interleave(4, 1)
    return whole.expand(num, -1, -1).contiguous()


def test_picture_depth_and_class_map_move_alike():
    maps = class_maps()
    picture = SceneView(**MOVED)(maps[..., None].expand(-1, -1, -1, 3), keys())
    depth = SceneView(**MOVED, of="depth")(maps[..., None].float(), keys())
    mask = SceneView(**MOVED, of="mask")(maps, keys())
    assert (picture.dtype, depth.dtype, mask.dtype) == (torch.uint8, torch.float32, torch.uint8)
    is_plain = (depth[..., 0] - depth[..., 0].round()).abs() < 1e-2
    is_plain &= (picture[..., 0].float() - depth[..., 0]).abs() < 0.5
    is_plain &= torch.isin(depth[..., 0].round(), maps.float().unique())
    expected = torch.where(mask == 255, 0, mask).float()
    agree = (depth[..., 0].round() == expected) & is_plain
    assert agree.float().mean() > 0.5 and agree.sum() / is_plain.sum() > 0.95
    other = SceneView(**MOVED, of="mask")(maps, keys(epoch=1))
    assert (other != mask).any()


def test_the_same_keys_draw_the_same_view_in_any_batch():
    maps = class_maps()
    view = SceneView(**MOVED, of="mask")
    whole = view(maps, keys())
    assert torch.equal(view(maps[5:9], keys()[5:9]), whole[5:9])
    noisy = SceneView(**MOVED, colour=0.2, noise=0.3, cut_out=0.5, drop_share=0.3)
    pictures = maps[..., None].expand(-1, -1, -1, 3)
    whole = noisy(pictures, keys())
    assert torch.equal(noisy(pictures[5:9], keys()[5:9]), whole[5:9])


def test_a_mirror_turns_every_half_of_the_samples_and_negates_the_mirrored_channels():
    depth = torch.rand(NUM, HEIGHT, WIDTH, 3) + 0.5
    view = SceneView(**SIZE, of="depth", flip=True, mirrored=(1,))
    seen = view(depth, keys())
    flipped = depth.flip(2) * torch.tensor([1.0, -1.0, 1.0])
    is_same = torch.isclose(seen, depth, atol=1e-4).flatten(1).all(1)
    is_flipped = torch.isclose(seen, flipped, atol=1e-4).flatten(1).all(1)
    assert (is_same ^ is_flipped).all()
    assert 4 < int(is_flipped.sum()) < NUM - 4


def test_without_anything_the_view_is_what_is_stored():
    maps = class_maps()
    assert torch.equal(SceneView(**SIZE, of="mask")(maps, keys()), maps)
    pictures = torch.randint(0, 256, (NUM, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    assert torch.equal(SceneView(**SIZE)(pictures, keys()), pictures)


def test_outside_counts_for_nothing():
    wide = {**SIZE, "scale": (2.0, 2.0)}
    mask = SceneView(**wide, of="mask")(class_maps(), keys())
    picture = SceneView(**wide)(torch.full((NUM, HEIGHT, WIDTH, 3), 200, dtype=torch.uint8), keys())
    share = (mask == 255).float().mean(dim=(1, 2))
    assert share.min() > 0.6 and share.max() < 0.8
    assert (picture[mask == 255] < 200).all() and (mask != 255).any()
    assert set(mask.unique().tolist()) <= {*class_maps().unique().tolist(), 255}


def test_probabilities_move_as_class_maps_do():
    maps = torch.randint(0, 3, (NUM, HEIGHT, WIDTH), dtype=torch.uint8)
    soft = torch.nn.functional.one_hot(maps.long(), 3).movedim(3, 1).float()
    view = SceneView(**MOVED, of="mask")
    hard_view, soft_view = view(maps, keys()), view(soft, keys())
    is_inside = hard_view != 255
    assert torch.equal(soft_view.sum(1) > 0, is_inside)
    assert torch.equal(soft_view.argmax(1)[is_inside], hard_view.long()[is_inside])


def test_noise_cut_out_and_drop_are_each_modalitys_own():
    pictures = torch.full((NUM, HEIGHT, WIDTH, 3), 100, dtype=torch.uint8)
    view = SceneView(**SIZE, drop_share=0.5)
    own = keys(epoch=9)
    dropped = (view(pictures, keys(), own) == 0).flatten(1).all(1)
    assert 4 < int(dropped.sum()) < NUM - 4
    assert torch.equal(dropped, (view(pictures, keys(epoch=1), own) == 0).flatten(1).all(1))
    cut = (SceneView(**SIZE, cut_out=1.0)(pictures, keys()) == 0).float().mean(dim=(1, 2, 3))
    assert cut.min() > 0.03 and cut.max() < 0.3
    noisy = SceneView(**SIZE, noise=0.1)(pictures, keys()).float()
    assert noisy.std() == pytest.approx(12.8, rel=0.1)


@pytest.mark.parametrize(
    ("keys_given", "message"),
    [
        ({"of": "sound"}, "of='sound'"),
        ({"scale": (1.0, 0.5)}, "scale="),
        ({"of": "mask", "noise": 0.1}, "of=mask"),
        ({"drop_share": 1.5}, "up to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(keys_given, message):
    with pytest.raises(ConfigError, match=message):
        SceneView(**SIZE, **keys_given)
