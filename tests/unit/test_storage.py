import os
import pickle
import threading
from types import SimpleNamespace

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from mke_ray import storage
from mke_ray.errors import ConfigError, StoreError
from mke_ray.storage import TRAFFIC, Root, open_root


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


def test_what_is_written_is_read_back(root):
    root.write("a/b.txt", b"one")
    root.write("a/b.txt", b"two")
    assert root.read("a/b.txt") == b"two"
    assert root.child("a").read("b.txt") == b"two"


def test_a_file_is_created_once(root):
    assert root.create("a.txt", b"first")
    assert not root.create("a.txt", b"second")
    assert root.read("a.txt") == b"first"


def test_of_many_creators_exactly_one_wins(root):
    barrier = threading.Barrier(8)
    wins = []

    def create(number):
        barrier.wait()
        if root.create("claim", str(number).encode()):
            wins.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1 and root.read("claim") == str(wins[0]).encode()


def test_files_being_written_are_not_listed(root):
    root.write("folder/done.json", b"")
    root.write("folder/.hidden", b"")
    path = root.path("folder/.done.json.123.tmp")
    with open(path, "wb"):
        pass
    assert list(root.names()) == ["folder/.hidden", "folder/done.json"]


def test_names_are_sorted_and_relative_to_the_root(root):
    for name in ("b/2", "a", "b/10", "c/d/e"):
        root.write(name, b"")
    assert list(root.names()) == ["a", "b/10", "b/2", "c/d/e"]
    assert list(root.names("b")) == ["b/10", "b/2"]
    assert list(root.names(recursive=False)) == ["a"]
    assert list(root.names("nowhere")) == []


class RememberingFileSystem(MemoryFileSystem):
    """Lists a folder once and then from memory, as the file systems of buckets do by default."""

    protocol = "remembering"
    listings: dict = {}  # noqa: RUF012
    find = AbstractFileSystem.find  # by listing folder after folder

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("remembering:"))

    def invalidate_cache(self, path=None):
        for known in [one for one in self.listings if path in (None, one)]:
            del self.listings[known]

    def ls(self, path, detail=True, **_):
        if path not in self.listings:
            self.listings[path] = super().ls(path, detail=True)
        return self.listings[path]


def test_names_in_a_bucket_are_those_of_now_also_in_folders_below():
    fsspec.register_implementation("remembering", RememberingFileSystem, clobber=True)
    root = open_root("remembering://listed/run")
    root.write("folder/one", b"")
    assert list(root.names()) == ["folder/one"]
    assert list(root.names("folder", recursive=False)) == ["folder/one"]
    MemoryFileSystem().pipe_file("/listed/run/folder/two", b"")  # by another process
    assert list(root.names("folder", recursive=False)) == ["folder/one", "folder/two"]
    MemoryFileSystem().pipe_file("/listed/run/folder/three", b"")
    assert list(root.names()) == ["folder/one", "folder/three", "folder/two"]


def test_no_bucket_is_asked_to_remember_listings(monkeypatch):
    asked = {}

    def open_nothing(uri, **options):
        asked[uri.partition(":")[0]] = options
        return None, uri

    monkeypatch.setattr(fsspec.core, "url_to_fs", open_nothing)
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda _: MemoryFileSystem)
    for uri in ("s3://b/listings", "gs://b/listings", "abfs://b/listings", "hdfs://b/listings"):
        storage._open_filesystem(uri, "{}", 0)
    off = {"use_listings_cache": False}
    assert asked == {"s3": off, "gs": off, "abfs": off, "hdfs": {}}


def test_a_failed_write_leaves_the_old_file_and_no_other(root, monkeypatch):
    root.write("a", b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        root.write("a", b"new")
    assert root.read("a") == b"old" and list(root.names()) == ["a"]


def test_deleting_twice_is_no_error_and_a_missing_file_is_one_to_read(root):
    root.write("a", b"")
    root.delete("a")
    root.delete("a")
    assert not root.exists("a")
    with pytest.raises(FileNotFoundError):
        root.read("a")


def test_a_root_travels_and_hides_its_options():
    root = Root("/tmp/x", {"secret": "hunter2"})
    assert pickle.loads(pickle.dumps(root)) == root
    assert "hunter2" not in repr(root)


def test_a_local_disk_passes_the_probe_and_keeps_no_trace(root):
    root.check_create_only()
    assert list(root.names()) == []


def test_a_store_that_overwrites_silently_is_refused(root, monkeypatch):
    def overwrite(self, name, content):
        self.write(name, content)
        return True

    monkeypatch.setattr(Root, "create", overwrite)
    with pytest.raises(StoreError, match=r"If-None-Match.*storage\.single_driver"):
        root.check_create_only()


def test_a_root_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be written to"):
        open_root(str(tmp_path / "file" / "run")).check_create_only()


def test_an_unknown_protocol_is_a_config_error():
    with pytest.raises(ConfigError, match="root=nonsense://x"):
        open_root("nonsense://x")


def test_a_root_is_as_patient_as_it_was_told(tmp_path, monkeypatch):
    root = open_root(str(tmp_path), patience_s=0.1).child("run")
    calls = []

    def busy(path):
        calls.append(path)
        raise TimeoutError("slow")

    monkeypatch.setattr(root.filesystem(), "cat_file", busy)
    with pytest.raises(TimeoutError):
        root.read("name")
    assert 1 <= len(calls) <= 3


def test_a_thread_knows_what_its_own_files_took(root, monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(storage, "time", SimpleNamespace(perf_counter=lambda: 10.0 * next(now)))
    before_s, before = TRAFFIC.reading_s, TRAFFIC.num_bytes_written
    root.write("a", b"12345")
    assert root.create("b", b"123")
    assert (root.read("a"), root.read_range("a", 1, 3)) == (b"12345", b"23")
    with pytest.raises(FileNotFoundError):
        root.read("none")
    assert TRAFFIC.reading_s - before_s == 30.0
    assert TRAFFIC.num_bytes_written - before == 8
    seen = []
    other = threading.Thread(
        target=lambda: seen.append((TRAFFIC.reading_s, TRAFFIC.num_bytes_written))
    )
    other.start()
    other.join()
    assert seen == [(0.0, 0)]
