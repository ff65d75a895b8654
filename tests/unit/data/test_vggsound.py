"""Tests of VGGSound on small clips beside a list as it is published."""

from collections import Counter

import pytest
from published_data import put, video_id, write_vggsound

from mke_ray.data.manifest import manifest_row
from mke_ray.data.vggsound import VggSoundSource
from mke_ray.errors import ConfigError
from mke_ray.schema import decode_spec_from_dict

CLASSES = ("chicken crowing", "race car, auto racing", "rapping")
SPEC = decode_spec_from_dict(
    {
        "video": {"kind": "video", "num_frames": 2, "height": 16, "width": 16},
        "audio": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 0.5},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vggsound")
    write_vggsound(folder)
    return folder


def source(folder, **keys):
    return VggSoundSource(str(folder), **{"labelled": 0.3, "probe": 0.3, **keys})


def test_listed_clips_that_are_there_are_rows_and_those_that_are_gone_are_counted(folder):
    of = source(folder)
    rows = list(of.rows())
    assert len(rows) == len({row.key for row in rows}) == 72 + 1 - 7
    assert of.label_space.classes == CLASSES
    by_video = {row.group: row for row in rows}
    assert by_video[video_id(4)].labels == (1,)
    assert by_video[video_id(4)].key == f"video/train/{video_id(4)}_000005.mp4"
    gone, unknown = of.notes()
    assert gone.startswith("VGGSound: 7 of 73 listed clips have no file (") and "1 test" in gone
    assert unknown == ("VGGSound: 1 files are of no listed clip, video/train/holiday.mp4 is one")


def test_the_test_list_is_the_test_split_and_videos_are_drawn_from_the_other(folder):
    rows = list(source(folder).rows())
    assert {row.group for row in rows if row.split == "test"} == {
        video_id(number) for number in range(60, 72) if number % 10 != 7
    }
    counts = Counter(row.split for row in rows)
    assert all(counts[one] > 5 for one in ("labelled", "probe", "unlabeled"))
    both = {row.split for row in rows if row.group == video_id(0)}
    assert len(both) == 1
    other = {row.key: row.split for row in source(folder, data_seed=1).rows()}
    assert any(other[row.key] != row.split for row in rows)
    whole = source(folder)
    assert list(whole.rows(after=rows[20].cursor)) == rows[21:]
    assert whole.notes()[0].startswith("VGGSound: 7 of 73")


def test_lists_of_files_say_their_part_by_their_name(folder, tmp_path):
    (tmp_path / "video").symlink_to(folder / "video")
    put(tmp_path / "train.csv", f"{video_id(4)}_000005.mp4,rapping\n".encode())
    put(tmp_path / "test.csv", f"{video_id(5)}_000006.mp4,chicken crowing\n".encode())
    asked = {"tables": ["train.csv", "test.csv"], "labelled": 1.0, "probe": 0.0}
    of = source(tmp_path, **asked, places=[str(folder)])
    assert of.label_space.classes == ("chicken crowing", "rapping")
    found = {row.group: (row.split, row.labels) for row in of.rows()}
    assert found == {video_id(4): ("labelled", (1,)), video_id(5): ("test", (0,))}
    with pytest.raises(ConfigError, match=r"video is behind a link .*source\.places="):
        list(source(tmp_path, **asked).rows())


def test_a_clip_is_read_and_of_a_whole_video_its_ten_seconds(folder):
    of = source(folder)
    row = next(iter(of.rows()))
    read = of.reader(SPEC).read(manifest_row(row))
    assert read.arrays["video"].any() and read.arrays["audio"].any() and not read.missing
    assert (row.start_s, row.end_s) == (None, None)
    spans = [(row.start_s, row.end_s) for row in source(folder, whole_videos=True).rows()]
    assert (1.0, 11.0) in spans and (400.0, 410.0) in spans


def test_what_is_wrong_is_named_with_the_way_out(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root is not set.*vggsound\.csv"):
        VggSoundSource(None)
    with pytest.raises(ConfigError, match=r"source\.tables\[0\]=other\.csv is not in"):
        list(source(folder, tables=["other.csv"]).rows())
    with pytest.raises(ConfigError, match=r"'rapping' of .* is not in source\.classes"):
        list(source(folder, classes=CLASSES[:2]).rows())
    with pytest.raises(ConfigError, match=r"source\.labelled=0\.9 and source\.probe=0\.3"):
        source(folder, labelled=0.9)
    nothing = (
        r"none of the 73 listed.*nowhere \(source\.root, source\.media\); found no file\. .*_000030"
    )
    with pytest.raises(ConfigError, match=nothing):
        list(source(folder, media="nowhere").rows())
    put(
        tmp_path / "vggsound.csv",
        f"id,second,label,split\n{video_id(1)},ten,rapping,train".encode(),
    )
    with pytest.raises(ConfigError, match=r"line 2 of vggsound\.csv is"):
        _ = source(tmp_path).label_space
    put(tmp_path / "vggsound.csv", f"{video_id(1)},10,rapping,train".encode())
    with pytest.raises(ConfigError, match=r"source\.tables.*have the labels \['rapping'\]"):
        _ = source(tmp_path).label_space
    with pytest.raises(ConfigError, match=r"does not exist or is empty.*vggsound\.csv"):
        list(source(tmp_path / "none").rows())
