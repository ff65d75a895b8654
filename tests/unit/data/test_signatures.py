import numpy as np
import pytest

from mke_ray.data.likeness import (
    MAX_PICTURE_DISTANCE,
    MAX_SOUND_DISTANCE,
    Signatures,
    copies,
    picture_distance,
    sound_distance,
)
from mke_ray.data.signatures import frame_words, signature, sound_words
from mke_ray.schema import AudioSpec, FeatureSpec, ImageSpec, TokenSpec, VideoSpec

VIDEO = VideoSpec(num_frames=8, height=48, width=64)
AUDIO = AudioSpec(sample_rate_hz=8000, seconds=3.0)
SPECS = {"video": VIDEO, "audio": AUDIO}


def soft(rng, height, width):
    """Return a smooth random picture."""
    coarse = rng.uniform(0, 255, (6, 8, 3))
    rows = np.linspace(0, 5, height)[:, None]
    columns = np.linspace(0, 7, width)[None]
    low_row, low_column = np.floor(rows).astype(int).clip(0, 4), np.floor(columns).astype(int)
    low_column = low_column.clip(0, 6)
    part_row, part_column = (rows - low_row)[..., None], (columns - low_column)[..., None]
    top = coarse[low_row, low_column] * (1 - part_column)
    top = top + coarse[low_row, low_column + 1] * part_column
    below = coarse[low_row + 1, low_column] * (1 - part_column)
    below = below + coarse[low_row + 1, low_column + 1] * part_column
    return top * (1 - part_row) + below * part_row


def moving(seed, *, height=48, width=64):
    """Return frames in which a smooth picture drifts."""
    field = soft(np.random.default_rng(seed), 2 * height, 3 * width)
    frames = [field[3 * k : 3 * k + height, 9 * k : 9 * k + width] for k in range(8)]
    return np.stack(frames).astype(np.uint8)


