"""Tests of the videos source: tables and folders as users write them, right and wrong."""

import csv
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from composed import composed
from media_files import write_clip

from mke_ray.config import build
from mke_ray.data.table_rows import read_table
from mke_ray.data.videos import VideosSource
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


def test_absolute_uris_lie_below_the_root_or_a_place_that_is_named(tmp_path):
    put(tmp_path, "elsewhere/1.mp4", b"123")
    (tmp_path / "root").mkdir()
    uri = f"file://{tmp_path}/elsewhere/1.mp4"
    write_csv(tmp_path / "root", ["uri"], [uri])
    (row,) = table_rows(tmp_path / "root", places=[f"{tmp_path}/elsewhere"])
    assert (row.key, row.size) == (uri, 3)
    with pytest.raises(ConfigError, match=r"clips\.csv, row 1: .*\.places=\[file:.*elsewhere"):
        table_rows(tmp_path / "root")


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
    with pytest.raises(ConfigError, match=r"source\.root is missing"):
        list(VideosSource(None, CLASSES, table="clips.csv").rows())
    put(tmp_path, "labelled/loose.mp4")
    with pytest.raises(ConfigError, match="folder named after their class"):
        list(VideosSource(str(tmp_path), CLASSES).rows())


def test_every_file_is_of_one_split_where_that_is_asked_for(tmp_path):
    for name in ("a/1.mp4", "test/dog/2.mp4", "3.mp4", "notes.txt"):
        put(tmp_path, name)
    source = VideosSource(str(tmp_path), CLASSES, split_of_all="unlabeled")
    rows = list(source.rows())
    assert [row.key for row in rows] == ["3.mp4", "a/1.mp4", "test/dog/2.mp4"]
    assert {(row.split, row.labels) for row in rows} == {("unlabeled", None)}
    assert [row.key for row in source.rows(after="a/1.mp4")] == ["test/dog/2.mp4"]
    assert "split_of_all" not in VideosSource(str(tmp_path), CLASSES).identity()
    with pytest.raises(ConfigError, match=r"split_of_all=new; choose one of \['labelled'"):
        VideosSource(str(tmp_path), CLASSES, split_of_all="new").prepare()


def test_a_bucket_of_unlabeled_files_follows_links_to_the_places_that_are_named(tmp_path):
    put(tmp_path, "more/1.mp4")
    put(tmp_path, "data/2.mp4")
    os.symlink(tmp_path / "more", tmp_path / "data" / "linked")
    told = ["source=bucket", "source.classes=[cat,dog]", f"source.root={tmp_path}/data"]
    with pytest.raises(ConfigError, match=r"linked is behind a link to .*add source\.places="):
        list(build(composed(*told)[0].source).rows())
    (job,) = composed(*told, f"source.places=[{tmp_path}/more]")
    assert [row.key for row in build(job.source).rows()] == ["2.mp4", "linked/1.mp4"]


def test_the_identity_says_what_the_source_is_and_not_where_or_what_is_in_it(tmp_path):
    write_csv(tmp_path, ["uri"], ["1.mp4"])
    identity = VideosSource(str(tmp_path), CLASSES, table="clips.csv").identity()
    write_csv(tmp_path, ["uri"], ["2.mp4"])
    moved = VideosSource(
        "s3://elsewhere/x",
        CLASSES,
        table="clips.csv",
        endpoint_url="http://minio:9000",
        storage_options={"secret": "hunter2"},
    )
    assert moved.identity() == identity
    assert "hunter2" not in json.dumps(moved.identity()) + repr(moved)
    far = VideosSource(None, CLASSES, table=f"{tmp_path}/clips.csv")
    assert far.identity() == identity
    for others in ({"table": "other.csv"}, {"clip_seconds": 2.0}, {"label_kind": "multi"}):
        other = VideosSource(str(tmp_path), CLASSES, **{"table": "clips.csv", **others})
        assert other.identity() != identity


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


