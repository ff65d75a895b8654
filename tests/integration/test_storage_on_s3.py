"""Stores on a real S3 server."""

import os
import uuid

import pyarrow as pa
import pytest

from mke_ray.errors import StoreError
from mke_ray.labels.store import UnitStore
from mke_ray.schema import samples_schema
from mke_ray.storage import Root, open_root

pytestmark = pytest.mark.s3


@pytest.fixture
def root(s3_server) -> Root:
    return open_root(s3_server.uri(uuid.uuid4().hex))


def test_a_file_is_created_once_and_the_second_creator_is_refused(root):
    assert root.create("a/b.json", b"first")
    assert not root.create("a/b.json", b"second")
    assert root.read("a/b.json") == b"first"


def test_the_server_passes_the_probe_of_conditional_writes(root):
    root.check_create_only()
    assert list(root.names()) == []


def test_a_wrong_bucket_is_an_error_that_says_what_to_check(s3_server):
    with pytest.raises(StoreError, match="cannot be written to"):
        open_root(
            "s3://no-such-bucket-here/x", {"key": "wrong", "secret": "wrong"}
        ).check_create_only()


def test_names_list_what_others_wrote_a_moment_ago(root):
    assert list(root.names()) == []
    root.write("top.txt", b"0")
    root.write("folder/one.txt", b"1")
    assert list(root.names()) == ["folder/one.txt", "top.txt"]
    root.write("folder/two.txt", b"2")
    assert list(root.names("folder")) == ["folder/one.txt", "folder/two.txt"]
    assert list(root.names(recursive=False)) == ["top.txt"]
    assert list(root.names("folder", recursive=False)) == ["folder/one.txt", "folder/two.txt"]
    root.delete("folder/two.txt")
    root.delete("folder/two.txt")
    assert list(root.names()) == ["folder/one.txt", "top.txt"]
    assert root.exists("folder") and root.exists("top.txt") and not root.exists("folder/two.txt")


def test_a_missing_file_is_file_not_found(root):
    with pytest.raises(FileNotFoundError):
        root.read("nothing.json")


def test_s3fs_reads_a_file_by_one_request_whether_it_is_there_or_not(root, monkeypatch):
    root = open_root(root.uri, {"default_block_size": 1 << 20})  # the faster client knows no such
    root.write("there", b"content")
    filesystem = root.filesystem()
    asked, call = [], filesystem._call_s3

    def noted(method, *args, **keys):
        asked.append(method)
        return call(method, *args, **keys)

    monkeypatch.setattr(filesystem, "_call_s3", noted)
    assert root.read("there") == b"content"
    with pytest.raises(FileNotFoundError):
        root.read("absent")
    assert asked == ["get_object", "get_object"]


def test_a_unit_store_makes_the_whole_round_trip(root):
    schema = samples_schema(["video"])
    store = UnitStore.open_or_create(root.child("samples"), spec={"a": 1}, schema=schema)
    table = pa.table(
        {
            "sample_id": [1, 2],
            "status": ["ok", "bad"],
            "error": [None, "truncated: x"],
            "video": [[os.urandom(2000), b"frame"], None],
            "video_status": ["ok", "truncated"],
            "video_signature": [b"signed", None],
        },
        schema=schema,
    )
    units = [f"{number:016x}" for number in range(5)]
    assert all(store.commit(unit, table, {"split": "test"}) for unit in units)
    assert not store.commit(units[0], table)
    assert store.committed() == set(units)
    index = store.write_index(units)
    again = UnitStore.open(root.child("samples"))
    assert again.index().table.equals(index.table)
    found = again.read(units[3], location=index.location(units[3]), check_digest=True)
    assert found.equals(table)
    assert len(list(again.root.names("attempts"))) == len(units)
