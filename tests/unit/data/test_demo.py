"""Tests of the demo source: real files, the same for the same seed, broken where it says."""

import numpy as np
import pytest

from mke_ray.data.demo import NO_DIGIT, TABLE, DemoSource, plan_clips, spoilt_clips
from mke_ray.data.demo_audio import AudioDifficulty, frequencies_hz, render_sound
from mke_ray.data.demo_video import VideoDifficulty, render_frames
from mke_ray.data.demo_writer import ClipWriter
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import AudioSpec, ManifestRow, VideoSpec
from mke_ray.storage import open_root

SPEC = {"video": VideoSpec(4, 32, 32), "audio": AudioSpec(8000, 1.0)}
SIZES = {"num_labelled": 2, "num_unlabeled": 5, "num_probe": 2, "num_test": 2, "num_broken": 5}
FULL = {"labelled": 200, "unlabeled": 1200, "probe": 200, "test": 500}


def make(folder, **keys):
    source = DemoSource(str(folder), **{**SIZES, "num_processes": 1, **keys})
    source.prepare()
    return source


def outcome(reader, row):
    """Return what reading a clip gives: nothing missing, what is missing, or why it is bad."""
    manifest_row = ManifestRow(
        0, "", row.key, row.size, row.etag, None, None, row.group, row.split, None
    )
    try:
        return ",".join(reader.read(manifest_row).missing.values())
    except MediaError as error:
        return error.reason


def test_a_preview_is_a_few_whole_clips_elsewhere(tmp_path):
    source = DemoSource(str(tmp_path / "bucket"), **SIZES).preview(str(tmp_path / "scratch"))
    rows = list(source.rows())
    assert len(rows) == 8
    assert {outcome(source.reader(SPEC), row) for row in rows} == {""}
    assert not (tmp_path / "bucket").exists()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make(tmp_path_factory.mktemp("demo"))


def test_the_table_lists_every_file_and_the_broken_ones_are_broken(demo):
    rows, reader = list(demo.rows()), demo.reader(SPEC)
    assert [row.split for row in rows] == ["labelled"] * 2 + ["unlabeled"] * 10 + (
        ["probe"] * 2 + ["test"] * 2
    )
    assert all(row.labels is not None and row.size >= 0 for row in rows)
    outcomes = sorted(outcome(reader, row) for row in rows if row.split == "unlabeled")
    assert outcomes == sorted(
        [""] * 5 + ["truncated", "empty", "no_audio", "no_video", "unsupported"]
    )
    assert {outcome(reader, row) for row in rows if row.split != "unlabeled"} == {""}


def test_the_files_depend_on_the_seed_and_on_nothing_else(demo, tmp_path):
    first, again = open_root(demo.root), open_root(make(tmp_path / "again").root)
    assert list(first.names()) == list(again.names())
    assert all(first.read(name) == again.read(name) for name in first.names())
    other = open_root(make(tmp_path / "other", data_seed=1).root)
    assert other.read("clips/clip-000000.mp4") != first.read("clips/clip-000000.mp4")


def test_the_number_of_processes_changes_no_file(tmp_path):
    sizes = {"num_unlabeled": 22, "num_broken": 4}
    one = open_root(make(tmp_path / "one", **sizes).root)
    two = open_root(make(tmp_path / "two", **sizes, num_processes=2).root)
    assert all(one.read(name) == two.read(name) for name in one.names("clips"))
    assert len(list(two.names("clips"))) == 32


def test_an_interrupted_demo_goes_on_and_a_finished_one_does_nothing(tmp_path):
    root = open_root(make(tmp_path).root)
    whole = root.read("clips/clip-000003.mp4")
    root.delete("clips/clip-000003.mp4")
    root.delete(TABLE)
    root.write("clips/clip-000004.mp4", b"kept")
    seen = []
    source = DemoSource(str(tmp_path), **SIZES)
    source.prepare(lambda done, total: seen.append((done, total)))
    assert seen == [(16, 16)]
    assert root.read("clips/clip-000003.mp4") == whole
    assert root.read("clips/clip-000004.mp4") == b"kept"
    source.prepare(lambda done, total: seen.append((done, total)))
    assert len(seen) == 1


def test_other_settings_in_the_same_root_are_refused(demo):
    with pytest.raises(ConfigError, match="demo with other settings"):
        make(demo.root, dependence=0.5)


@pytest.mark.parametrize("keys", [{"dependence": 1.5}, {"num_test": 0}, {"num_broken": -1}])
def test_settings_out_of_range_are_named(tmp_path, keys):
    with pytest.raises(ConfigError, match=f"source.{next(iter(keys))}"):
        make(tmp_path, **keys)


@pytest.mark.parametrize("counts", [FULL, {**FULL, "test": 3000, "unlabeled": 4000}])
def test_no_image_is_in_two_splits(counts):
    plans = plan_clips(counts, num_broken=8, data_seed=0)
    assert len(plans) == sum(counts.values()) + 8
    groups = {split: {p.group for p in plans if p.split == split} for split in counts}
    assert sum(map(len, groups.values())) == len(set.union(*groups.values()))
    assert all(p.group in groups[p.split] for p in plans)
    if counts is FULL:
        assert len(groups["test"]) == 500