def test_a_table_goes_on_behind_any_row_in_both_formats(tmp_path):
    columns = {"uri": [f"{k}.mp4" for k in range(10)], "label": ["cat"] * 10}
    write_csv(tmp_path, list(columns), *zip(*columns.values(), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "clips.parquet", row_group_size=3)
    for name in ("clips.csv", "clips.parquet"):
        source = VideosSource(str(tmp_path), CLASSES, table=name)
        rows = list(source.rows())
        assert len(rows) == 10
        for done, row in enumerate(rows, start=1):
            assert list(source.rows(after=row.cursor)) == rows[done:]


def test_notes_beside_the_videos_are_no_samples_and_everything_else_is(tmp_path):
    for name in ("a.mp4", "a.json", "NOTES.TXT", ".DS_Store", "without-ending", "a.bin"):
        put(tmp_path, f"unlabeled/{name}")
    keys = [row.key for row in VideosSource(str(tmp_path), ["cat", "dog"]).rows()]
    assert keys == ["unlabeled/a.bin", "unlabeled/a.mp4", "unlabeled/without-ending"]


def test_folders_go_on_behind_any_file(tmp_path):
    for name in ("labelled/cat/1.mp4", "labelled/dog/2.mp4", "unlabeled/a.mp4", "probe/cat/3.mp4"):
        put(tmp_path, name)
    source = VideosSource(str(tmp_path), CLASSES)
    rows = list(source.rows())
    for done, row in enumerate(rows, start=1):
        assert list(source.rows(after=row.cursor)) == rows[done:]


def test_a_size_and_a_version_of_the_table_are_taken_at_their_word(tmp_path):
    put(tmp_path, "1.mp4", b"12345")
    write_csv(tmp_path, ["uri", "size", "etag"], ["1.mp4", "7", "v2"], ["1.mp4", "9", ""])
    rows = table_rows(tmp_path)
    assert [row.size for row in rows] == [7, 9]
    assert rows[0].etag == "v2" and rows[1].etag.endswith("-5")


def test_a_broken_table_is_named(tmp_path):
    (tmp_path / "clips.csv").write_bytes(b"uri,label\n\xff\xfe,cat\n")
    with pytest.raises(ConfigError, match=r"source\.table=clips\.csv cannot be read"):
        table_rows(tmp_path)
    (tmp_path / "clips.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match=r"source\.table=clips\.parquet cannot be read"):
        list(VideosSource(str(tmp_path), CLASSES, table="clips.parquet").rows())


def test_a_table_may_lie_apart_from_its_videos(tmp_path):
    put(tmp_path, "videos/1.mp4", b"123")
    write_csv(tmp_path, ["uri"], ["1.mp4"])
    source = VideosSource(f"{tmp_path}/videos", CLASSES, table=f"{tmp_path}/clips.csv")
    assert [(row.key, row.size) for row in source.rows()] == [("1.mp4", 3)]
    write_csv(tmp_path, ["uri"], ["videos/1.mp4"])
    source = VideosSource(None, CLASSES, table=f"{tmp_path}/clips.csv")
    assert [(row.key, row.size) for row in source.rows()] == [("videos/1.mp4", 3)]


def test_a_file_that_is_away_has_no_size_also_where_the_table_gives_one(tmp_path):
    write_csv(tmp_path, ["uri", "size", "etag"], ["1.mp4", "9", ""], ["2.mp4", "9", "v"])
    assert [(row.size, row.etag) for row in table_rows(tmp_path)] == [(-1, ""), (9, "v")]


def test_a_key_that_cannot_be_asked_for_is_one_bad_row(tmp_path):
    reader = VideosSource(str(tmp_path), ["cat"]).reader({"video": VideoSpec(1, 8, 8)})
    with pytest.raises(MediaError, match=r"unsupported.*a/\.\./x\.mp4"):
        reader.read(manifest_row("unlabeled/a/../x.mp4", size=1))


@pytest.mark.parametrize(
    ("start_s", "end_s"), [("2", "1"), ("1", "1"), ("", "0"), ("-1", "1"), ("0", "inf")]
)
def test_a_span_that_is_none_is_refused_by_its_row(tmp_path, start_s, end_s):
    write_csv(tmp_path, ["uri", "start_s", "end_s"], ["1.mp4", "0", "1"], ["2.mp4", start_s, end_s])
    with pytest.raises(ConfigError, match=r"row 2"):
        table_rows(tmp_path)


def test_a_signed_uri_in_a_table_is_refused_and_its_secret_hidden(tmp_path):
    write_csv(tmp_path, ["uri"], ["https://site/x.mp4?X-Amz-Signature=abcdef"])
    with pytest.raises(ConfigError, match=r"row 1.*secret") as refused:
        table_rows(tmp_path)
    assert "abcdef" not in str(refused.value)


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "/etc/passwd"])
def test_a_table_in_a_bucket_names_no_local_file(tmp_path, uri):
    root = open_root(f"memory://{tmp_path.name}")
    root.write("clips.csv", f"uri\n{uri}\n".encode())
    with pytest.raises(ConfigError, match=r"row 1, uri.*local disk"):
        list(read_table(root, "clips.csv"))


@pytest.mark.parametrize("content", [b"PAR1" + bytes(60) + b"PAR1", b"PAR1\xff\xff\x08\0\0\0PAR1"])
def test_a_parquet_table_that_is_none_is_named(tmp_path, content):
    root = open_root(str(tmp_path))
    root.write("clips.parquet", content)
    with pytest.raises(ConfigError, match=r"clips\.parquet"):
        list(read_table(root, "clips.parquet"))


def test_the_place_of_a_source_changes_with_its_root_and_its_table(tmp_path):
    write_csv(tmp_path, ["uri"], ["1.mp4"])
    source = VideosSource(str(tmp_path), ["cat"], "clips.csv")
    before = source.place()
    assert before == source.place() != VideosSource(str(tmp_path), ["cat"]).place()
    write_csv(tmp_path, ["uri"], ["1.mp4"], ["2.mp4"])
    assert source.place() != before
