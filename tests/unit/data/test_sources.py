"""Tests of the videos source: tables and folders as users write them, right and wrong."""

import csv
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from media_files import write_clip

from mke_ray.data.listing import FolderListings
from mke_ray.data.sources import VideosSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import AudioSpec, FeatureSpec, ManifestRow, VideoSpec
from mke_ray.storage import open_root

CLASSES = ["cat", "dog"]


def put(folder, name, content=b"x"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_csv(folder, header, *rows):
    with open(folder / "clips.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def table_rows(folder, **keys):
    return list(VideosSource(str(folder), CLASSES, table="clips.csv", **keys).rows())


def manifest_row(key, size=-1, start_s=None, end_s=None):
    return ManifestRow(1, "u", key, size, "", start_s, end_s, key, "unlabeled", None)


def test_a_table_says_label_group_and_split_of_every_clip(tmp_path):
    put(tmp_path, "a/1.mp4", b"12345")
    write_csv(
        tmp_path,
        ["uri", "label", "group", "split"],
        ["a/1.mp4", "dog", "farm", "test"],
        ["b/missing.mp4", "", "", ""],
        ["a/3.mp4", "cat", "", ""],
    )
    first, second, third = table_rows(tmp_path)
    assert (first.key, first.size, first.group, first.split) == ("a/1.mp4", 5, "farm", "test")
    assert first.labels == (1,)
    assert first.etag.endswith("-5")
    assert (second.size, second.etag, second.labels) == (-1, "", None)
    assert (second.group, second.split) == ("b/missing.mp4", "unlabeled")
    assert (third.split, third.labels) == ("labelled", (0,))


def test_a_changed_file_has_another_etag(tmp_path):
    put(tmp_path, "1.mp4")
    write_csv(tmp_path, ["uri"], ["1.mp4"])
    before = table_rows(tmp_path)[0].etag
    os.utime(tmp_path / "1.mp4", (1, 1))
    assert table_rows(tmp_path)[0].etag != before


def test_parquet_and_csv_tables_give_the_same_rows(tmp_path):
    put(tmp_path, "1.mp4")
    header, row = ["uri", "label", "start_s", "end_s"], ["1.mp4", "cat", 0.5, 2.0]
    write_csv(tmp_path, header, row, ["2.mp4", "", "", ""])
    columns = list(zip(row, ["2.mp4", None, None, None], strict=True))
    pq.write_table(pa.table(dict(zip(header, columns, strict=True))), tmp_path / "clips.parquet")
    source = VideosSource(str(tmp_path), CLASSES, table="clips.parquet")
    assert list(source.rows()) == table_rows(tmp_path)
    assert (table_rows(tmp_path)[0].start_s, table_rows(tmp_path)[0].end_s) == (0.5, 2.0)


def test_several_labels_are_joined_by_a_bar(tmp_path):
    write_csv(tmp_path, ["uri", "label"], ["1.mp4", "dog|cat"])
    put(tmp_path, "1.mp4")
    assert table_rows(tmp_path, label_kind="multi")[0].labels == (0, 1)
    with pytest.raises(ConfigError, match=r"'dog\|cat' is not one of"):
        table_rows(tmp_path)


def test_absolute_uris_may_lie_anywhere(tmp_path):
    put(tmp_path, "elsewhere/1.mp4", b"123")
    (tmp_path / "root").mkdir()
    uri = f"file://{tmp_path}/elsewhere/1.mp4"
    write_csv(tmp_path / "root", ["uri"], [uri])
    assert (table_rows(tmp_path / "root")[0].key, table_rows(tmp_path / "root")[0].size) == (uri, 3)


def test_folders_say_split_and_class(tmp_path):
    for name in (
        "labelled/dog/b.mp4",
        "labelled/cat/a.mp4",
        "test/cat/s1/t.mp4",
        "unlabeled/u.mp4",
    ):
        put(tmp_path, name)
    put(tmp_path, "labelled/cat/.hidden")
    rows = list(VideosSource(str(tmp_path), CLASSES).rows())
    assert [(row.key, row.split, row.labels) for row in rows] == [
        ("labelled/cat/a.mp4", "labelled", (0,)),
        ("labelled/dog/b.mp4", "labelled", (1,)),
        ("unlabeled/u.mp4", "unlabeled", None),
        ("test/cat/s1/t.mp4", "test", (0,)),
    ]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["path"], ["1.mp4"], "column 'uri'"),
        (["uri", "label"], ["1.mp4", "bird"], "source.classes"),
        (["uri", "split"], ["1.mp4", "train"], "split 'train' is not one of"),
        (["uri", "split"], ["1.mp4", "test"], "needs a label"),
        (["uri"], ["../1.mp4"], "below source.root"),
        (["uri"], ["/etc/passwd"], "below source.root"),
        (["uri", "start_s"], ["1.mp4", "soon"], "not a number of seconds"),
    ],
)
def test_a_wrong_table_is_named_with_the_way_out(tmp_path, header, row, message):
    write_csv(tmp_path, header, row)
    with pytest.raises(ConfigError, match=message):
        table_rows(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root="):
        list(VideosSource(str(tmp_path / "nowhere"), CLASSES).rows())
    put(tmp_path, "x.mp4")
    with pytest.raises(ConfigError, match=r"source\.table"):
        list(VideosSource(str(tmp_path), CLASSES).rows())
    with pytest.raises(ConfigError, match=r"source\.table=clips\.csv is not in"):
        table_rows(tmp_path)
    with pytest.raises(ConfigError, match=r"source\.table=clips\.csv is not in"):
        VideosSource(str(tmp_path), CLASSES, table="clips.csv").identity()
    put(tmp_path, "labelled/loose.mp4")
    with pytest.raises(ConfigError, match="folder named after their class"):
        list(VideosSource(str(tmp_path), CLASSES).rows())


def test_the_identity_follows_the_table_and_not_the_place(tmp_path):
    for name in ("here", "moved"):
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name, ["uri"], ["1.mp4"])
    here, moved = (
        VideosSource(str(tmp_path / name), CLASSES, table="clips.csv") for name in ("here", "moved")
    )
    assert here.identity() == moved.identity()
    write_csv(tmp_path / "moved", ["uri"], ["2.mp4"])
    assert here.identity() != moved.identity()


