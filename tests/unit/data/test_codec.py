"""Tests of how arrays are stored."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mke_ray.data.codec import decode_modality, empty_modality, encode_modality
from mke_ray.errors import StoreError
from mke_ray.schema import (
    AudioSpec,
    DepthSpec,
    FeatureSpec,
    ImageSpec,
    MaskSpec,
    TokenSpec,
    VideoSpec,
)


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


@pytest.mark.parametrize(("num_ids", "num_bytes"), [(65_536, 8), (65_537, 16)])
def test_ids_of_tokens_come_back_exactly_in_as_few_bytes_as_hold_them(num_ids, num_bytes):
    spec = TokenSpec(4, digest="d", num_ids=num_ids)
    ids = np.array([0, 5, num_ids - 1, 40_000], np.int32)
    (piece,) = encode_modality(ids, spec)
    back = decode_modality([piece], spec)
    assert len(piece) == num_bytes and back.dtype == np.int32 and np.array_equal(back, ids)
    assert np.array_equal(empty_modality(spec), np.zeros(4, np.int32))
    assert empty_modality(TokenSpec(4, pad_id=1)).tolist() == [1, 1, 1, 1]
    with pytest.raises(StoreError, match="tokens array has shape"):
        encode_modality(ids[:3], spec)


def test_storing_what_was_stored_changes_sound_no_more():
    spec = AudioSpec(1000, 0.3)
    sound_N = np.random.default_rng(0).uniform(-1, 1, 300).astype(np.float32)
    once = encode_modality(sound_N, spec)
    assert encode_modality(decode_modality(once, spec), spec) == once


@pytest.mark.parametrize(
    "spec",
    [
        VideoSpec(2, 16, 24),
        ImageSpec(16, 24),
        DepthSpec(16, 24, "hha"),
        AudioSpec(8000, 0.1),
        FeatureSpec(4),
    ],
    ids=lambda s: s.kind,
)
def test_a_missing_modality_has_the_shape_and_type_of_a_stored_one(spec):
    zeros = empty_modality(spec)
    back = decode_modality(encode_modality(zeros, spec), spec)
    assert (back.shape, back.dtype) == (zeros.shape, zeros.dtype)
    assert not zeros.any()


def test_a_missing_class_map_counts_for_nothing():
    spec = MaskSpec(16, 24)
    empty = empty_modality(spec)
    assert (empty.shape, empty.dtype) == ((16, 24), np.uint8)
    assert (empty == 255).all()
    assert np.array_equal(decode_modality(encode_modality(empty, spec), spec), empty)


@given(st.data())
def test_class_maps_come_back_exactly(data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    mask = data.draw(hnp.arrays(np.uint8, (height, width)))
    back = decode_modality(encode_modality(mask, MaskSpec(height, width)), MaskSpec(height, width))
    assert (back.dtype, back.tobytes()) == (np.uint8, mask.tobytes())


@pytest.mark.parametrize(
    ("channels", "low", "high", "step"),
    [("metres", 0, 65.535, 0.001), ("inverse", 0, 13.107, 0.0002), ("hha", -2, 2, 1 / 16_383)],
)
def test_depth_comes_back_to_half_a_step_and_is_clipped(channels, low, high, step):
    spec = DepthSpec(5, 7, channels)
    depth = np.random.default_rng(0).uniform(low, high, (5, 7, spec.num_channels))
    depth[0, 0], depth[1, 1], depth[2, 2] = low - 1, high + 1, 0.0
    pieces = encode_modality(depth.astype(np.float32), spec)
    assert len(pieces) == spec.num_channels
    back = decode_modality(pieces, spec)
    assert back.dtype == np.float32
    assert np.abs(back - np.clip(depth, low, high)).max() <= step / 2 + 1e-5
    assert (back[2, 2] == 0).all()


def test_storing_what_was_stored_changes_depth_no_more():
    spec = DepthSpec(8, 8, "hha")
    depth = np.random.default_rng(0).normal(0, 0.7, (8, 8, 6)).astype(np.float32)
    once = encode_modality(depth, spec)
    assert encode_modality(decode_modality(once, spec), spec) == once


def test_a_depth_map_of_eight_bits_is_refused():
    pieces = encode_modality(np.zeros((4, 4), np.uint8), MaskSpec(4, 4))
    with pytest.raises(StoreError, match="16 bits"):
        decode_modality(pieces, DepthSpec(4, 4))


def test_pieces_of_another_specification_are_refused():
    pieces = encode_modality(smooth_video(VideoSpec(3, 32, 48)), VideoSpec(3, 32, 48))
    with pytest.raises(StoreError, match="belong to different stores"):
        decode_modality(pieces, VideoSpec(4, 32, 48))
    with pytest.raises(StoreError):
        encode_modality(np.zeros(5, np.float32), FeatureSpec(4))


@pytest.mark.parametrize("codec", ["png", "raw"])
@given(st.data())
def test_lossless_frames_come_back_exactly(codec, data):
    num, height, width = (data.draw(st.integers(1, 5)) for _ in range(3))
    video = data.draw(hnp.arrays(np.uint8, (num, height, width, 3)))
    spec = VideoSpec(num, height, width, codec=codec)
    pieces = encode_modality(video, spec)
    assert len(pieces) == num
    back = decode_modality(pieces, spec)
    assert (back.dtype, back.tobytes()) == (np.uint8, video.tobytes())


def test_a_raw_frame_of_another_length_is_refused():
    spec = VideoSpec(2, 4, 4, codec="raw")
    one, two = encode_modality(np.zeros((2, 4, 4, 3), np.uint8), spec)
    with pytest.raises(StoreError, match=r"47 bytes.*48"):
        decode_modality([one, two[:-1]], spec)


SOUNDS = hnp.arrays(np.int16, st.integers(1, 9000) | st.sampled_from([4095, 4096, 4097]))


@given(SOUNDS, st.sampled_from([1, 8000, 11_025, 44_100, 48_000, 192_000]))
def test_flac_keeps_every_sample_and_gives_what_pcm_gives(sound_N, rate_hz):
    array_N = sound_N.astype(np.float32) / 32767
    specs = [AudioSpec(rate_hz, len(sound_N) / rate_hz, codec=one) for one in ("pcm", "flac")]
    pcm, flac = (decode_modality(encode_modality(array_N, one), one) for one in specs)
    assert flac.dtype == np.float32
    assert flac.tobytes() == pcm.tobytes()
    assert np.array_equal(np.rint(flac * 32767), np.maximum(sound_N, -32767))


def tone(num_samples):
    wave_N = np.sin(np.arange(num_samples) / 7) * 0.5
    noise_N = np.random.default_rng(0).normal(0, 0.01, num_samples)
    return (wave_N + noise_N).astype(np.float32)


FLAC = AudioSpec(8000, 2.0, codec="flac")


def test_flac_takes_fewer_bytes_than_pcm():
    pieces = encode_modality(tone(16_000), FLAC)
    assert sum(map(len, pieces)) < 0.8 * 2 * 16_000


@given(st.data())
def test_a_damaged_flac_frame_is_refused(data):
    pieces = encode_modality(tone(16_000), FLAC)
    number = data.draw(st.integers(1, len(pieces) - 1))
    place = data.draw(st.integers(0, len(pieces[number]) - 1))
    broken = bytearray(pieces[number])
    broken[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreError, match="FLAC sound"):
        decode_modality([*pieces[:number], bytes(broken), *pieces[number + 1 :]], FLAC)


def test_flac_of_another_length_is_refused_and_decoded_no_further():
    pieces = encode_modality(tone(16_000), FLAC)
    for some in (pieces[:-1], pieces[:1], pieces[1:], [*pieces, *pieces[1:]], [b"", *pieces[1:]]):
        with pytest.raises(StoreError, match="FLAC sound"):
            decode_modality(some, FLAC)
    with pytest.raises(StoreError, match=r"has 12288 samples"):
        decode_modality([*pieces, *pieces[1:] * 1000], AudioSpec(8000, 1.2, codec="flac"))


def test_flac_is_the_same_in_many_threads():
    sounds = [tone(16_000) * scale for scale in np.linspace(0.1, 1, 16)]

    def round_trip(sound_N):
        return decode_modality(encode_modality(sound_N, FLAC), FLAC).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(round_trip, sounds)) == [round_trip(one) for one in sounds]


@pytest.mark.parametrize("size", [(48, 48), (47, 63), (112, 80)])
@pytest.mark.parametrize("quality", [30, 90, 100])
def test_a_stored_jpeg_is_decoded_to_the_pixels_that_pillow_gives(size, quality):
    noise_HW3 = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    spec = ImageSpec(*size, quality=quality)
    (piece,) = encode_modality(noise_HW3, spec)
    pillow_HW3 = np.asarray(Image.open(io.BytesIO(piece)))
    assert np.array_equal(decode_modality([piece], spec), pillow_HW3)


def test_a_damaged_stored_jpeg_is_an_error_of_the_store():
    spec = ImageSpec(48, 48)
    noise_HW3 = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    (piece,) = encode_modality(noise_HW3, spec)
    with pytest.raises(StoreError, match=f"picture of {len(piece) // 2} bytes is damaged"):
        decode_modality([piece[: len(piece) // 2]], spec)


def test_a_damaged_stored_png_is_an_error_of_the_store():
    spec = ImageSpec(48, 48, lossless=True)
    (piece,) = encode_modality(np.zeros((48, 48, 3), np.uint8), spec)
    for damaged in (piece[: len(piece) // 2], b""):
        with pytest.raises(StoreError, match="is damaged"):
            decode_modality([damaged], spec)
