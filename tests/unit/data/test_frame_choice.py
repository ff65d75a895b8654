"""Tests of which frames stand for a clip."""

import numpy as np
import pytest
from media_files import frame_numbers, write_clip

from mke_ray.data.media import decode_clip
from mke_ray.errors import ConfigError
from mke_ray.schema import VideoSpec, decode_spec_from_dict, decode_spec_to_dict, fingerprint

GROUPS = {"preset": "ultrafast", "g": "4", "x264-params": "scenecut=0"}


def decoded(num_frames, *, sample_id=0, start_s=None, end_s=None, content=None, **keys):
    spec = {"video": VideoSpec(num_frames, 32, 32, **keys)}
    content = content or write_clip(num_frames=11, options=GROUPS, sound_s=0)
    return decode_clip(content, spec, start_s=start_s, end_s=end_s, sample_id=sample_id)


def chosen(num_frames, **keys):
    return frame_numbers(decoded(num_frames, **keys).arrays["video"])


def test_a_rate_takes_the_first_frames_at_that_rate():
    assert chosen(5, sampling="fps", rate_hz=5.0) == [0, 2, 4, 6, 8]
    assert chosen(3, sampling="fps", rate_hz=10.0) == [0, 1, 2]
    assert chosen(3, sampling="fps", rate_hz=5.0, start_s=0.3, end_s=1.0) == [3, 5, 7]


def test_a_rate_beyond_the_end_repeats_the_last_frame_and_says_so():
    short = decoded(6, sampling="fps", rate_hz=5.0, end_s=0.55)
    assert frame_numbers(short.arrays["video"]) == [0, 2, 4, 4, 4, 4]
    assert short.num_valid == {"video": 3}


def test_keyframes_are_those_nearest_to_the_uniform_times():
    assert chosen(3, sampling="keyframe") == [0, 4, 8]
    assert chosen(2, sampling="keyframe", start_s=0.45, end_s=0.7) == [4, 4]


def test_random_frames_come_one_from_each_part():
    for sample_id in range(20):
        first, second, third = chosen(3, sampling="random", sample_id=sample_id)
        assert 0 <= first <= 3 <= second <= 7 <= third <= 10


def test_random_frames_depend_on_the_seed_and_the_sample_alone():
    drawn = {
        (seed, sample): chosen(5, sampling="random", seed=seed, sample_id=sample)
        for seed in (0, 1)
        for sample in (3, -4)
    }
    again = {
        (seed, sample): chosen(5, sampling="random", seed=seed, sample_id=sample)
        for sample in (-4, 3)
        for seed in (1, 0)
    }
    assert drawn == again
    assert len({tuple(one) for one in drawn.values()}) > 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sampling": "dense"}, r"decode\.video.*sampling is 'dense'.*uniform.*fps"),
        ({"backend": "opencv"}, r"decode\.video.*backend is 'opencv'.*pyav.*decord"),
        ({"sampling": "fps"}, "rate_hz=None"),
        ({"rate_hz": 5.0}, "sampling=uniform with rate_hz=5.0"),
        ({"sampling": "fps", "rate_hz": -1.0}, "above 0"),
    ],
)
def test_a_wrong_word_is_named_with_those_there_are(keys, message):
    plain = {"kind": "video", "num_frames": 2, "height": 8, "width": 8} | keys
    with pytest.raises(ConfigError, match=message):
        decode_spec_from_dict({"video": plain})


def test_what_changes_the_pixels_changes_the_fingerprint():
    specs = [
        VideoSpec(2, 8, 8),
        VideoSpec(2, 8, 8, backend="decord"),
        VideoSpec(2, 8, 8, sampling="random"),
        VideoSpec(2, 8, 8, sampling="random", seed=1),
        VideoSpec(2, 8, 8, sampling="fps", rate_hz=2.0),
    ]
    prints = [fingerprint(decode_spec_to_dict({"video": one})) for one in specs]
    assert len(set(prints)) == len(specs)
    plain = decode_spec_to_dict({"video": specs[4]})
    assert decode_spec_from_dict(plain) == {"video": specs[4]}


def test_the_same_frames_are_chosen_from_a_span_that_is_read_in_part():
    content = write_clip(num_frames=11, rate_hz=1, options=GROUPS, sound_s=0)
    for sampling in ("uniform", "keyframe", "random"):
        part = decoded(4, content=content, sampling=sampling, start_s=6.0, end_s=9.0)
        numbers = frame_numbers(part.arrays["video"])
        low = 4 if sampling == "keyframe" else 6
        assert all(low <= number <= 9 for number in numbers)
        assert np.all(np.diff(numbers) >= 0)
