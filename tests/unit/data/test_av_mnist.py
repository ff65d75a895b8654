"""Tests of AV-MNIST: pairs, what spoils the pictures, and its three forms."""

import hashlib
import shutil
from collections import Counter, defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from av_mnist_files import NUM_INDICES, SMALL, make_av_mnist

from mke_ray.data.av_mnist import AvMnistSource
from mke_ray.data.av_mnist_features import TABLE, AvMnistFeaturesSource
from mke_ray.data.av_mnist_files import list_recordings, read_pictures, read_sound
from mke_ray.data.av_mnist_pairing import INDEX_SHARES, Counts, Flaws, pair_up
from mke_ray.data.av_mnist_videos import AvMnistVideosSource
from mke_ray.errors import ConfigError
from mke_ray.schema import AudioSpec, FeatureSpec, ImageSpec, ManifestRow, VideoSpec
from mke_ray.storage import open_root

COUNTS = Counts(40, 40, 80, 40)
FEW = {"num_image": 6, "num_audio": 8}
SOUND = AudioSpec(8000, 0.5)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_av_mnist(tmp_path_factory.mktemp("files"))


def pairs_of(files, data_seed=0):
    recordings = list_recordings(open_root(str(files)))
    return pair_up(read_pictures(str(files)), recordings, COUNTS, data_seed=data_seed)


def by_split(pairs, what):
    found = defaultdict(list)
    for pair in pairs:
        found[pair.split].append(getattr(pair, what))
    return found


def digest_of(folder):
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content.update(path.name.encode() + path.read_bytes())
    return content.hexdigest()


def manifest_row(row):
    return ManifestRow(
        1, "u", row.key, row.size, row.etag, None, None, row.group, row.split, row.labels
    )


def test_no_picture_is_in_two_pairs_and_no_recording_in_two_splits(files):
    pairs = pairs_of(files)
    assert Counter(pair.split for pair in pairs) == COUNTS.by_split()
    assert len({pair.picture for pair in pairs}) == len(pairs)
    wavs = {split: set(names) for split, names in by_split(pairs, "wav").items()}
    assert sum(map(len, wavs.values())) == len(set.union(*wavs.values()))
    indices = {split: {name.split("_")[2] for name in names} for split, names in wavs.items()}
    for split, found in indices.items():
        assert len(found) <= INDEX_SHARES[split]
        assert all(not found & other for name, other in indices.items() if name != split)


def test_picture_and_recording_are_of_one_digit(files):
    pictures = read_pictures(str(files))
    for pair in pairs_of(files):
        assert pictures.digit_N[pair.picture] == pair.digit == int(pair.wav[0])


def test_test_pictures_are_of_the_official_test_set_and_no_others(files):
    num_train = read_pictures(str(files)).num_train
    for pair in pairs_of(files):
        assert (pair.picture >= num_train) == (pair.split == "test")


def test_every_recording_of_a_split_is_used_before_one_is_used_again(files):
    for names in by_split(pairs_of(files), "wav").values():
        for digit in "0123456789":
            used = Counter(name for name in names if name[0] == digit)
            assert max(used.values()) - min(used.values()) <= 1


def test_another_seed_draws_other_splits(files):
    first, again, other = (pairs_of(files, seed) for seed in (3, 3, 4))
    assert first == again
    assert {one.wav for one in first if one.split == "test"} != {
        one.wav for one in other if one.split == "test"
    }


@pytest.mark.parametrize(
    "name", ["mnist/train-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte.gz"]
)
def test_a_missing_file_of_mnist_is_named_with_the_way_out(files, tmp_path, name):
    shutil.copytree(files, tmp_path / "some")
    (tmp_path / "some" / name).unlink()
    with pytest.raises(ConfigError, match=rf"MNIST lacks {name} .*idx-ubyte\.gz|put the four"):
        AvMnistSource(str(tmp_path / "some")).prepare()


