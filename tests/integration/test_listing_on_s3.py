"""Listing, looking up and reaching buckets on a real S3 server."""

import time
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from conftest import free_ports
from media_files import write_clip

from mke_ray.data import key_ranges
from mke_ray.data.listing import walk
from mke_ray.data.lookup import Lookup
from mke_ray.data.places import Places
from mke_ray.data.reachable import is_there
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError
from mke_ray.storage import Root, open_root

pytestmark = pytest.mark.s3

NUM_KEYS = 2500
CLASSES = ["a", "b"]


@pytest.fixture(scope="module")
def flat(s3_server) -> Root:
    """A prefix of more keys than are in a page."""
    root = open_root(s3_server.uri(uuid.uuid4().hex))
    path = root.path("unlabeled")
    root.filesystem().pipe({f"{path}/{k:05d}.mp4": b"x" * (k % 7) for k in range(NUM_KEYS)})
    return root


@pytest.fixture
def root(s3_server) -> Root:
    return open_root(s3_server.uri(uuid.uuid4().hex))


def test_every_page_comes_in_order_with_sizes_and_versions(flat):
    files = list(walk(flat, "unlabeled"))
    assert [file.name for file in files] == [f"unlabeled/{k:05d}.mp4" for k in range(NUM_KEYS)]
    assert [file.size for file in files] == [k % 7 for k in range(NUM_KEYS)]
    entry = flat.filesystem().info(flat.path("unlabeled/00001.mp4"))
    assert files[1].etag == entry["ETag"].strip('"') != ""


@pytest.mark.parametrize("done", [0, 998, 999, 1000, 1700, NUM_KEYS - 1])
def test_a_listing_goes_on_behind_any_key(flat, done):
    names = [file.name for file in walk(flat, "unlabeled", after=f"unlabeled/{done:05d}.mp4")]
    assert names == [f"unlabeled/{k:05d}.mp4" for k in range(done + 1, NUM_KEYS)]


def test_rows_of_a_bucket_go_on_behind_a_cursor(flat):
    source = VideosSource(flat.uri, CLASSES)
    rows = list(source.rows())
    assert len(rows) == NUM_KEYS
    assert list(source.rows(after=rows[1234].cursor)) == rows[1235:]


def test_a_bucket_is_never_asked_for_as_a_whole(flat, monkeypatch):
    asked = []
    call = s3fs.S3FileSystem._call_s3

    async def noted(self, method, *args, **keys):
        asked.append((method, keys.get("MaxKeys", 1000)))
        return await call(self, method, *args, **keys)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", noted)
    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", s3fs.core.sync_wrapper(noted))
    for name in ("_find", "_ls", "_lsdir"):
        monkeypatch.delattr(s3fs.S3FileSystem, name)
    next(walk(flat, "unlabeled", num_threads=0))
    assert asked == [("list_objects_v2", 1000)]


def test_folders_hidden_files_and_markers(root):
    kept = ["v/a/1.mp4", "v/a/b/2.mp4", "v/ab/3.mp4", "v/c.mp4"]
    for name in [*kept, "v/.hidden", "v/a/.git/x", "v/x_$folder$", "w/4.mp4"]:
        root.write(name, b"x")
    bucket, _, key = root.path("v/marker").partition("/")
    root.filesystem().call_s3("put_object", Bucket=bucket, Key=f"{key}/", Body=b"")
    names = [file.name for file in walk(root, "v")]
    assert names == kept
    for done, name in enumerate(kept, start=1):
        assert [file.name for file in walk(root, "v", after=name)] == kept[done:]
    assert [file.name for file in walk(root, "v/a")] == kept[:2]
    assert [file.name for file in walk(root, "")] == [*kept, "w/4.mp4"]


@pytest.mark.parametrize("page_keys", [1, 2, 3])
def test_names_that_stores_sort_differently_are_each_listed_once(root, monkeypatch, page_keys):
    names = ["a/1", "a/2", "a-b/1", "a.mp4", "a!", "a0", "ab/x/y", "ab/x.z", "b", "a/b/c", "a b/x"]
    for name in names:
        root.write(f"v/{name}", b"x")
    call = s3fs.S3FileSystem._call_s3

    async def small(self, method, *args, **keys):
        more = {"MaxKeys": page_keys} if method == "list_objects_v2" else {}
        return await call(self, method, *args, **keys, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "call_s3", s3fs.core.sync_wrapper(small))
    monkeypatch.setattr(key_ranges, "PAGE_KEYS", page_keys)
    listed = [file.name[2:] for file in walk(root, "v")]
    assert sorted(listed) == sorted(names)
    for done, name in enumerate(listed, start=1):
        assert [file.name[2:] for file in walk(root, "v", after=f"v/{name}")] == listed[done:]


