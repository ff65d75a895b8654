"""Published data sets in a bucket of a real S3 server: the same rows, in few requests."""

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
from published_data import (
    video_id,
    write_audioset,
    write_av_mnist_arrays,
    write_mm_imdb,
    write_mm_imdb_hdf5,
    write_nyu,
    write_ravdess,
    write_vggsound,
)

from mke_ray.data.audioset import AudioSetSource
from mke_ray.data.av_mnist_arrays import AvMnistArraysSource
from mke_ray.data.manifest import manifest_row
from mke_ray.data.mm_imdb import MmImdbSource
from mke_ray.data.mm_imdb_hdf5 import MmImdbHdf5Source
from mke_ray.data.nyu_depth_mat import NyuDepthMatSource
from mke_ray.data.ravdess import RavdessSource
from mke_ray.data.vggsound import VggSoundSource
from mke_ray.schema import decode_spec_from_dict
from mke_ray.storage import open_root

pytestmark = pytest.mark.s3

NUM_CLIPS = 2500
VIDEO = {"kind": "video", "num_frames": 2, "height": 16, "width": 16}
IMAGE = {"kind": "image", "height": 16, "width": 16}
DIGITS = {"image": IMAGE, "audio": {"kind": "features", "num_features": 12544}}
SETS: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
    "ravdess": (write_ravdess, RavdessSource, {"splits": {"test": "rest"}}, {"face": VIDEO}),
    "vggsound": (write_vggsound, VggSoundSource, {}, {"video": VIDEO}),
    "audioset": (write_audioset, AudioSetSource, {}, {"video": VIDEO}),
    "nyu": (
        write_nyu,
        NyuDepthMatSource,
        {"labelled": 5, "probe": 5},
        {"rgb": IMAGE, "mask": {"kind": "mask", "height": 16, "width": 16}},
    ),
    "av_mnist_arrays": (write_av_mnist_arrays, AvMnistArraysSource, {"num_probe": 20}, DIGITS),
    "mm_imdb": (
        write_mm_imdb,
        MmImdbSource,
        {},
        {"poster": IMAGE, "plot": {"kind": "features", "num_features": 64}},
    ),
    "mm_imdb_hdf5": (
        write_mm_imdb_hdf5,
        MmImdbHdf5Source,
        {"parts": (40, 24, 16)},
        {"poster": IMAGE, "plot": {"kind": "features", "num_features": 300}},
    ),
}


def upload(folder: Path, uri: str) -> str:
    """Copy a folder below a URI and return that."""
    root = open_root(uri)
    names = [path for path in folder.rglob("*") if path.is_file()]
    content = {root.path(str(one.relative_to(folder))): one.read_bytes() for one in names}
    root.filesystem().pipe(content)
    return uri


@pytest.mark.parametrize("name", SETS)
def test_a_bucket_has_the_rows_of_a_folder_and_they_are_read(name, s3_server, tmp_path):
    write, kind, keys, decode = SETS[name]
    write(tmp_path)
    far = kind(upload(tmp_path, s3_server.uri(uuid.uuid4().hex)), **keys)
    near = kind(str(tmp_path), **keys)
    rows = list(far.rows())
    plain = [(row.key, row.size, row.split, row.labels, row.group) for row in rows]
    here = [(row.key, row.size, row.split, row.labels, row.group) for row in near.rows()]
    assert plain == here and all(row.etag for row in rows)
    assert list(far.rows(after=rows[3].cursor)) == rows[4:]
    spec = decode_spec_from_dict(decode)
    one = manifest_row(rows[10])
    there, here = far.reader(spec).read(one), near.reader(spec).read(one)
    assert there.arrays.keys() == here.arrays.keys() == decode.keys()
    assert all(np.array_equal(there.arrays[m], here.arrays[m]) for m in decode)


def test_clips_of_a_bucket_are_listed_page_by_page_and_not_asked_for_one_by_one(
    s3_server, monkeypatch
):
    root = open_root(s3_server.uri(uuid.uuid4().hex))
    ids = [video_id(number) for number in range(NUM_CLIPS)]
    root.write(
        "vggsound.csv", "\n".join(f"{one},30,a{n % 3},train" for n, one in enumerate(ids)).encode()
    )
    root.filesystem().pipe({root.path(f"media/{one}_000030.mp4"): b"x" for one in ids[::2]})
    calls: Counter[str] = Counter()
    asked = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        calls[method] += 1
        return await asked(self, method, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    source = VggSoundSource(root.uri)
    assert len(list(source.rows())) == NUM_CLIPS // 2
    assert sum(calls.values()) < 40, calls
    gone = f"VGGSound: {NUM_CLIPS // 2:,} of {NUM_CLIPS:,} listed clips have no file"
    assert source.notes()[0].startswith(gone)