def test_missing_recordings_are_named_with_the_way_out(files, tmp_path):
    shutil.copytree(files / "mnist", tmp_path / "mnist")
    with pytest.raises(ConfigError, match=r"FSDD\) lacks fsdd/0_.*Free Spoken Digit Dataset"):
        AvMnistSource(str(tmp_path)).prepare()


def test_too_few_recordings_are_refused(files, tmp_path):
    shutil.copytree(files, tmp_path / "some")
    for digit in range(10):
        (tmp_path / f"some/fsdd/{digit}_anna_{NUM_INDICES - 1}.wav").unlink()
    with pytest.raises(ConfigError, match="49 indices and 50 are needed"):
        list(AvMnistSource(str(tmp_path / "some"), **SMALL).rows())


def test_a_damaged_idx_file_is_named(files, tmp_path):
    shutil.copytree(files, tmp_path / "some")
    path = tmp_path / "some/mnist/train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ConfigError, match=r"mnist/train-images-idx3-ubyte\.gz is damaged"):
        read_pictures(str(tmp_path / "some"))


def test_more_pairs_than_pictures_are_refused_with_the_key(files):
    with pytest.raises(ConfigError, match=r"source\.num_test=101"):
        list(AvMnistSource(str(files), **{**SMALL, "num_test": 101}).rows())


@pytest.mark.parametrize(("key", "value"), [("noise", -1.0), ("occluded", 1.5)])
def test_flaws_out_of_range_are_refused_with_the_key(key, value):
    with pytest.raises(ConfigError, match=rf"source\.{key}={value}"):
        Flaws(**{key: value})


def test_flaws_hide_a_square_and_add_noise_the_same_each_time():
    pixels_HW = np.full((28, 28), 128, np.uint8)
    hidden_HW = Flaws(0.0, 0.5).spoil(pixels_HW, data_seed=0, picture=7)
    assert (hidden_HW == 0).sum() == 14 * 14
    noisy_HW = Flaws(0.1, 0.0).spoil(pixels_HW, data_seed=0, picture=7)
    assert noisy_HW.std() == pytest.approx(25.5, rel=0.15)
    assert (noisy_HW == Flaws(0.1, 0.0).spoil(pixels_HW, data_seed=0, picture=7)).all()
    assert (noisy_HW != Flaws(0.1, 0.0).spoil(pixels_HW, data_seed=0, picture=8)).any()


