"""Tests of decoding: which frames, which way up, how much sound, and what a damaged file says."""

import numpy as np
import pytest
from media_files import frame_numbers, write_clip

from mke_ray.data.media import Limits, decode_clip
from mke_ray.errors import MediaError
from mke_ray.schema import AudioSpec, VideoSpec

VIDEO = VideoSpec(num_frames=5, height=32, width=32)
AUDIO = AudioSpec(sample_rate_hz=8000, seconds=1.0)
BOTH = {"video": VIDEO, "audio": AUDIO}


@pytest.fixture(scope="module")
def clip():
    return write_clip()


def reason_of(content, spec=BOTH, **keys):
    with pytest.raises(MediaError) as caught:
        decode_clip(content, spec, **keys)
    return caught.value.reason


def test_frames_are_those_shown_at_the_middle_of_equal_parts(clip):
    decoded = decode_clip(clip, BOTH)
    assert decoded.arrays["video"].shape == (5, 32, 32, 3)
    assert decoded.arrays["video"].dtype == np.uint8
    assert frame_numbers(decoded.arrays["video"]) == [1, 3, 5, 7, 9]
    assert decoded.missing == {}
    assert decoded.duration_s == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "ultrafast", "g": "1"},
        {"preset": "ultrafast", "g": "3"},
        {"preset": "medium", "bf": "3", "g": "5"},
        {"preset": "medium", "bf": "2", "g": "4", "x264-params": "open-gop=1"},
    ],
)
def test_skipping_groups_of_pictures_finds_the_same_frames(options):
    content = write_clip(num_frames=11, options=options)
    for num_frames, expected in ((2, [2, 8]), (1, [5]), (11, list(range(11)))):
        spec = {"video": VideoSpec(num_frames, 32, 32)}
        assert frame_numbers(decode_clip(content, spec).arrays["video"]) == expected


def test_frames_follow_their_times_and_not_their_numbers():
    stamps = [0.0, 0.1, 0.2, 0.3, 0.4, 1.0, 2.0, 3.0, 4.0, 4.5]
    content = write_clip(stamps=stamps, sound_s=0)
    numbers = frame_numbers(decode_clip(content, {"video": VIDEO}).arrays["video"])
    assert numbers == [4, 5, 6, 7, 8]


def test_a_short_clip_repeats_its_frames():
    content = write_clip(num_frames=2)
    assert frame_numbers(decode_clip(content, BOTH).arrays["video"]) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("rotation", "corner"),
    [(0, (0, 0)), (90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))],
)
def test_a_rotated_clip_is_turned_upright(rotation, corner):
    content = write_clip(rotation=rotation, num_frames=3)
    picture = decode_clip(content, {"video": VIDEO}).arrays["video"][0].astype(int)
    redness = picture[..., 0] - picture[..., 1]
    quarters = {
        (row, column): redness[row * 4 + 2 * (row < 0), column * 4 + 2 * (column < 0)]
        for row in (0, -1)
        for column in (0, -1)
    }
    assert max(quarters, key=lambda place: quarters[place]) == corner


def test_a_span_takes_its_own_frames_and_sound():
    content = write_clip(num_frames=10, rate_hz=5, sound_s=2.0)
    decoded = decode_clip(content, BOTH, start_s=1.0, end_s=1.5)
    assert frame_numbers(decoded.arrays["video"]) == [5, 5, 6, 6, 7]
    sound_N = decoded.arrays["audio"]
    assert np.abs(sound_N[:3900]).max() > 0.4
    assert np.abs(sound_N[4000:]).max() == 0.0


def test_a_span_after_the_end_is_no_sample(clip):
    assert reason_of(clip, start_s=30.0, end_s=31.0) == "empty_span"


def test_sound_has_the_exact_length_and_pitch(clip):
    sound_N = decode_clip(clip, BOTH).arrays["audio"]
    assert sound_N.shape == (8000,)
    assert sound_N.dtype == np.float32
    assert np.abs(np.fft.rfft(sound_N)).argmax() == 440
    assert np.abs(sound_N).max() == pytest.approx(0.5, abs=0.1)


