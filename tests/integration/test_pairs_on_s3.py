"""The pairs source on a real S3 server."""

import io
import uuid

import pytest
from PIL import Image

from mke_ray.data.manifest import write_manifest
from mke_ray.data.pairs import PairsSource
from mke_ray.schema import ImageSpec
from mke_ray.storage import open_root

pytestmark = pytest.mark.s3

FILES = {"rgb": "rgb/{key}.png", "depth": "depth/{key}_d.png"}


def picture(level):
    file = io.BytesIO()
    Image.new("RGB", (12, 12), (level, level, level)).save(file, "PNG")
    return file.getvalue()


def test_pairs_of_a_bucket_are_listed_found_and_read(s3_server):
    root = open_root(s3_server.uri(uuid.uuid4().hex))
    for number in range(40):
        key = f"unlabeled/{number % 2}/{number:03d}"
        root.write(f"bucket/rgb/{key}.png", picture(number))
        if number != 7:
            root.write(f"bucket/depth/{key}_d.png", picture(100 + number))
    source = PairsSource(f"{root.uri}/bucket", FILES, ["a", "b"])
    rows = list(source.rows())
    assert [row.key for row in rows] == sorted(row.key for row in rows)
    assert len(rows) == 40
    both = len(picture(0)) + len(picture(100))
    for row in rows:
        assert row.etag
        assert (row.size < both / 2 + 20) == row.key.endswith("/007")
    assert list(source.rows(after=rows[24].cursor)) == rows[25:]
    manifest = write_manifest(root.child("manifest"), source, unit_size=16)
    reader = source.reader({name: ImageSpec(8, 8) for name in FILES})
    for ref in manifest.unit_refs():
        for row in manifest.read_unit(ref):
            number, decoded = int(row.key[-3:]), reader.read(row)
            assert (decoded.arrays["rgb"] == number).all()
            missing = {"depth": "missing_file"} if number == 7 else {}
            assert decoded.missing == missing
            assert missing or (decoded.arrays["depth"] == 100 + number).all()
            assert decoded.num_bytes_read == row.size
