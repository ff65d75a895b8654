"""A span of a long file on a real S3 server is read in part."""

import numpy as np
import pytest
from odd_media import SIDE, Sound, Video, write

from mke_ray.data.media import decode_clip
from mke_ray.data.places import Places
from mke_ray.data.video_reader import WHOLE_BYTES, VideoReader
from mke_ray.schema import AudioSpec, ManifestRow, VideoSpec
from mke_ray.storage import open_root

SPEC = {"video": VideoSpec(6, SIDE, SIDE), "audio": AudioSpec(8000, 2.0)}
NOISY = {"preset": "ultrafast", "g": "20", "crf": "1"}


@pytest.mark.s3
def test_two_seconds_of_a_minute_do_not_fetch_the_minute(s3_server):
    rng = np.random.default_rng(0)
    levels = tuple(rng.integers(0, 255, (600, 48, 64, 3), np.uint8))
    content = write(Video(600, options=NOISY, levels=levels), Sound(60.0))
    assert len(content) > 2 * WHOLE_BYTES
    open_root(s3_server.uri("long")).write("clip.mp4", content)
    reader = VideoReader(Places(s3_server.uri("long")), SPEC)
    row = ManifestRow(7, "u", "clip.mp4", len(content), "", 40.0, 42.0, "g", "unlabeled", None)
    decoded = reader.read(row)
    expected = decode_clip(content, SPEC, start_s=40.0, end_s=42.0)
    for name in SPEC:
        assert np.array_equal(decoded.arrays[name], expected.arrays[name])
    assert decoded.num_bytes_needed < decoded.num_bytes_read < len(content) / 4
