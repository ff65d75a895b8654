"""Tests of AudioSet on small clips beside lists as they are published."""

from collections import Counter

import pytest
from published_data import AUDIOSET_CLASSES, put, video_id, write_audioset

from mke_ray.data.audioset import AudioSetSource
from mke_ray.data.audioset_lists import read_classes, read_segments
from mke_ray.data.manifest import manifest_row
from mke_ray.errors import ConfigError
from mke_ray.schema import LabelKind, decode_spec_from_dict

SPEC = decode_spec_from_dict({"audio": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 0.5}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audioset")
    write_audioset(folder)
    return folder


def source(folder, **keys):
    return AudioSetSource(str(folder), **keys)


def test_three_lists_are_the_splits_and_clips_that_are_gone_are_counted(folder):
    of = source(folder)
    rows = list(of.rows())
    assert of.label_space.kind is LabelKind.MULTI
    assert of.label_space.classes == tuple(AUDIOSET_CLASSES.values())
    counts = Counter(row.split for row in rows)
    assert (counts["unlabeled"], counts["test"]) == (35, 14)
    assert counts["labelled"] + counts["probe"] == 42 and counts["probe"] > 2
    assert {row.group: row.labels for row in rows}[video_id(6)] == (2,)
    assert {row.group: row.labels for row in rows}[video_id(1)] == (1, 2)
    assert of.notes()[0].startswith("AudioSet: 13 of 104 listed clips have no file (")
    assert list(of.rows(after=rows[30].cursor)) == rows[31:]


def test_only_classes_below_one_of_the_ontology_count(folder):
    of = source(folder, below="Animal")
    assert of.label_space.classes == ("Dog", "Howl", "Domestic animals, pets")
    rows = {row.group: row for row in of.rows()}
    assert rows[video_id(1)].labels == (0, 1)
    assert video_id(4) not in rows  # speech alone
    with pytest.raises(ConfigError, match=r"source\.below=Musik is not in ontology\.json.*Animal"):
        _ = source(folder, below="Musik").label_space


def test_without_the_unbalanced_list_the_rest_of_the_balanced_one_is_unlabeled(folder):
    tables = {"balanced": "balanced_train_segments.csv", "eval": "eval_segments.csv"}
    rows = list(source(folder, tables=tables, labelled=0.4, probe=0.2).rows())
    counts = Counter(row.split for row in rows)
    assert sum(counts.values()) == 42 + 14 and counts["unlabeled"] > 5


def test_a_clip_is_read_by_any_of_its_names(folder):
    of = source(folder)
    rows = {row.group: row for row in of.rows()}
    keys = [rows[video_id(number)].key for number in (0, 1, 2)]
    assert [key.rsplit("/", 1)[1] for key in keys] == [
        f"{video_id(0)}_30.000.mp4",
        f"{video_id(1)}_30000_40000.mp4",
        f"Y{video_id(2)}.mp4",
    ]
    for number in (0, 1, 2):
        read = of.reader(SPEC).read(manifest_row(rows[video_id(number)]))
        assert read.arrays["audio"].any()


def test_three_lines_of_comments_and_quoted_ids_are_read():
    lines = ["# a\n", "# b\n", "# YTID\n", '--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/0bt9lr"\n']
    assert list(read_segments(lines, where="list")) == [
        ("--4gqARaEJE", 0, 10_000, ["/m/068hy", "/m/0bt9lr"])
    ]
    with pytest.raises(ConfigError, match="list: line 1 is 'a, 1, 0, /m/1'"):
        list(read_segments(["a, 1, 0, /m/1"], where="list"))
    with pytest.raises(ConfigError, match="row 2 is"):
        read_classes(["index,mid,display_name", "0,/m/1,A", "2,/m/2,B"], where="list")


def test_what_is_missing_is_named_with_the_way_out(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root is not set.*AudioSet"):
        AudioSetSource(None)
    with pytest.raises(ConfigError, match=r"source\.tables=.*it may have"):
        source(folder, tables={"train": "a.csv"})
    (tmp_path / "a").mkdir()
    put(tmp_path / "a/notes.txt", b"")
    with pytest.raises(ConfigError, match=r"class_labels_indices\.csv is not in source\.root"):
        _ = source(tmp_path / "a").label_space
    other = tmp_path / "b"
    write_audioset(other, balanced=3, unbalanced=0, test=0)
    put(other / "class_labels_indices.csv", b"index,mid,display_name\n0,/m/1,A\n1,/m/2,B\n")
    with pytest.raises(ConfigError, match=r"which class_labels_indices\.csv does not have"):
        list(source(other).rows())