def test_the_table_of_features_is_the_same_for_the_same_seed(files, tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        made = tmp_path / name
        made.mkdir()
        AvMnistFeaturesSource(str(files), str(made), data_seed=seed, **SMALL, **FEW).prepare()
    one, two, three = (tmp_path / name / TABLE for name in ("one", "two", "three"))
    assert one.read_bytes() == two.read_bytes() != three.read_bytes()


def test_features_are_standardised_by_the_unlabeled_rows(files, tmp_path):
    source = AvMnistFeaturesSource(str(files), str(tmp_path), **SMALL, **FEW)
    source.prepare()
    table = pq.read_table(tmp_path / TABLE).to_pandas()
    known = table[table["split"] == "unlabeled"]
    for name in ("image_00", "image_05", "audio_00", "audio_07"):
        assert known[name].mean() == pytest.approx(0.0, abs=1e-4)
        assert known[name].std(ddof=0) == pytest.approx(1.0, abs=1e-4)
    rows = list(source.rows())
    assert Counter(row.split for row in rows) == COUNTS.by_split()
    reader = source.reader({"image": FeatureSpec(6), "audio": FeatureSpec(8)})
    decoded = reader.read(manifest_row(rows[0]))
    assert decoded.arrays["audio"].shape == (8,)


def test_noise_on_the_components_grows_what_two_rows_of_one_recording_differ_by(files, tmp_path):
    spread = []
    for number, noise in enumerate((0.0, 3.0)):
        made = tmp_path / str(number)
        made.mkdir()
        keys = {**SMALL, **FEW, "num_labelled": 120, "noise_audio": noise}
        AvMnistFeaturesSource(str(files), str(made), **keys).prepare()
        table = pq.read_table(made / TABLE).to_pandas()
        within = table[table["split"] == "labelled"].groupby("group")["audio_00"].std(ddof=0)
        spread.append(within.max())
    assert spread[0] == pytest.approx(0.0, abs=1e-5)
    assert spread[1] > 0.1


def test_a_folder_with_a_table_of_other_settings_is_refused(files, tmp_path):
    AvMnistFeaturesSource(str(files), str(tmp_path), **SMALL, **FEW).prepare()
    other = AvMnistFeaturesSource(str(files), str(tmp_path), data_seed=1, **SMALL, **FEW)
    with pytest.raises(ConfigError, match=r"source\.made=.*other settings"):
        other.prepare()


def test_pictures_and_sounds_are_read_from_the_files(files):
    source = AvMnistSource(str(files), **SMALL)
    rows = list(source.rows())
    assert len({row.key for row in rows}) == len(rows)
    assert list(source.rows(after=rows[9].cursor)) == rows[10:]
    reader = source.reader({"image": ImageSpec(28, 28), "audio": SOUND})
    decoded = reader.read(manifest_row(rows[0]))
    digit = rows[0].labels[0]
    image_HW3 = decoded.arrays["image"]
    assert image_HW3.shape == (28, 28, 3)
    assert image_HW3[3 + 2 * digit, 10, 0] == 230
    sound_S, _ = read_sound(open_root(str(files)), rows[0].group)
    heard_S = decoded.arrays["audio"][: len(sound_S)]
    assert np.abs(heard_S - sound_S).max() < 1e-3


def test_another_modality_than_picture_and_sound_is_refused(files):
    with pytest.raises(ConfigError, match=r"decode\.image\.kind=video"):
        AvMnistSource(str(files)).reader({"image": VideoSpec(2, 28, 28)})


def videos(files, made, **keys):
    made.mkdir(exist_ok=True)
    return AvMnistVideosSource(str(files), str(made), num_processes=1, **{**SMALL, **keys})


def test_clips_are_the_same_for_the_same_seed_and_hold_picture_and_sound(files, tmp_path):
    few = dict.fromkeys(SMALL, 10)
    for name in ("one", "two"):
        videos(files, tmp_path / name, **few).prepare()
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "two")
    source = videos(files, tmp_path / "one", **few)
    rows = list(source.rows())
    assert Counter(row.split for row in rows) == dict.fromkeys(COUNTS.by_split(), 10)
    reader = source.reader({"video": VideoSpec(2, 64, 64), "audio": SOUND})
    decoded = reader.read(manifest_row(rows[0]))
    bright_H = decoded.arrays["video"][0, :, :, 0].mean(axis=1)
    row_of_digit = 2 * (3 + 2 * rows[0].labels[0])
    assert row_of_digit <= bright_H.argmax() <= row_of_digit + 12
    assert decoded.num_valid["audio"] >= 1200
    assert np.abs(decoded.arrays["audio"]).max() > 0.2


def test_a_writer_goes_on_where_it_was_interrupted(files, tmp_path):
    few = dict.fromkeys(SMALL, 3)
    source = videos(files, tmp_path / "made", **few)
    source.prepare()
    whole = digest_of(tmp_path / "made")
    kept = tmp_path / "made/clips/clip-000000.mp4"
    before = kept.stat().st_mtime_ns
    (tmp_path / "made/clips.csv").unlink()
    (tmp_path / "made/clips/clip-000005.mp4").unlink()
    said = []
    source.prepare(lambda done, total: said.append((done, total)))
    assert said == [(12, 12)]
    assert kept.stat().st_mtime_ns == before
    assert digest_of(tmp_path / "made") == whole


def test_a_preview_of_the_clips_writes_a_few_elsewhere(files, tmp_path):
    source = videos(files, tmp_path / "made")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert len(list(source.preview(str(scratch)).rows())) == 8
    assert not list((tmp_path / "made").iterdir())