def test_each_image_keeps_its_label(demo):
    plans = plan_clips(FULL, num_broken=0, data_seed=3)
    by_group = {}
    for plan in plans:
        assert by_group.setdefault(plan.group, (plan.digit, plan.pixels)) == (
            plan.digit,
            plan.pixels,
        )
    assert {plan.digit for plan in plans} == set(range(10))


@pytest.mark.parametrize("dependence", [0.0, 0.5, 1.0])
def test_dependence_joins_the_severities_and_changes_neither_alone(demo, dependence):
    writer = ClipWriter(open_root(demo.root), 5, dependence)
    both = np.array([writer.severities(index) for index in range(3000)])
    for one in both.T:
        assert np.abs(np.sort(one) - np.linspace(0, 1, 3000)).max() < 0.04
    assert np.corrcoef(both.T)[0, 1] == pytest.approx(dependence, abs=0.06)


def test_keys_sound_as_on_a_telephone():
    assert frequencies_hz("1") == (697.0, 1209.0)
    assert frequencies_hz("0") == (941.0, 1336.0)
    assert frequencies_hz("9") == (852.0, 1477.0)


@pytest.mark.parametrize("digit", [0, 4, 9])
def test_the_loudest_tones_of_a_clear_clip_are_its_digit(digit):
    clear = AudioDifficulty(tone=(0.3, 0.3), noise=(0.0, 0.0), num_others=(0.0, 0.0))
    sound = render_sound(
        str(digit), severity=0.0, duration_s=3.0, rng=np.random.default_rng(0), difficulty=clear
    )
    power = np.abs(np.fft.rfft(sound.sound_N))
    hertz = np.fft.rfftfreq(len(sound.sound_N), 1 / sound.rate_hz)
    for low, high, expected in zip(
        (600, 1100), (1100, 1600), frequencies_hz(str(digit)), strict=True
    ):
        band = (hertz > low) & (hertz < high)
        assert hertz[band][power[band].argmax()] == pytest.approx(expected, abs=3)


def test_the_digit_drifts_and_fades_with_severity():
    clear = VideoDifficulty(num_strokes=(0, 0), noise=(0.0, 0.0), contrast=(150.0, 0.0))
    digit_88 = np.full((8, 8), 16)

    def bright_pixels(severity):
        frames = render_frames(
            digit_88,
            severity=severity,
            duration_s=2.0,
            rng=np.random.default_rng(4),
            difficulty=clear,
        )
        return frames.luma_THW > 170

    seen = bright_pixels(0.0)
    assert seen.any(axis=(1, 2)).all()
    assert (seen[0] != seen[-1]).any()
    assert not bright_pixels(1.0).any()


def spoilt(**shares):
    plans = plan_clips(FULL, num_broken=0, data_seed=0)
    wanted = {"irrelevant": 0.0, "swapped": 0.0, **shares}
    return plans, spoilt_clips(plans, **wanted, data_seed=0)


def test_a_share_of_the_unlabeled_clips_is_of_no_class_and_no_other_clip_is_touched():
    plans, found = spoilt(irrelevant=0.3)
    changed = [(a, b) for a, b in zip(plans, found, strict=True) if a != b]
    assert {b.split for _, b in changed} == {"unlabeled"}
    assert len(changed) == pytest.approx(0.3 * FULL["unlabeled"], rel=0.15)
    for before, after in changed:
        assert after.digit == NO_DIGIT and after.sound in "*#"
        assert sorted(after.pixels) == sorted(before.pixels) and after.pixels != before.pixels
    more = spoilt(irrelevant=0.6)[1]
    assert all(two.digit == NO_DIGIT for one, two in zip(found, more, strict=True) if one.sound)


def test_swapped_clips_dial_another_digit_and_keep_their_picture():
    plans, found = spoilt(swapped=0.3)
    changed = [(a, b) for a, b in zip(plans, found, strict=True) if a != b]
    assert len(changed) == pytest.approx(0.3 * FULL["unlabeled"], rel=0.15)
    for before, after in changed:
        assert after.digit == before.digit and after.pixels == before.pixels
        assert after.sound != str(before.digit) and after.sound in "0123456789"
    both = spoilt(irrelevant=0.3, swapped=0.3)[1]
    assert sum(one.digit == NO_DIGIT for one in both) > 0.2 * FULL["unlabeled"]


def test_a_clip_of_no_class_has_no_true_label_and_can_be_read(tmp_path):
    demo = make(tmp_path, irrelevant=0.6, num_unlabeled=12, num_broken=0)
    rows = [row for row in demo.rows() if row.split == "unlabeled"]
    unknown = [row for row in rows if not row.labels]
    assert 0 < len(unknown) < len(rows)
    assert outcome(demo.reader(SPEC), unknown[0]) == ""
    assert (
        DemoSource(str(tmp_path)).identity() == DemoSource(str(tmp_path), irrelevant=0).identity()
    )
