"""Tests of the view of pictures and clips: what each change does, drawn from the key alone."""

import pytest
import torch

from mke_ray.data.picture_views import PictureView
from mke_ray.errors import ConfigError
from mke_ray.randomness import keys_for

IDS = torch.arange(100, 140, dtype=torch.int64)
EVERYTHING = PictureView(
    10, 8, scale=(0.3, 0.9), ratio=(0.7, 1.4), flip=True, brightness=0.4, contrast=0.4,
    saturation=0.4, hue=0.2, erase=0.5,
)  # fmt: skip


def keys(epoch=0):
    return keys_for(IDS, seed=1, epoch=epoch, stream=0)


def pictures(height=12, width=16):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (len(IDS), 3, 3, 4), generator=generator).float()
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth.movedim(1, 3).to(torch.uint8)


def slopes(height=12, width=16):
    """Return [B, H, W, 3] whose values grow down (red) and to the right (green)."""
    row = torch.arange(height)[:, None].expand(-1, width) * 10
    column = torch.arange(width)[None].expand(height, -1) * 10
    picture = torch.stack([row, column, torch.full_like(row, 90)], dim=2)
    return picture.to(torch.uint8).expand(len(IDS), -1, -1, -1)


def test_a_view_depends_on_the_key_and_not_on_the_batch():
    x, key = pictures(), keys()
    whole = EVERYTHING(x, key)
    assert whole.shape == (len(IDS), 10, 8, 3) and whole.dtype == torch.uint8
    turned = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(3))
    assert torch.equal(EVERYTHING(x[turned], key[turned]), whole[turned])
    alone = torch.cat([EVERYTHING(x[i : i + 1], key[i : i + 1]) for i in range(len(IDS))])
    assert torch.equal(alone, whole)
    assert not torch.equal(whole, EVERYTHING(x, keys(epoch=1)))


def test_a_view_that_changes_nothing_is_the_picture():
    assert torch.equal(PictureView(12, 16)(pictures(), keys()), pictures())


def test_all_frames_of_a_clip_are_changed_alike():
    clip = pictures()[:, None].expand(-1, 4, -1, -1, -1)
    view = EVERYTHING(clip, keys())
    assert view.shape == (len(IDS), 4, 10, 8, 3)
    assert torch.equal(view, view[:, :1].expand_as(view))
    # A mean over four equal frames may differ from that over one in its last bit.
    assert (view[:, 0].int() - EVERYTHING(pictures(), keys()).int()).abs().max() <= 1


def test_frames_are_drawn_in_order_one_out_of_each_part():
    clip = torch.arange(8, dtype=torch.uint8)[None, :, None, None, None]
    clip = clip.expand(len(IDS), -1, 4, 4, 3)
    drawn = PictureView(4, 4, num_frames=4)(clip, keys())[:, :, 0, 0, 0]
    assert (drawn // 2 == torch.arange(4)).all() and len(drawn.unique(dim=0)) > 4
    with pytest.raises(ConfigError, match="num_frames=9"):
        PictureView(4, 4, num_frames=9)(clip, keys())


def test_a_crop_shows_a_share_of_the_area_of_a_drawn_shape():
    view = PictureView(12, 16, scale=(0.25, 0.25), ratio=(0.5, 2.0))(slopes(), keys()).float()
    tall = (view[:, -1, 0, 0] - view[:, 0, 0, 0]) / 110
    wide = (view[:, 0, -1, 1] - view[:, 0, 0, 1]) / 150
    assert ((tall * wide - 0.25).abs() < 0.03).all()
    assert tall.min() < 0.42 and tall.max() > 0.6
    assert view[:, 0, 0, 0].unique().numel() > 10  # it lies anywhere


def test_half_of_the_pictures_are_mirrored():
    view = PictureView(12, 16, flip=True)(slopes(), keys()).int()
    step = view[:, 0, 1, 1] - view[:, 0, 0, 1]
    assert set(step.tolist()) == {-10, 10} and 10 < int((step < 0).sum()) < 30
    assert torch.equal(view[..., 0], slopes()[..., 0].int())


def test_brightness_and_contrast_change_what_they_say():
    x = pictures()
    bright = PictureView(12, 16, brightness=0.2)(x, keys()).float()
    factor = bright.mean(dim=(1, 2, 3)) / x.float().mean(dim=(1, 2, 3))
    assert 0.79 < factor.min() < 0.9 and 1.05 < factor.max() < 1.21
    sharp = PictureView(12, 16, contrast=0.3)(x, keys()).float()
    spread = sharp.std(dim=(1, 2, 3)) / x.float().std(dim=(1, 2, 3))
    assert spread.min() < 0.9 and spread.max() > 1.1
    assert (sharp.mean(dim=(1, 2, 3)) - x.float().mean(dim=(1, 2, 3))).abs().max() < 12


def test_saturation_and_hue_leave_the_grey_alone():
    x, weight = pictures() // 2 + 64, torch.tensor([0.299, 0.587, 0.114])
    for view in (PictureView(12, 16, saturation=0.5), PictureView(12, 16, hue=0.1)):
        changed = view(x, keys())
        assert ((changed.float() - x.float()) @ weight).abs().max() < 3
        assert (changed.int() - x.int()).abs().max() > 10
    grey = torch.full((len(IDS), 4, 4, 3), 90, dtype=torch.uint8)
    assert (PictureView(4, 4, hue=0.5)(grey, keys()).int() - 90).abs().max() <= 1


def test_a_rectangle_of_some_pictures_is_erased():
    x = torch.zeros(len(IDS), 20, 20, 3, dtype=torch.uint8)
    view = PictureView(20, 20, erase=0.5, erase_area=(0.1, 0.3))(x, keys()).sum(dim=3) > 0
    share = view.float().mean(dim=(1, 2))
    assert 8 < int((share > 0).sum()) < 32
    assert share.max() < 0.4 and share[share > 0].min() > 0.05
    rows, columns = view.any(dim=2).sum(dim=1), view.any(dim=1).sum(dim=1)
    assert (rows * columns - view.sum(dim=(1, 2))).abs().max() <= 1  # a pixel may be drawn 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0.5, 1.5)}, {"scale": (0.9, 0.5)}, {"ratio": (0.0, 1.0)}, {"hue": 0.6},
        {"brightness": -0.1}, {"erase": 1.1}, {"erase_ratio": 0.0}, {"height": 0},
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PictureView(**{"height": 4, "width": 4, **wrong})
