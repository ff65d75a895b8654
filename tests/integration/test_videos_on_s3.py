"""The videos source and the demo on a real S3 server."""

import uuid
from dataclasses import replace

import pytest

from mke_ray.data.demo import DemoSource
from mke_ray.data.manifest import write_manifest
from mke_ray.data.videos import VideosSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import AudioSpec, VideoSpec
from mke_ray.storage import Root, open_root

pytestmark = pytest.mark.s3

SPEC = {"video": VideoSpec(4, 32, 32), "audio": AudioSpec(8000, 1.0)}


@pytest.fixture
def root(s3_server) -> Root:
    return open_root(s3_server.uri(uuid.uuid4().hex))


def test_a_demo_in_a_bucket_has_sizes_versions_and_readable_clips(root):
    source = DemoSource(
        root.child("source").uri,
        num_labelled=2,
        num_unlabeled=2,
        num_probe=1,
        num_test=1,
        num_broken=2,
        num_processes=1,
    )
    source.prepare()
    manifest = write_manifest(root.child("manifest"), source, unit_size=4)
    reader = source.reader(SPEC)
    rows = [row for ref in manifest.unit_refs() for row in manifest.read_unit(ref)]
    assert len(rows) == 8
    assert all(row.etag for row in rows)
    bad = 0
    for row in rows:
        try:
            assert reader.read(row).num_bytes_read == row.size
        except MediaError:
            bad += 1
    assert bad == 2


def test_folders_of_a_bucket_are_listed_in_order_of_their_names(root):
    for name in ("labelled/b/2.mp4", "labelled/a/1.mp4", "unlabeled/x/y/3.mp4", "other/4.mp4"):
        root.write(name, b"x")
    rows = list(VideosSource(root.uri, ["a", "b"]).rows())
    assert [row.key for row in rows] == [
        "labelled/a/1.mp4",
        "labelled/b/2.mp4",
        "unlabeled/x/y/3.mp4",
    ]
    assert all(row.size == 1 and row.etag for row in rows)


def test_clips_may_lie_in_another_bucket_than_their_table(root):
    uri = f"{root.uri}/elsewhere/1.mp4"
    root.write("elsewhere/1.mp4", b"123")
    root.write("table/clips.csv", f"uri\n{uri}\n".encode())
    beside = VideosSource(f"{root.uri}/table", ["a", "b"], table="clips.csv")
    (row,) = replace(beside, places=[f"{root.uri}/elsewhere"]).rows()
    assert (row.key, row.size) == (uri, 3)
    with pytest.raises(ConfigError, match=r"clips\.csv, row 1.*source\.places=\[s3://"):
        list(beside.rows())