def test_listings_hold_no_more_than_they_may(tmp_path):
    for folder in "abc":
        for number in range(3):
            put(tmp_path, f"{folder}/{number}.mp4")
    listings = FolderListings(open_root(str(tmp_path)), max_held_files=6)
    for folder in "abcab":
        assert listings.find(f"{folder}/2.mp4").size == 1
        assert listings._num_held() <= 6
    assert listings.find("a/9.mp4") is None


def test_a_reader_decodes_a_clip_and_counts_its_bytes(tmp_path):
    content = write_clip()
    put(tmp_path, "1.mp4", content)
    spec = {"video": VideoSpec(2, 16, 16), "audio": AudioSpec(8000, 0.5)}
    decoded = VideosSource(str(tmp_path), CLASSES).reader(spec).read(manifest_row("1.mp4"))
    assert set(decoded.arrays) == {"video", "audio"}
    assert decoded.num_bytes_read == len(content)


def test_a_reader_says_missing_and_too_large(tmp_path):
    reader = VideosSource(str(tmp_path), CLASSES).reader({"video": VideoSpec(2, 16, 16)})
    with pytest.raises(MediaError) as missing:
        reader.read(manifest_row("gone.mp4"))
    with pytest.raises(MediaError) as large:
        reader.read(manifest_row("large.mp4", size=1 << 40))
    assert (missing.value.reason, large.value.reason) == ("missing_file", "too_large")


def test_videos_have_no_features(tmp_path):
    with pytest.raises(ConfigError, match="table source"):
        VideosSource(str(tmp_path), CLASSES).reader({"x": FeatureSpec(3)})
