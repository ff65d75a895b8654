"""Tests of RAVDESS on small files of the layouts of its archives."""

from collections import Counter, defaultdict

import pytest
from published_data import put, write_ravdess

from mke_ray.data.manifest import manifest_row
from mke_ray.data.ravdess import EMOTIONS, RavdessSource, parse_name
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import decode_spec_from_dict

SPLITS = {"labelled": 2, "probe": 2, "unlabeled": "rest", "test": 2}
SPEC = decode_spec_from_dict(
    {
        "face": {"kind": "video", "num_frames": 2, "height": 24, "width": 32},
        "voice": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 0.5},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ravdess")
    write_ravdess(folder)
    return folder


def source(folder, **keys):
    return RavdessSource(str(folder), **{"splits": SPLITS, **keys})


def test_seven_fields_of_a_name_are_read_and_other_names_are_none():
    name = parse_name("Actor_12/03-02-06-02-01-02-12.wav")
    assert name is not None
    assert (name.form, name.channel, EMOTIONS[name.emotion]) == ("audio_only", "song", "fearful")
    assert (name.intensity, name.statement, name.repetition, name.actor) == (2, 1, 2, 12)
    for other in ("01-01-09-01-01-01-01.mp4", "04-01-01-01-01-01-01.mp4", "01-01-01-01-01-01.mp4"):
        assert parse_name(other) is None


def test_a_recording_has_one_row_by_its_fullest_file_and_others_are_counted(folder):
    of = source(folder)
    rows = list(of.rows())
    assert len(rows) == len({row.key for row in rows}) == 8 * 8
    assert sum("/02-" in row.key for row in rows) == 0
    assert Counter(row.labels for row in rows) == {(one,): 8 for one in range(8)}
    assert of.notes() == [
        "RAVDESS: 8 files are no samples: song, full is not asked for",
        "RAVDESS: 1 files are no samples: the name is not MM-VV-EE-II-SS-RR-AA",
        "RAVDESS: 8 files are no samples: the recording has a row by another file",
    ]
    sung = list(source(folder, channels=["speech", "song"]).rows())
    assert len(sung) == 8 * 9
    alone = list(source(folder, forms=["video_only"], splits={"test": "rest"}).rows())
    assert len(alone) == 8 and all("/02-" in row.key for row in alone)


def test_actors_are_dealt_out_as_a_whole_and_anew_for_every_seed(folder):
    rows = list(source(folder).rows())
    splits = defaultdict(set)
    for row in rows:
        splits[row.group].add(row.split)
    assert all(len(one) == 1 for one in splits.values())
    assert Counter(one for some in splits.values() for one in some) == dict.fromkeys(SPLITS, 2)
    assert rows == list(source(folder).rows())
    test = {row.group for row in rows if row.split == "test"}
    others = [list(source(folder, data_seed=seed).rows()) for seed in range(1, 5)]
    assert any({r.group for r in some if r.split == "test"} != test for some in others)
    assert list(source(folder).rows(after=rows[9].cursor)) == rows[10:]


def test_picture_and_sound_are_read_and_what_has_one_of_them_is_partial(folder):
    of = source(folder)
    rows = {row.key.rsplit("/", 1)[1]: row for row in of.rows()}
    reader = of.reader(SPEC)
    whole = reader.read(manifest_row(rows["01-01-03-01-01-01-01.mp4"]))
    assert whole.arrays["face"].shape == (2, 24, 32, 3) and whole.arrays["voice"].any()
    sound = reader.read(manifest_row(rows["03-01-01-01-01-01-02.wav"]))
    assert sound.missing == {"face": "no_video"} and sound.arrays["voice"].any()
    alone = source(folder, forms=["video_only"], splits={"test": "rest"})
    silent = alone.reader(SPEC).read(manifest_row(next(iter(alone.rows()))))
    assert silent.missing == {"voice": "no_audio"} and silent.arrays["face"].any()
    with pytest.raises(MediaError, match="no bytes"):
        reader.read(manifest_row(rows["01-01-02-01-01-01-03.mp4"]))


def test_what_is_missing_is_named_with_the_way_out(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root is not set.*Actor_NN"):
        RavdessSource(None)
    with pytest.raises(ConfigError, match=r"does not exist or is empty.*Actor_NN"):
        list(source(tmp_path / "none").rows())
    put(tmp_path / "Video_Speech_Actor_01.zip", b"PK")
    named = r"\(01\|02\|03\)-\(01\)-EE.*source\.forms=.*found 1 \.zip.*unpack the \.zip"
    with pytest.raises(ConfigError, match=named):
        list(source(tmp_path).rows())
    with pytest.raises(ConfigError, match=r"actors 01, .*, 08, .*takes 13 groups.*are 8"):
        list(source(folder, splits={"labelled": 4, "probe": 4, "test": 5, "unlabeled": 0}).rows())
    with pytest.raises(ConfigError, match=r"source\.forms=\['mute'\]; choose of"):
        source(folder, forms=["mute"])
    with pytest.raises(ConfigError, match=r"source\.channels=\[\]"):
        source(folder, channels=[])
