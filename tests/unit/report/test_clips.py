"""Small media files for the players of a page."""

import io

import av
import numpy as np
import pytest

from mke_ray.report import clips
from mke_ray.report.clips import sample_clip
from mke_ray.schema import AudioSpec, FeatureSpec, VideoSpec

DECODE = {"video": VideoSpec(8, 48, 64), "audio": AudioSpec(8000, 2.0)}
FRAMES = np.repeat(np.linspace(0, 255, 8), 48 * 64 * 3).reshape(8, 48, 64, 3).astype(np.uint8)
SOUND = 0.3 * np.sin(np.arange(16_000) / 3).astype(np.float32)


def opened(clip):
    with av.open(io.BytesIO(clip)) as file:
        lengths = {one.type: float(one.duration * one.time_base) for one in file.streams}
        pictures = (
            [one.to_ndarray(format="gray") for one in file.decode(video=0)]
            if (file.streams.video)
            else []
        )
    return lengths, pictures


def test_frames_are_spread_over_the_length_of_the_sound():
    clip, has_pictures = sample_clip({"video": FRAMES, "audio": SOUND}, DECODE)
    lengths, pictures = opened(clip)
    assert has_pictures and set(lengths) == {"video", "audio"}
    assert lengths["video"] == pytest.approx(2.0, abs=0.3)
    assert lengths["audio"] == pytest.approx(2.0, abs=0.2)
    assert [one.mean() for one in pictures[:8]] == sorted(one.mean() for one in pictures[:8])
    assert pictures[0].mean() < 30 and pictures[-1].mean() > 225


def test_what_there_is_can_be_played_alone():
    lengths, _ = opened(sample_clip({"video": FRAMES}, DECODE)[0])
    assert set(lengths) == {"video"} and lengths["video"] == pytest.approx(2.0, abs=0.3)
    clip, has_pictures = sample_clip({"audio": SOUND}, DECODE)
    assert not has_pictures and set(opened(clip)[0]) == {"audio"}


def test_nothing_is_made_of_what_cannot_be_played():
    assert sample_clip({}, DECODE) == (b"", False)
    assert sample_clip({"x": np.zeros(3, np.float32)}, {"x": FeatureSpec(3)}) == (b"", False)
    tiny = {"video": FRAMES[:, :8, :8]}
    assert sample_clip(tiny, DECODE) == (b"", False)


def test_odd_sides_and_rates_that_aac_has_not_are_no_hindrance():
    decode = {"video": VideoSpec(8, 47, 63), "audio": AudioSpec(14_000, 1.0)}
    given = {"video": FRAMES[:, :47, :63], "audio": SOUND[:14_000]}
    lengths, pictures = opened(sample_clip(given, decode)[0])
    assert pictures[0].shape == (46, 62)
    assert lengths["audio"] == pytest.approx(1.0, abs=0.2)


def test_a_clip_that_is_too_large_is_made_worse_and_at_last_left_out(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (8, 96, 96, 3)).astype(np.uint8)
    decode = {"video": VideoSpec(8, 96, 96)}
    large, _ = sample_clip({"video": noise}, decode)
    monkeypatch.setattr(clips, "MAX_CLIP_BYTES", len(large) - 1)
    smaller, has_pictures = sample_clip({"video": noise}, decode)
    assert has_pictures and 0 < len(smaller) < len(large)
    monkeypatch.setattr(clips, "MAX_CLIP_BYTES", 100)
    assert sample_clip({"video": noise}, decode) == (b"", False)
