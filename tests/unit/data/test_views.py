"""Tests of the training views: drawn from each sample's key alone, within what is stored."""

import pytest
import torch

from mke_ray.data.views import AudioView, IdentityView, ImageView, VideoView
from mke_ray.errors import ConfigError
from mke_ray.randomness import keys_for

IDS = torch.arange(100, 140, dtype=torch.int64)


def keys(epoch=0, ids=IDS):
    return keys_for(ids, seed=1, epoch=epoch, stream=0)


def numbered_video():
    """Return [B, 8, 12, 12, 3] whose values tell frame, row and column."""
    frame, row, column = torch.meshgrid(
        torch.arange(8), torch.arange(12), torch.arange(12), indexing="ij"
    )
    pixels = torch.stack([frame, row, column], dim=-1).to(torch.uint8)
    return pixels.expand(len(IDS), -1, -1, -1, -1)


def test_a_video_view_is_one_window_of_ascending_frames_one_per_part():
    view = VideoView(4, 10, 9)(numbered_video(), keys())
    assert view.shape == (len(IDS), 4, 10, 9, 3)
    frames = view[:, :, 0, 0, 0]
    assert (frames // 2 == torch.arange(4)).all()
    assert (view[..., 0] == frames[:, :, None, None]).all()
    rows = view[:, :, :, 0, 1].int()
    assert (rows.diff(dim=2) == 1).all()
    assert (view[..., 1] == view[:, :1, :, :1, 1]).all()
    assert (view[..., 2].int().diff(dim=3) == 1).all()


def test_a_picture_view_is_one_window_mirrored_half_of_the_time():
    pictures = numbered_video()[:, 0]
    view = ImageView(10, 9, flip=True)(pictures, keys()).int()
    assert view.shape == (len(IDS), 10, 9, 3)
    assert (view[..., 1].diff(dim=1) == 1).all()
    steps = view[..., 2].diff(dim=2)
    assert (steps == steps[:, :1, :1]).all() and steps.abs().max() == 1
    mirrored = int((steps[:, 0, 0] == -1).sum())
    assert len(IDS) // 4 < mirrored < 3 * len(IDS) // 4
    assert (ImageView(10, 9)(pictures, keys()).int()[..., 2].diff(dim=2) == 1).all()


def test_a_picture_view_depends_on_the_key_and_not_on_the_batch():
    view, pictures = ImageView(8, 8, flip=True), numbered_video()[:, 0]
    alone = torch.cat([view(pictures[i : i + 1], keys()[i : i + 1]) for i in range(len(IDS))])
    assert torch.equal(view(pictures, keys()), alone)
    assert not torch.equal(view(pictures, keys()), view(pictures, keys(epoch=1)))


def test_every_row_and_column_of_a_picture_is_drawn_some_time():
    pictures = numbered_video()[:, 0]
    drawn = torch.cat([ImageView(10, 10)(pictures, keys(epoch)) for epoch in range(10)])
    assert drawn[..., 1].unique().tolist() == drawn[..., 2].unique().tolist() == list(range(12))


def test_every_frame_row_and_column_is_drawn_some_time():
    views = [VideoView(4, 10, 10)(numbered_video(), keys(epoch)) for epoch in range(10)]
    drawn = torch.cat(views)
    for axis, number in enumerate((8, 12, 12)):
        assert drawn[..., axis].unique().tolist() == list(range(number))


def test_a_view_depends_on_the_key_and_not_on_the_batch():
    view, video = VideoView(3, 8, 8), numbered_video()
    alone = torch.cat([view(video[i : i + 1], keys()[i : i + 1]) for i in range(len(IDS))])
    assert torch.equal(view(video, keys()), alone)
    assert not torch.equal(view(video, keys()), view(video, keys(epoch=1)))


def test_a_view_as_large_as_the_store_is_the_store():
    video = numbered_video()
    assert torch.equal(VideoView(8, 12, 12)(video, keys()), video)
    assert torch.equal(ImageView(12, 12)(video[:, 0], keys()), video[:, 0])
    sound = torch.rand(len(IDS), 50)
    assert torch.equal(AudioView(50)(sound, keys()), sound)
    assert torch.equal(IdentityView()(sound, keys()), sound)


def test_a_sound_view_is_a_window_anywhere_in_the_sound():
    sound = torch.arange(30.0).expand(len(IDS), -1)
    view = AudioView(20)(sound, keys())
    assert view.shape == (len(IDS), 20)
    assert (view.diff(dim=1) == 1).all()
    assert view[:, 0].unique().tolist() == list(range(11))


@pytest.mark.parametrize("view", [VideoView(9, 8, 8), VideoView(4, 13, 8), VideoView(4, 8, 13)])
def test_a_video_view_larger_than_the_store_is_refused(view):
    with pytest.raises(ConfigError, match="store more"):
        view(numbered_video(), keys())


@pytest.mark.parametrize("view", [ImageView(13, 8), ImageView(8, 13)])
def test_a_picture_view_larger_than_the_store_is_refused(view):
    with pytest.raises(ConfigError, match="store more"):
        view(numbered_video()[:, 0], keys())


def test_a_sound_view_longer_than_the_store_is_refused():
    with pytest.raises(ConfigError, match="num_samples=31"):
        AudioView(31)(torch.zeros(len(IDS), 30), keys())
