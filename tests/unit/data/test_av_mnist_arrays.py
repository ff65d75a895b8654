"""Tests of AV-MNIST as ready-made arrays, on small files of that layout."""

import pickle
import shlex
from collections import Counter

import numpy as np
import pytest
from composed import composed
from published_data import write_av_mnist_arrays

from mke_ray.data.av_mnist_arrays import AvMnistArraysSource
from mke_ray.data.manifest import manifest_row
from mke_ray.data.npy_rows import NpyRows
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import DecodeSpec, FeatureSpec, decode_spec_from_dict
from mke_ray.storage import open_root

PICTURES = decode_spec_from_dict(
    {
        "image": {"kind": "image", "height": 28, "width": 28, "lossless": True},
        "audio": {"kind": "image", "height": 112, "width": 112, "lossless": True},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("av_mnist")
    write_av_mnist_arrays(folder)
    return folder


def source(folder, **keys):
    return AvMnistArraysSource(str(folder), **{"labelled": 0.3, "num_probe": 20, **keys})


def test_the_last_rows_of_train_are_the_probe_and_the_arrays_of_test_the_test_split(folder):
    of = source(folder)
    rows = list(of.rows())
    assert len(rows) == len({row.key for row in rows}) == 86
    assert [row.split for row in rows[50:70]] == ["probe"] * 20
    assert {row.split for row in rows[70:]} == {"test"}
    counts = Counter(row.split for row in rows[:50])
    assert counts["labelled"] > 5 < counts["unlabeled"] and len(counts) == 2
    assert [row.labels for row in rows] == [((n if n < 70 else n - 70) % 10,) for n in range(86)]
    for place in (10, 69, 75):
        assert list(of.rows(after=rows[place].cursor)) == rows[place + 1 :]
    other = list(source(folder, data_seed=1).rows())
    assert [one.split for one in other] != [one.split for one in rows]


def test_a_row_is_read_as_grey_pictures_or_as_its_values(folder):
    of = source(folder)
    row = manifest_row(list(of.rows())[73])
    image = np.load(folder / "image/test_data.npy")[3]
    audio = np.load(folder / "audio/test_data.npy")[3]
    reader = pickle.loads(pickle.dumps(of.reader(PICTURES)))
    read = reader.read(row)
    wanted = np.rint(image).clip(0, 255).astype(np.uint8).reshape(28, 28)
    assert image.min() < 0 and np.array_equal(read.arrays["image"], np.dstack([wanted] * 3))
    assert np.array_equal(read.arrays["audio"], np.dstack([audio] * 3))
    assert read.num_bytes_read == 784 * 8 + 112 * 112
    values: DecodeSpec = {"image": FeatureSpec(784), "audio": FeatureSpec(12544)}
    kept = of.reader(values).read(row).arrays
    assert np.array_equal(kept["image"], image.astype(np.float32))
    assert np.array_equal(kept["audio"], audio.astype(np.float32).ravel())


def test_values_that_are_no_numbers_and_rows_that_are_cut_off_are_of_their_sample_alone(tmp_path):
    write_av_mnist_arrays(tmp_path)
    path = tmp_path / "image/test_data.npy"
    pictures = np.load(path)
    pictures[2, 5] = np.nan
    np.save(path, pictures)
    of = source(tmp_path)
    rows = list(of.rows())
    assert of.reader(PICTURES).read(manifest_row(rows[72])).missing == {"image": "damaged"}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MediaError, match="ends within") as caught:
        of.reader(PICTURES).read(manifest_row(rows[-1]))
    assert caught.value.reason == "truncated"
    assert not of.reader(PICTURES).read(manifest_row(rows[-2])).missing


def test_what_is_missing_or_of_another_shape_is_named_with_the_way_out(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root is not set.*train_data\.npy"):
        AvMnistArraysSource(None)
    with pytest.raises(ConfigError, match=r"source\.labelled=1\.5"):
        source(folder, labelled=1.5)
    with pytest.raises(ConfigError, match=r"decode\.image\.kind=features.*num_features=784"):
        source(folder).reader({"image": FeatureSpec(3)})
    write_av_mnist_arrays(tmp_path)
    np.save(tmp_path / "audio/test_data.npy", np.zeros((16, 20, 20)))
    with pytest.raises(ConfigError, match=r"audio/test_data\.npy .*\[16, 20, 20\].*\[16, 112, 112"):
        list(source(tmp_path).rows())
    (tmp_path / "audio/test_data.npy").unlink()
    with pytest.raises(ConfigError, match=r"audio/test_data\.npy is not in source\.root"):
        list(source(tmp_path).rows())
    write_av_mnist_arrays(tmp_path)
    np.save(tmp_path / "train_labels.npy", np.full(70, 11))
    with pytest.raises(ConfigError, match=r"row 0 of train_labels\.npy is 11, no digit"):
        list(source(tmp_path).rows())


def test_a_row_is_of_the_versions_of_its_files_wherever_they_lie(tmp_path):
    write_av_mnist_arrays(tmp_path / "one")
    place, tag = source(tmp_path / "one").place(), next(source(tmp_path / "one").rows()).etag
    (tmp_path / "one").rename(tmp_path / "moved")
    of = source(tmp_path / "moved")
    assert next(of.rows()).etag == tag and str(tmp_path) not in tag
    for name in ("image/train_data.npy", "audio/test_data.npy"):
        path = tmp_path / "moved" / name
        np.save(path, np.load(path).astype(np.float64) + 1)
        assert next(of.rows()).etag != tag and of.place() != place
        place, tag = of.place(), next(of.rows()).etag


def test_labels_in_columns_are_refused(tmp_path):
    write_av_mnist_arrays(tmp_path)
    np.save(tmp_path / "train_labels.npy", np.eye(10)[np.arange(70) % 10])
    with pytest.raises(ConfigError, match=r"train_labels\.npy .* is \[70, 10\].*argmax"):
        list(source(tmp_path).rows())
    np.save(tmp_path / "train_labels.npy", np.arange(70)[:, None] % 10)
    assert len(list(source(tmp_path).rows())) == 86


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x / 255,
        lambda x: x / 255 - 1,
        lambda x: (x - x.mean()) / x.std(),
        lambda x: (x * 257).astype(np.uint16),
        lambda x: (x - 128).astype(np.int8),
    ],
)
def test_values_that_would_be_black_or_cut_pictures_are_refused_as_such_alone(tmp_path, change):
    write_av_mnist_arrays(tmp_path)
    path = tmp_path / "audio/train_data.npy"
    np.save(path, change(np.load(path).astype(np.float64)))
    of = source(tmp_path)
    with pytest.raises(
        ConfigError, match=r"audio/train_data\.npy .*kind: features, num_features: 12"
    ):
        of.reader(PICTURES)
    of.reader({"image": PICTURES["image"], "audio": FeatureSpec(12544)})


