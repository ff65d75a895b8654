"""Tests of NYU Depth V2 on a small MATLAB file of the layout that its authors publish."""

import os
import pickle
from collections import Counter, defaultdict

import numpy as np
import pytest
from published_data import put, write_nyu
from scipy.io import savemat

from mke_ray.data.manifest import manifest_row
from mke_ray.data.nyu_depth_mat import NyuDepthMatSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import decode_spec_from_dict

SPEC = decode_spec_from_dict(
    {
        "rgb": {"kind": "image", "height": 24, "width": 32, "lossless": True},
        "depth": {"kind": "depth", "height": 24, "width": 32, "channels": "metres"},
        "mask": {"kind": "mask", "height": 24, "width": 32},
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyu_mat")
    write_nyu(folder)
    return folder


def source(folder, **keys):
    return NyuDepthMatSource(str(folder), **{"labelled": 5, "probe": 5, **keys})


def test_the_official_split_is_kept_and_scenes_are_dealt_out_whole(folder):
    rows = list(source(folder).rows())
    assert Counter(row.split for row in rows) == {
        "labelled": 6,
        "probe": 6,
        "unlabeled": 22,
        "test": 6,
    }
    splits = defaultdict(set)
    for row in rows:
        splits[row.group].add(row.split)
    assert len(splits) == 20 and all(len(one) == 1 for one in splits.values())
    test = {row.key for row in rows if row.split == "test"}
    assert test == {f"nyu_depth_v2_labeled.mat#{number:04d}" for number in range(35, 41)}
    assert all(row.labels == () and row.etag for row in rows)
    assert list(source(folder).rows(after=rows[7].cursor)) == rows[8:]
    other = {row.key for row in source(folder, data_seed=1).rows() if row.split == "labelled"}
    assert other != {row.key for row in rows if row.split == "labelled"}


def test_the_split_and_the_mapping_are_a_part_of_the_source(tmp_path):
    write_nyu(tmp_path)
    of = source(tmp_path)
    place, etags = of.place(), {row.etag for row in of.rows()}
    assert all(name in place for name in (of.file, of.splits, of.mapping))
    for name in (of.splits, of.mapping):
        os.utime(tmp_path / name, (1, 1))  # another version
        assert of.place() != place
        place = of.place()
    assert {row.etag for row in of.rows()}.isdisjoint(etags)
    assert source(tmp_path, mapping="other.mat").identity() != of.identity()
    assert source(tmp_path, splits="other.mat").identity() != of.identity()


def test_lists_of_numbers_say_the_same_as_the_matlab_file(folder, tmp_path):
    write_nyu(tmp_path, lists="txt")
    named = [(row.key, row.split) for row in source(tmp_path).rows()]
    assert named == [(row.key, row.split) for row in source(folder).rows()]


def test_axes_are_those_of_the_picture_and_distances_are_metres(folder):
    of = source(folder, has_depth_on_labelled=True)
    row = next(iter(of.rows()))
    read = pickle.loads(pickle.dumps(of.reader(SPEC))).read(manifest_row(row))
    rgb, depth, mask = (read.arrays[name] for name in ("rgb", "depth", "mask"))
    assert rgb.shape == (24, 32, 3) and (rgb[:, :4, 0] == 255).all()
    assert (rgb[:, 4:] < 120).all() and (mask[:, :4] == 255).all()
    box = np.isclose(depth[..., 0], 1.5, atol=0.01)
    assert np.isclose(depth[..., 0][~box], 4.0, atol=0.01).all()
    assert box.sum() == 64 and set(mask[box].tolist()) <= {28, 39}
    assert (mask[:4, 4:] == 0).all() and (mask[-1, 4:] == 1).all()


def test_names_become_40_or_13_classes_by_the_official_mapping(folder):
    of_13 = source(folder, num_classes=13)
    assert of_13.label_space.classes[11] == "wall"
    row = manifest_row(next(iter(of_13.rows())))
    mask_13 = of_13.reader(SPEC).read(row).arrays["mask"]
    mask_40 = source(folder).reader(SPEC).read(row).arrays["mask"]
    expected = {255: 255, 0: 11, 1: 4, 28: 6, 39: 6}
    for of_40, index in expected.items():
        assert (mask_13[mask_40 == of_40] == index).all()
    assert set(np.unique(mask_40)) <= set(expected)


def test_the_labelled_split_has_pictures_alone_unless_it_is_to_have_depth(folder):
    row = next(row for row in source(folder).rows() if row.split == "labelled")
    read = source(folder).reader(SPEC).read(manifest_row(row))
    assert set(read.arrays) == {"rgb", "mask"} and read.missing == {"depth": "withheld"}


def test_what_is_missing_or_spoilt_is_named_with_the_way_out(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"source\.root is not set.*nyu_depth_v2_labeled\.mat"):
        NyuDepthMatSource(None)
    write_nyu(tmp_path)
    (tmp_path / "classMapping40.mat").unlink()
    with pytest.raises(ConfigError, match=r"source\.mapping=classMapping40\.mat is not in"):
        list(source(tmp_path).rows())
    savemat(tmp_path / "classMapping40.mat", {"mapClass": np.array([[1, 2]])})
    of = source(tmp_path)
    row = manifest_row(next(iter(of.rows())))
    with pytest.raises(MediaError, match=r"has no class in source\.mapping"):
        of.reader(SPEC).read(row)
    savemat(tmp_path / "classMapping40.mat", {"classes": np.array([[1]])})
    with pytest.raises(ConfigError, match=r"no variable mapClass, only \['classes'\]"):
        of.reader(SPEC)
    savemat(tmp_path / "splits.mat", {"trainNdxs": [[1, 2]], "testNdxs": [[2]]})
    with pytest.raises(ConfigError, match=r"source\.splits: the lists name 3 samples"):
        list(source(tmp_path).rows())
    put(tmp_path / "splits.mat", b"MATLAB")
    with pytest.raises(ConfigError, match=r"splits\.mat .* is no MATLAB file"):
        list(source(tmp_path).rows())
    (tmp_path / "splits.mat").unlink()
    with pytest.raises(ConfigError, match=r"official split=train\.txt is not in"):
        list(source(tmp_path).rows())
    put(tmp_path / "nyu_depth_v2_labeled.mat", b"<html>")
    put(tmp_path / "train.txt", b"1")
    put(tmp_path / "test.txt", b"2")
    with pytest.raises(ConfigError, match=r"cannot be opened as an HDF5 file.*fetch"):
        list(source(tmp_path).rows())
    with pytest.raises(ConfigError, match=r"source\.labelled=40.*34 samples of the training list"):
        list(source(folder, labelled=40).rows())
    with pytest.raises(ConfigError, match=r"decode\.rgb\.kind=depth"):
        source(folder).reader({"rgb": SPEC["depth"]})