def test_many_files_of_a_folder_are_looked_up_by_its_listing(flat, monkeypatch):
    keys = [f"unlabeled/{k:05d}.mp4" for k in range(100, 400)]
    heads = []
    call = s3fs.S3FileSystem._call_s3

    async def noted(self, method, *args, **more):
        if method == "head_object":
            heads.append(more["Key"])
        return await call(self, method, *args, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", noted)
    found = Lookup(Places(flat.uri)).find([*keys, "unlabeled/gone.mp4", "elsewhere/1.mp4"])
    listed = {file.name: file for file in walk(flat, "unlabeled")}
    assert found == {key: listed[key] for key in keys}
    assert sorted(key.rsplit("/", 1)[1] for key in heads) == ["1.mp4", "gone.mp4"]


def test_a_parquet_table_in_a_bucket_is_read_from_any_row_on(flat):
    uris = [f"{flat.uri}/unlabeled/{k:05d}.mp4" for k in range(0, NUM_KEYS, 5)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"uri": uris}), sink, row_group_size=64)
    flat.write("tables/clips.parquet", sink.getvalue().to_pybytes())
    table = f"{flat.uri}/tables/clips.parquet"
    source = VideosSource(None, CLASSES, table=table, places=[flat.uri])
    rows = list(source.rows())
    assert [row.key for row in rows] == uris
    assert [row.size for row in rows] == [k % 7 for k in range(0, NUM_KEYS, 5)]
    for done in (0, 63, 64, 100, len(uris)):
        assert list(source.rows(after=str(done))) == rows[done:]


def test_a_table_on_a_disk_names_videos_in_a_bucket_with_its_own_endpoint(
    root, tmp_path, monkeypatch, s3_server
):
    root.write("1.mp4", write_clip(num_frames=4, rate_hz=1, sound_s=4.0))
    (tmp_path / "clips.csv").write_text(f"uri\n{root.uri}/1.mp4\n")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    source = VideosSource(
        str(tmp_path),
        CLASSES,
        table="clips.csv",
        clip_seconds=2.0,
        endpoint_url=s3_server.endpoint,
        region="eu-west-1",
        places=[root.uri],
    )
    assert [(row.start_s, row.end_s) for row in source.rows()][:2] == [(0.0, 2.0), (2.0, 4.0)]


@pytest.mark.parametrize(
    ("uri", "options", "message"),
    [
        ("s3://no-such-bucket-here/x", {}, "no such bucket"),
        ("s3://{bucket}/x", {"endpoint_url": "http://127.0.0.1:{free_port}"}, "endpoint_url"),
        ("s3://{bucket}/x", {"endpoint_url": "nonsense"}, "endpoint_url"),
        ("s3://{bucket}/x", {"misspelt": "hunter2"}, "storage_options"),
        ("s3://{bucket}/x", {"key": "AKIAWRONG", "secret": "hunter2"}, "access key"),
    ],
)
def test_a_bucket_that_cannot_be_reached_is_said_in_one_line_within_seconds(
    s3_server, uri, options, message
):
    port = free_ports(1)[0]
    options = {name: value.replace("{free_port}", str(port)) for name, value in options.items()}
    root = open_root(uri.replace("{bucket}", s3_server.bucket), options)
    begun_s = time.monotonic()
    with pytest.raises(ConfigError, match=message) as refused:
        is_there(root, "", key="source.root")
    said = str(refused.value)
    assert time.monotonic() - begun_s < 30
    assert said.startswith("source.root=s3://") and "\n" not in said
    assert "hunter2" not in said


def test_a_missing_table_and_its_missing_bucket_are_told_apart(root):
    assert not is_there(root, "clips.csv", key="source.root")
    nowhere = open_root("s3://no-such-bucket-here/x")
    with pytest.raises(ConfigError, match="no such bucket"):
        is_there(nowhere, "clips.csv", key="source.root")


def test_no_credentials_are_named_with_both_ways_out(root, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    fresh = open_root(root.uri, {"skip_instance_cache": True})
    with pytest.raises(ConfigError, match=r"AWS_ACCESS_KEY_ID.*source\.anonymous=true"):
        is_there(fresh, "", key="source.root")
