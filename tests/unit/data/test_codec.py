"""Tests of how arrays are stored."""

import numpy as np
import pytest

from mke_ray.data.codec import decode_modality, empty_modality, encode_modality
from mke_ray.errors import StoreError
from mke_ray.schema import AudioSpec, FeatureSpec, ImageSpec, VideoSpec


def smooth_video(spec):
    ramp = np.linspace(0, 255, spec.width)[None, None, :, None]
    shape = (spec.num_frames, spec.height, spec.width, 3)
    return np.broadcast_to(ramp, shape).astype(np.uint8)


def test_frames_come_back_nearly_the_same_one_jpeg_each():
    spec = VideoSpec(3, 32, 48)
    video = smooth_video(spec)
    pieces = encode_modality(video, spec)
    assert [piece[:2] for piece in pieces] == [b"\xff\xd8"] * 3
    back = decode_modality(pieces, spec)
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - video.astype(int)).mean() < 2


def test_a_picture_is_one_jpeg_and_comes_back_nearly_the_same():
    spec = ImageSpec(32, 48)
    picture = smooth_video(VideoSpec(1, 32, 48))[0]
    (piece,) = encode_modality(picture, spec)
    assert piece[:2] == b"\xff\xd8"
    back = decode_modality([piece], spec)
    assert (back.shape, back.dtype) == ((32, 48, 3), np.uint8)
    assert np.abs(back.astype(int) - picture.astype(int)).mean() < 2
    assert len(encode_modality(picture, ImageSpec(32, 48, quality=20))[0]) < len(piece)


def test_a_lossless_picture_is_a_png_and_comes_back_exactly():
    spec = ImageSpec(32, 48, lossless=True)
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    (piece,) = encode_modality(picture, spec)
    assert piece[:4] == b"\x89PNG"
    assert np.array_equal(decode_modality([piece], spec), picture)


def test_sound_comes_back_to_sixteen_bits_and_is_clipped():
    spec = AudioSpec(100, 0.05)
    sound_N = np.array([-2.0, -0.5, 0.0, 0.25, 1.0], np.float32)
    back = decode_modality(encode_modality(sound_N, spec), spec)
    assert back.dtype == np.float32
    assert np.allclose(back, [-1.0, -0.5, 0.0, 0.25, 1.0], atol=1 / 32767)


def test_features_come_back_exactly():
    spec = FeatureSpec(3)
    features = np.array([1e-30, -3.25, 1e30], np.float32)
    assert np.array_equal(decode_modality(encode_modality(features, spec), spec), features)


def test_storing_what_was_stored_changes_sound_no_more():
    spec = AudioSpec(1000, 0.3)
    sound_N = np.random.default_rng(0).uniform(-1, 1, 300).astype(np.float32)
    once = encode_modality(sound_N, spec)
    assert encode_modality(decode_modality(once, spec), spec) == once


@pytest.mark.parametrize(
    "spec",
    [VideoSpec(2, 16, 24), ImageSpec(16, 24), AudioSpec(8000, 0.1), FeatureSpec(4)],
    ids=lambda s: s.kind,
)
def test_a_missing_modality_has_the_shape_and_type_of_a_stored_one(spec):
    zeros = empty_modality(spec)
    back = decode_modality(encode_modality(zeros, spec), spec)
    assert (back.shape, back.dtype) == (zeros.shape, zeros.dtype)
    assert not zeros.any()


def test_pieces_of_another_specification_are_refused():
    pieces = encode_modality(smooth_video(VideoSpec(3, 32, 48)), VideoSpec(3, 32, 48))
    with pytest.raises(StoreError, match="belong to different stores"):
        decode_modality(pieces, VideoSpec(4, 32, 48))
    with pytest.raises(StoreError):
        encode_modality(np.zeros(5, np.float32), FeatureSpec(4))