def test_the_way_out_of_values_that_are_no_greys_works_as_it_is_typed(tmp_path):
    write_av_mnist_arrays(tmp_path)
    path = tmp_path / "image/train_data.npy"
    np.save(path, np.load(path) / 255)
    with pytest.raises(ConfigError, match="as they are: ") as caught:
        source(tmp_path).reader(PICTURES)
    typed = shlex.split(str(caught.value).partition("as they are: ")[2])
    (job,) = composed("experiment=av_mnist_arrays", f"source.root={tmp_path}", "root=r", *typed)
    assert job.decode["image"] == {"kind": "features", "num_features": 784}
    encoder = {"type": "features", "num_inputs": 784, "hidden": [64]}
    assert job.student.encoders["image"] == encoder


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array(["one", "two"]), "values of type <U3"),
        (np.zeros(3, [("a", "f4")]), "values of type"),
        (np.zeros(3, complex), "values of type complex128"),
        (np.array([{"a": 1}]), r"values of type object.*astype\('float32'\)"),
        (np.asfortranarray(np.zeros((3, 4))), "by columns"),
        (None, "no file of numpy.save"),
        (b"\x93NUMPY\x01\x00\x0a\x00{'descr': (", "no file of numpy.save"),
    ],
)
def test_only_plain_numbers_by_rows_are_read(tmp_path, array, said):
    path = tmp_path / "x.npy"
    if array is None or isinstance(array, bytes):
        path.write_bytes(array or b"something else")
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(ConfigError, match=said):
        _ = NpyRows(open_root(str(tmp_path)), "x.npy").shape


def test_a_probe_of_all_rows_for_training_is_refused_by_its_key(folder):
    with pytest.raises(ConfigError, match=r"source\.num_probe=70, but train_labels\.npy has 70"):
        next(source(folder, num_probe=70).rows())
    assert next(source(folder, num_probe=69).rows()).split in ("labelled", "unlabeled")


@pytest.mark.parametrize("num", ["10%", 0.1, -1, True, None])
def test_a_probe_that_is_no_number_of_rows_is_refused_by_its_key(folder, num):
    with pytest.raises(ConfigError, match=rf"source\.num_probe={num}; give a number of rows"):
        source(folder, num_probe=num)
