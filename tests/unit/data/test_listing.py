"""Tests of listing: the order of whole keys, resumed anywhere, without what is no file."""

import os
import shutil

import pytest

from mke_ray.data.ahead import map_ahead
from mke_ray.data.links import UnusableKeyError, check_links
from mke_ray.data.listing import walk
from mke_ray.data.lookup import Lookup
from mke_ray.data.places import Places, split_key
from mke_ray.errors import ConfigError
from mke_ray.storage import open_root

NAMES = [
    "v/Z/1.mp4",
    "v/_x",
    "v/a b/1.mp4",
    "v/a!",
    "v/a-b/1.mp4",
    "v/a.mp4",
    "v/a/1.mp4",
    "v/a/2.mp4",
    "v/a/b-c.mp4",
    "v/a/b/c.mp4",
    "v/a0.mp4",
    "v/ab/x.z",
    "v/ab/x/y",
    "v/é.mp4",
]


@pytest.fixture(params=["local", "memory"])
def root(request, tmp_path):
    uri = str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"
    root = open_root(uri)
    for name in reversed(NAMES):
        root.write(name, b"x" * len(name))
    root.write("elsewhere/1.mp4", b"")
    yield root
    root.filesystem().rm(root.path(), recursive=True)


def names(files):
    return [file.name for file in files]


def test_files_come_in_the_order_of_their_whole_names(root):
    files = list(walk(root, "v"))
    assert names(files) == sorted(NAMES) == NAMES
    assert all(file.size == len(file.name.encode()) - file.name.count("é") for file in files)
    assert names(walk(root, "v/a")) == NAMES[6:10]
    assert list(walk(root, "nowhere")) == []


def test_a_listing_goes_on_behind_any_name_also_one_that_is_gone(root):
    for done, name in enumerate(NAMES, start=1):
        assert names(walk(root, "v", after=name)) == NAMES[done:]
    assert names(walk(root, "v", after="v/a/1x")) == NAMES[7:]
    assert names(walk(root, "v", after="v/zz")) == ["v/é.mp4"]


def test_hidden_files_are_left_out(root):
    for name in ("v/.hidden", "v/.git/x", "v/a/.b/c.mp4"):
        root.write(name, b"x")
    assert names(walk(root, "v")) == NAMES


def test_what_is_no_file_is_left_out_and_loops_end(tmp_path):
    (tmp_path / "v/a").mkdir(parents=True)
    (tmp_path / "v/a/1.mp4").write_bytes(b"1")
    os.mkfifo(tmp_path / "v/pipe")
    os.symlink(tmp_path / "v/gone", tmp_path / "v/dangling")
    os.symlink(tmp_path / "v", tmp_path / "v/a/loop")
    os.symlink(tmp_path / "v/a", tmp_path / "v/again")
    assert names(walk(open_root(str(tmp_path)), "v")) == ["v/a/1.mp4", "v/again/1.mp4"]


def test_a_local_file_that_was_written_anew_has_another_version(tmp_path):
    path = tmp_path / "v" / "1.mp4"
    path.parent.mkdir()
    path.write_bytes(b"1")
    (before,) = walk(open_root(str(tmp_path)), "v")
    os.utime(path, ns=(1, 1))
    (after,) = walk(open_root(str(tmp_path)), "v")
    assert before.etag != after.etag and after.etag == "1-1"


def test_files_are_looked_up_by_their_keys(root, tmp_path):
    places = Places(root.uri)
    found = Lookup(places).find([*NAMES, "v/gone.mp4", "v/a"])
    listed = {file.name: file for file in walk(root, "v")}
    assert {key: file.size for key, file in found.items()} == {
        name: listed[name].size for name in NAMES
    }
    if root.is_local:
        assert found == listed
        shutil.copytree(tmp_path / "v", tmp_path / "other")
        uri = f"file://{tmp_path}/other/a.mp4"
        beside = Places(root.uri, further=(str(tmp_path / "other"),))
        assert Lookup(beside).find([uri])[uri].size == len("v/a.mp4")