def test_sound_shorter_than_wanted_ends_in_silence():
    content = write_clip(sound_s=0.5)
    sound_N = decode_clip(content, BOTH).arrays["audio"]
    assert np.abs(sound_N[:3900]).max() > 0.4
    assert np.abs(sound_N[4600:]).max() < 0.01


def test_sound_starts_where_the_span_starts():
    long = decode_clip(write_clip(num_frames=0, sound_s=4.0), {"audio": AudioSpec(8000, 4.0)})
    part = decode_clip(
        write_clip(num_frames=0, sound_s=4.0), {"audio": AUDIO}, start_s=2.5, end_s=3.5
    )
    assert np.allclose(part.arrays["audio"], long.arrays["audio"][20000:28000], atol=0.02)


def test_a_missing_stream_is_named_and_the_other_one_kept():
    assert decode_clip(write_clip(sound_s=0), BOTH).missing == {"audio": "no_audio"}
    decoded = decode_clip(write_clip(num_frames=0), BOTH)
    assert decoded.missing == {"video": "no_video"}
    assert set(decoded.arrays) == {"audio"}


def test_a_file_without_what_is_wanted_is_bad(clip):
    assert reason_of(write_clip(sound_s=0), {"audio": AUDIO}) == "no_audio"
    assert reason_of(write_clip(num_frames=0), {"video": VIDEO}) == "no_video"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_cut_off_file_says_so(clip, share):
    assert reason_of(clip[: int(len(clip) * share)]) == "truncated"


def test_a_cut_off_streamable_file_is_not_half_a_clip():
    content = write_clip(
        num_frames=10, rate_hz=2, sound_s=5.0, container_format="matroska", size=(96, 96)
    )
    with pytest.raises(MediaError):
        decode_clip(content[: len(content) // 3], {"video": VIDEO, "audio": AudioSpec(8000, 5.0)})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>404</html>" * 20, "unsupported"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "unsupported"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "unsupported"),
        (bytes(range(256)) * 8, "unsupported"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "truncated"),
        (b"\x1aE\xdf\xa3" + b"\x00" * 200, "damaged"),
    ],
)
def test_what_is_no_clip_says_why(content, reason):
    assert reason_of(content) == reason


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>404</html>" * 20, "not a media file"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "its end is missing"),
        (b"\x1aE\xdf\xa3" + b"\x00" * 200, "is damaged"),
    ],
)
def test_a_person_reads_plain_words_and_no_number_of_an_error(content, said):
    with pytest.raises(MediaError) as caught:
        decode_clip(content, BOTH)
    assert said in caught.value.detail
    assert caught.value.detail.endswith("(FFmpeg: Invalid data found when processing input)")


def test_a_scrambled_index_is_an_error_of_the_sample_alone(clip):
    rng = np.random.default_rng(0)
    begin = clip.index(b"moov")
    for _ in range(40):
        broken = bytearray(clip)
        for place in rng.integers(begin, len(clip), 30):
            broken[place] = rng.integers(256)
        try:
            decode_clip(bytes(broken), BOTH)
        except MediaError as error:
            assert error.reason


@pytest.mark.parametrize(
    "limits",
    [Limits(num_bytes=100), Limits(num_pixels=100), Limits(num_packets=3), Limits(duration_s=0.5)],
)
def test_a_file_over_a_limit_is_too_large(clip, limits):
    assert reason_of(clip, limits=limits) == "too_large"


@pytest.mark.parametrize(
    ("container_format", "codec"),
    [("matroska", "libx264"), ("avi", "mpeg4"), ("mpegts", "libx264"), ("mov", "libx264")],
)
def test_other_containers_decode_alike(container_format, codec):
    content = write_clip(container_format=container_format, codec=codec, options={"g": "4"})
    decoded = decode_clip(content, BOTH)
    assert decoded.missing == {}
    numbers = frame_numbers(decoded.arrays["video"])
    assert np.abs(np.array(numbers) - [1, 3, 5, 7, 9]).max() <= 1
    assert np.abs(np.fft.rfft(decoded.arrays["audio"])).argmax() == pytest.approx(440, abs=1)