def still(seed, *, take=0):
    """Return a take of one scene in which next to nothing moves."""
    rng = np.random.default_rng(seed)
    frame = soft(rng, 48, 64)
    noise = np.random.default_rng([seed, take]).normal(0, 2, (8, 48, 64, 3))
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def noise(seed, *, seconds=3.0):
    """Return sound whose loudness comes and goes."""
    rng = np.random.default_rng(seed)
    num = round(8000 * seconds)
    loud = np.interp(
        np.arange(num), np.arange(0, num + 800, 800), rng.uniform(0, 1, num // 800 + 1)
    )
    return (0.2 * loud * rng.standard_normal(num)).astype(np.float32)


def worse(array, seed=9, strength=0.03):
    """Return content with errors like those of a lossy coder."""
    rng = np.random.default_rng(seed)
    if array.ndim == 1:
        return (array + strength * array.std() * rng.standard_normal(len(array))).astype(np.float32)
    return np.clip(array + rng.normal(0, 255 * strength, array.shape), 0, 255).astype(np.uint8)


def signed(*rows):
    """Return the signatures of samples that are given as ``{modality: array}``."""
    columns = {
        name: [signature(row[name], spec) if name in row else None for row in rows]
        for name, spec in SPECS.items()
    }
    return {name: Signatures.parse(column, name) for name, column in columns.items()}


def is_copy(one, two):
    found = signed(one, two)
    distance_P = copies(found, found, (np.array([0]), np.array([1])))
    assert np.array_equal(
        np.isnan(distance_P), np.isnan(copies(found, found, (np.array([1]), np.array([0]))))
    )
    return bool(np.isfinite(distance_P[0]))


@pytest.mark.parametrize(
    "array, spec",
    [
        (np.zeros((8, 48, 64, 3), np.uint8), VIDEO),
        (np.full((8, 48, 64, 3), (200, 30, 90), np.uint8), VIDEO),
        (np.full((48, 64, 3), 255, np.uint8), ImageSpec(48, 64)),
        (np.zeros(24000, np.float32), AUDIO),
        (np.full(24000, 0.25, np.float32), AUDIO),
        (np.sin(2 * np.pi * 440 * np.arange(24000) / 8000).astype(np.float32), AUDIO),
        (np.ones(100, np.float32), FeatureSpec(100)),
        (np.eye(100, dtype=np.float32)[3], FeatureSpec(100)),
        (np.array([1.0, 2.0], np.float32), FeatureSpec(2)),
    ],
)
def test_content_that_says_nothing_has_no_signature(array, spec):
    assert signature(array, spec) == b""


def test_samples_without_signatures_are_no_copies_of_each_other():
    black = {"video": np.zeros((8, 48, 64, 3), np.uint8), "audio": np.zeros(24000, np.float32)}
    assert not is_copy(black, black)
    assert not is_copy({}, {})


def test_silence_is_no_sound_to_compare():
    silence = np.zeros(24000, np.float32)
    one, two = {"video": moving(1), "audio": silence}, {"video": moving(2), "audio": silence}
    assert not is_copy(one, two)
    assert is_copy(one, {"video": moving(1), "audio": noise(3)})


def test_frames_hash_alike_at_another_size_and_quality_and_unlike_in_another_clip():
    words = frame_words(moving(1))
    large = frame_words(np.repeat(np.repeat(moving(1), 2, axis=1), 2, axis=2))
    poor, other = frame_words(worse(moving(1))), frame_words(moving(2))
    assert words.shape == (8,) and words.dtype == np.uint64
    assert picture_distance(words[None], large[None])[0] < 0.05
    assert picture_distance(words[None], poor[None])[0] < 0.15
    assert picture_distance(words[None], other[None])[0] > MAX_PICTURE_DISTANCE + 0.05


def test_sound_hashes_alike_at_another_loudness_later_and_noisier():
    words = sound_words(noise(1), 8000)[None]
    assert sound_distance(words, sound_words(0.1 * noise(1), 8000)[None])[0] < 0.01
    assert sound_distance(words, sound_words(worse(noise(1)), 8000)[None])[0] < 0.15
    later = np.concatenate([noise(1)[1600:], np.zeros(1600, np.float32)])
    assert sound_distance(words, sound_words(later, 8000)[None])[0] < 0.2
    assert sound_distance(words, sound_words(noise(2), 8000)[None])[0] > MAX_SOUND_DISTANCE + 0.1


def test_a_clip_encoded_again_is_a_copy():
    one = {"video": moving(1), "audio": noise(1)}
    assert is_copy(one, {"video": worse(moving(1)), "audio": worse(0.5 * noise(1))})
    assert not is_copy(one, {"video": moving(2), "audio": noise(2)})


def test_the_same_sound_under_other_pictures_is_no_copy():
    assert not is_copy(
        {"video": moving(1), "audio": noise(1)}, {"video": moving(2), "audio": noise(1)}
    )


def test_two_takes_before_one_background_are_no_copies():
    assert not is_copy(
        {"video": still(1), "audio": noise(1)}, {"video": still(1, take=1), "audio": noise(2)}
    )
    assert not is_copy({"video": still(1)}, {"video": still(1, take=1)})


def test_one_modality_alone_has_to_be_more_alike():
    slightly, rather = worse(moving(1), strength=0.01), worse(moving(1), strength=0.06)
    assert is_copy({"video": moving(1)}, {"video": slightly})
    assert not is_copy({"video": moving(1)}, {"video": rather})
    both = {"video": moving(1), "audio": noise(1)}
    assert is_copy(both, {"video": rather, "audio": noise(1)})
    assert is_copy({"audio": noise(1)}, {"audio": worse(noise(1))})


def test_equal_content_is_a_copy_even_of_a_scene_that_does_not_move():
    frozen = np.repeat(still(1)[:1], 8, axis=0)
    assert is_copy({"video": frozen}, {"video": frozen})
    assert not is_copy({"video": frozen}, {"video": worse(frozen, strength=0.002)})


def test_features_are_copies_only_when_they_are_equal():
    spec = FeatureSpec(20)
    row = np.random.default_rng(0).normal(size=20).astype(np.float32)
    other = row.copy()
    other[3] *= 1.00001
    assert signature(row, spec) == signature(row.copy(), spec) != signature(other, spec)
    assert len(signature(row, spec)) == 8


def test_texts_are_copies_only_when_their_tokens_are_equal_and_short_ones_are_like_no_other():
    spec = TokenSpec(20)
    ids = np.arange(5, 25, dtype=np.int32)
    other = ids.copy()
    other[3] = 90
    assert signature(ids, spec) == signature(ids.copy(), spec) != signature(other, spec)
    ids[7:] = 0
    assert signature(ids, spec) == b""


def test_of_a_long_clip_some_frames_and_the_first_seconds_count():
    frames = moving(1)
    twice = np.repeat(frames, 2, axis=0)
    assert signature(twice, VideoSpec(16, 48, 64)) == signature(frames, VIDEO)
    long = np.concatenate([noise(number) for number in range(4)])
    words = np.frombuffer(signature(long, AudioSpec(8000, 12.0))[8:], "<u4")
    assert np.array_equal(words, sound_words(long[:64000], 8000))


def test_a_single_picture_has_one_word():
    picture = moving(1)[0]
    assert len(signature(picture, ImageSpec(48, 64))) == 16


@pytest.mark.parametrize(
    ("num_bits", "with_sound", "is_one"),
    [(4, False, True), (10, False, False), (10, True, True), (20, True, False)],
)
def test_single_pictures_have_to_be_more_alike_where_there_is_no_sound(
    num_bits, with_sound, is_one
):
    word = np.uint64(0x0F1E2D3C4B5A6978)
    other = word ^ np.uint64((1 << num_bits) - 1)
    columns = {
        name: Signatures.parse([b"x" * 8 + word.tobytes(), b"y" * 8 + other.tobytes()], "image")
        for name in ("front", "back")
    }
    if with_sound:
        columns |= {"audio": signed({"audio": noise(1)}, {"audio": noise(1)})["audio"]}
    (distance,) = copies(columns, columns, (np.array([0]), np.array([1])))
    assert np.isfinite(distance) == is_one