def test_what_is_done_ahead_keeps_its_order_and_is_bounded():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ahead(lambda number: number * number, items(), num_threads=3)
    assert [next(results) for _ in range(10)] == [number**2 for number in range(10)]
    assert len(taken) <= 10 + 2 * 3
    assert list(results) == [number**2 for number in range(10, 100)]


def test_an_error_is_raised_where_its_result_would_have_come():
    results = map_ahead(lambda number: 1 // (number - 3), range(10), num_threads=2)
    assert [next(results) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_file_that_may_not_be_looked_at_is_an_error_and_not_absent(root, monkeypatch):
    def denied(*_args, **_keys):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(os, "stat", denied)
    monkeypatch.setattr(type(root.filesystem()), "info", denied)
    with pytest.raises(ConfigError, match=r"v/a\.mp4 may not be looked at.*s3:ListBucket"):
        Lookup(Places(root.uri)).find(["v/a.mp4"])


def test_linked_files_that_will_not_be_read_are_told_of_once_with_the_place_of_all(
    tmp_path, caplog
):
    for name in ("v/a/1.mp4", "v/a/2.mp4", "v/b/3.mp4"):
        blob = tmp_path / "blobs" / name[-5] / "x"
        for path in (tmp_path / name, blob):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"1")
        os.symlink(blob, tmp_path / name)
    root, blobs = open_root(f"{tmp_path}/v"), f"{tmp_path}/blobs"
    assert names(walk(root, "")) == ["a/1.mp4", "a/2.mp4", "b/3.mp4"]
    (record,) = caplog.records
    assert f"v/a/1.mp4 is behind a link to {blobs}/1/x" in record.message
    assert f"add source.places=[{blobs}]" in record.message
    caplog.clear()
    list(walk(root, "", further=(blobs,)))
    list(walk(open_root(str(tmp_path)), ""))
    assert not caplog.records


def test_the_folders_that_links_may_lead_to_are_resolved_once(tmp_path, monkeypatch):
    top = tmp_path / "v"
    top.mkdir()
    asked, realpath = [], os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: asked.append(path) or realpath(path))
    for number in range(3):
        check_links(f"{top}/{number}.mp4", [str(top), "/further"])
    assert asked.count("/further") == 1 and len(asked) == 5


def test_links_that_lead_to_each_other_end(tmp_path):
    for name in "ab":
        (tmp_path / "v" / name).mkdir(parents=True)
        (tmp_path / "v" / name / "1.mp4").write_bytes(b"1")
    os.symlink("../b", tmp_path / "v/a/x")
    os.symlink("../a", tmp_path / "v/b/y")
    expected = ["v/a/1.mp4", "v/a/x/1.mp4", "v/b/1.mp4", "v/b/y/1.mp4"]
    assert names(walk(open_root(str(tmp_path)), "v")) == expected
    assert names(walk(open_root(str(tmp_path)), "v", after=expected[0])) == expected[1:]


def test_a_key_is_a_uri_only_if_it_begins_with_a_protocol(tmp_path):
    assert split_key("unlabeled/https://site/x.mp4") == (None, "unlabeled/https://site/x.mp4")
    assert split_key("s3://bucket/a/x.mp4") == ("s3://bucket", "a/x.mp4")
    bucket = Places("s3://bucket", {"anonymous": True})
    assert bucket.find("unlabeled/a..b/x.mp4")[1] == "unlabeled/a..b/x.mp4"
    for places, key in [
        (Places(str(tmp_path)), "a/../../x.mp4"),
        (Places(str(tmp_path)), "/x.mp4"),
        (bucket, "unlabeled/a/../x.mp4"),
        (bucket, "s3://other"),
        (bucket, "unlabeled/x.mp4?versionId=1"),
    ]:
        with pytest.raises(UnusableKeyError, match="must be a path below"):
            places.find(key)
