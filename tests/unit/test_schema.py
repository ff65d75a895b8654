"""The words of the system as types: ids are stable, plain data comes back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mke_ray.errors import ConfigError
from mke_ray.schema import (
    LABELS_SCHEMA,
    AudioSpec,
    Batch,
    DepthSpec,
    FeatureSpec,
    ImageSpec,
    LabelKind,
    LabelSpace,
    MaskSpec,
    StatusCounts,
    VideoSpec,
    decode_spec_from_dict,
    decode_spec_to_dict,
    fingerprint,
    sample_id,
    samples_schema,
    unit_id,
    without_mask,
)

WHOLE = 4984942281864827544
SPAN = 3559994605654814349
UNIT = "c0b5f720ba814dec"
PRINT = "e7354ca8c29da2cc"
NAMES = st.text(min_size=1, max_size=8)
SPECS = st.one_of(
    st.builds(VideoSpec, st.integers(1, 99), st.integers(1, 999), st.integers(1, 999)),
    st.builds(ImageSpec, st.integers(1, 999), st.integers(1, 999), lossless=st.booleans()),
    st.builds(AudioSpec, st.integers(1, 96_000), st.floats(0.01, 1e4)),
    st.builds(FeatureSpec, st.integers(1, 9999)),
    st.builds(
        DepthSpec,
        st.integers(1, 999),
        st.integers(1, 999),
        st.sampled_from(["metres", "inverse", "hha"]),
    ),
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_ids_are_those_of_the_first_release():
    assert sample_id("a/b.mp4") == WHOLE
    assert sample_id("a/b.mp4", 1.5, 3.0) == SPAN
    assert unit_id([1, -2, 3]) == UNIT
    assert fingerprint({"b": 1, "a": [1.5, None]}) == PRINT


@given(NAMES, st.floats(0, 1e6), st.floats(0, 1e6))
def test_sample_ids_fit_a_signed_64_bit_column(key, start_s, end_s):
    assert -(2**63) <= sample_id(key, start_s, end_s) < 2**63


def test_sample_ids_tell_keys_and_spans_apart():
    ids = {
        sample_id("a"),
        sample_id("b"),
        sample_id("a", 0.0, 1.0),
        sample_id("a", 0.0, 2.0),
        sample_id("a", 1.0, 2.0),
        sample_id("a", None, 1.0),
        sample_id("a", 1.0, None),
    }
    assert len(ids) == 7


def test_whole_seconds_give_the_same_sample_id_as_integers():
    assert sample_id("a", 1, 2) == sample_id("a", 1.0, 2.0)


def test_unit_ids_depend_on_order_and_on_the_limits_between_ids():
    assert len({unit_id([1, 23]), unit_id([12, 3]), unit_id([23, 1]), unit_id([1])}) == 4


@given(PLAIN)
def test_fingerprints_outlive_a_trip_through_json(plain):
    assert fingerprint(json.loads(json.dumps(plain))) == fingerprint(plain)


@given(st.dictionaries(st.text(), st.integers(), min_size=2, max_size=5))
def test_fingerprints_do_not_depend_on_the_order_of_keys(plain):
    backwards = dict(reversed(list(plain.items())))
    assert fingerprint(backwards) == fingerprint(plain)


def test_fingerprints_change_with_any_value():
    assert fingerprint({"a": {"b": [1, 2]}}) != fingerprint({"a": {"b": [1, 3]}})


@given(st.dictionaries(NAMES, SPECS, max_size=4))
def test_decode_specifications_come_back_from_plain_data(spec):
    plain = json.loads(json.dumps(decode_spec_to_dict(spec)))
    assert decode_spec_from_dict(plain) == spec


def test_an_unknown_kind_of_array_is_named():
    with pytest.raises(ConfigError, match=r"decode\.video\.kind is 'movie'.*'video'"):
        decode_spec_from_dict({"video": {"kind": "movie"}})


def test_an_unknown_key_of_a_decode_specification_is_named():
    with pytest.raises(ConfigError, match=r"decode\.x: .*num_colours"):
        decode_spec_from_dict({"x": {"kind": "features", "num_features": 2, "num_colours": 3}})


def test_sound_is_counted_in_whole_samples():
    assert AudioSpec(8000, 0.3).num_samples == 2400
    assert AudioSpec(44_100, 1 / 3).num_samples == 14_700


@given(
    st.lists(NAMES, min_size=2, max_size=5, unique=True),
    st.sampled_from(LabelKind),
    st.none() | st.integers(0, 255),
)
def test_label_spaces_come_back_from_plain_data(classes, kind, ignore):
    space = LabelSpace(tuple(classes), kind, 255 if kind == LabelKind.DENSE else ignore)
    assert LabelSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert space.num_classes == len(classes)
    assert [space.index(name) for name in classes] == list(range(len(classes)))


@pytest.mark.parametrize("classes", [(), ("a",), ("a", "a")])
def test_classes_that_cannot_be_told_apart_are_refused(classes):
    with pytest.raises(ConfigError, match="two distinct classes"):
        LabelSpace(classes)


def test_an_unknown_class_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'c'.*\['a', 'b'\]"):
        LabelSpace(("a", "b")).index("c")


def test_counts_add_up_with_their_reasons():
    first = StatusCounts(ok=2, bad=1, reasons={"empty": 1})
    second = StatusCounts(1, 1, 2, 1, {"empty": 1, "truncated": 1}, {"no_audio": 1})
    total = replace(first)
    total.add(second)
    assert total == StatusCounts(3, 1, 3, 1, {"empty": 2, "truncated": 1}, {"no_audio": 1})
    assert total.samples == 8
    total.take_away(second)
    assert total == first


def test_a_batch_moves_whole_and_keeps_its_seed_and_epoch():
    batch = Batch(
        torch.arange(2),
        {"a": torch.zeros(2, 3)},
        {"a": torch.ones(2, dtype=torch.bool)},
        torch.zeros(2, 4),
        torch.ones(2),
        epoch=5,
        seed=6,
    )
    moved = batch.to("meta")
    tensors = [moved.sample_id_B, moved.arrays["a"], moved.present["a"]]
    assert {one.device.type for one in [*tensors, moved.target_BC, moved.weight_B]} == {"meta"}
    assert (moved.epoch, moved.seed, moved.num_samples) == (5, 6, 2)


def test_stores_have_a_column_and_a_status_per_modality():
    names = samples_schema(["video", "audio"]).names
    assert names[:3] == ["sample_id", "status", "error"]
    assert names[3:7] == ["video", "video_status", "audio", "audio_status"]
    assert names[7:] == ["video_signature", "audio_signature"]
    assert LABELS_SCHEMA.names == ["sample_id", "status", "logits"]


def test_specifications_of_before_codecs_keep_their_fingerprint():
    conf = Path(__file__).parents[2] / "conf" / "decode" / "demo.yaml"
    plain = yaml.safe_load(conf.read_text())
    assert fingerprint(decode_spec_to_dict(decode_spec_from_dict(plain))) == "0c6861b960ed5b67"
    plain["video"]["codec"], plain["audio"]["codec"] = "jpeg", "pcm"
    assert fingerprint(decode_spec_to_dict(decode_spec_from_dict(plain))) == "0c6861b960ed5b67"


@pytest.mark.parametrize("codecs", [("raw", "pcm"), ("png", "pcm"), ("jpeg", "flac")])
def test_another_codec_is_another_store_and_comes_back(codecs):
    spec = {
        "video": VideoSpec(8, 48, 48, codec=codecs[0]),
        "audio": AudioSpec(8000, 2.0, codec=codecs[1]),
    }
    plain = decode_spec_to_dict(spec)
    assert decode_spec_from_dict(plain) == spec
    default = {"video": VideoSpec(8, 48, 48), "audio": AudioSpec(8000, 2.0)}
    assert fingerprint(plain) != fingerprint(decode_spec_to_dict(default))


def test_an_unknown_codec_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"decode\.v: codec is 'gif'.*'jpeg', 'png', 'raw'"):
        decode_spec_from_dict(
            {"v": {"kind": "video", "num_frames": 1, "height": 1, "width": 1, "codec": "gif"}}
        )
    with pytest.raises(ConfigError, match=r"decode\.a: codec is 'mp3'.*'pcm', 'flac'"):
        decode_spec_from_dict(
            {"a": {"kind": "audio", "sample_rate_hz": 8, "seconds": 1.0, "codec": "mp3"}}
        )


def test_stores_without_media_have_a_digest_in_the_place_of_every_modality():
    names = samples_schema(["video", "audio"], media=False).names
    assert names[3:7] == ["video_digest", "video_status", "audio_digest", "audio_status"]
    assert names[7:] == ["video_signature", "audio_signature"]


def test_the_true_class_map_is_called_mask_and_is_no_modality_that_a_network_reads():
    plain = {"rgb": {"kind": "image", "height": 6, "width": 8}}
    spec = decode_spec_from_dict({**plain, "mask": {"kind": "mask", "height": 6, "width": 8}})
    assert spec["mask"] == MaskSpec(6, 8)
    assert without_mask(spec) == ["rgb"]
    with pytest.raises(ConfigError, match=r"decode\.truth\.kind=mask.*'mask'"):
        decode_spec_from_dict({**plain, "truth": {"kind": "mask", "height": 6, "width": 8}})
    with pytest.raises(ConfigError, match=r"decode\.mask\.kind=image"):
        decode_spec_from_dict({"mask": {"kind": "image", "height": 6, "width": 8}})


def test_only_the_horizontal_normal_changes_its_sign_in_a_mirror():
    assert DepthSpec(6, 8, "hha").mirrored == (4,)
    assert DepthSpec(6, 8).mirrored == DepthSpec(6, 8, "inverse").mirrored == ()
    with pytest.raises(ConfigError, match=r"channels is 'hsv'.*metres.*hha"):
        DepthSpec(6, 8, "hsv")


def test_dense_labels_have_255_where_a_pixel_counts_for_nothing():
    space = LabelSpace(("x", "y"), LabelKind.DENSE, 255)
    assert LabelSpace.from_dict(space.to_dict()) == space
    with pytest.raises(ConfigError, match=r"ignore=None.*255"):
        LabelSpace(("x", "y"), LabelKind.DENSE)
    with pytest.raises(ConfigError, match="256 classes, at most 255"):
        LabelSpace(tuple(map(str, range(256))), LabelKind.DENSE, 255)
