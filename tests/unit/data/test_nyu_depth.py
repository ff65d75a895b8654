"""Tests of NYU Depth V2 as folders of pictures, on a tiny one."""

from collections import Counter

import numpy as np
import pytest
from dense_world import DECODE, NUM_TEST, NUM_TRAIN, write_folders
from PIL import Image

from mke_ray.data.manifest import manifest_row
from mke_ray.data.nyu_depth import NyuDepthSource
from mke_ray.data.pairs import PairsSource
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import decode_spec_from_dict

SPEC = decode_spec_from_dict(DECODE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyu")
    write_folders(folder)
    return folder


def source(folder, **keys):
    return NyuDepthSource(str(folder), **{"labelled": 4, "probe": 3, **keys})


def keys_of(rows, split):
    return {row.key for row in rows if row.split == split}


def test_the_test_list_is_the_test_split_and_the_seed_draws_the_others(folder):
    rows = list(source(folder).rows())
    counts = Counter(row.split for row in rows)
    assert counts == {"labelled": 4, "probe": 3, "unlabeled": 7, "test": NUM_TEST}
    assert keys_of(rows, "test") == {f"{NUM_TRAIN + n:04d}" for n in range(NUM_TEST)}
    assert len({row.key for row in rows}) == NUM_TRAIN + NUM_TEST
    assert all(row.labels == () and row.group == row.key and row.etag for row in rows)
    assert rows == list(source(folder).rows())
    other = list(source(folder, data_seed=1).rows())
    assert keys_of(other, "labelled") != keys_of(rows, "labelled")
    assert keys_of(other, "test") == keys_of(rows, "test")
    assert list(source(folder).rows(after=rows[8].cursor)) == rows[9:]
    fewer = Counter(row.split for row in source(folder, unlabeled=2).rows())
    assert fewer["unlabeled"] == 2


def test_the_labelled_split_has_pictures_alone_unless_it_is_to_have_depth(folder):
    row = next(row for row in source(folder).rows() if row.split == "labelled")
    alone = source(folder).reader(SPEC).read(manifest_row(row))
    assert set(alone.arrays) == {"rgb", "mask"} and alone.missing == {"depth": "withheld"}
    paired = source(folder, has_depth_on_labelled=True).reader(SPEC).read(manifest_row(row))
    assert set(paired.arrays) == {"rgb", "depth", "mask"}


@pytest.mark.parametrize(("num_classes", "wall", "floor"), [(13, 11, 4), (40, 0, 1)])
def test_class_ids_become_the_classes_of_either_labelling(folder, num_classes, wall, floor):
    of_classes = source(folder, num_classes=num_classes)
    space = of_classes.label_space
    assert (space.num_classes, space.ignore) == (num_classes, 255)
    assert (space.classes[wall], space.classes[floor]) == ("wall", "floor")
    row = next(iter(of_classes.rows()))
    mask = of_classes.reader(SPEC).read(manifest_row(row)).arrays["mask"]
    assert (mask[:, :4] == 255).all()
    assert (mask[0, 4:] == wall).all() and (mask[-1, 4:] == floor).all()


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"train\.txt is not in source\.root=.*NYU Depth V2"):
        list(source(tmp_path).rows())
    with pytest.raises(ConfigError, match=r"source\.labelled=20.*14 samples"):
        list(source(folder, labelled=20).rows())
    with pytest.raises(ConfigError, match="choose 13 or 40"):
        source(folder, num_classes=20)
    with pytest.raises(ConfigError, match=r"add decode\.mask"):
        source(folder).reader({"rgb": SPEC["rgb"]})


def test_the_identity_follows_the_draw_and_the_classes(folder):
    mine = source(folder).identity()
    changes = ({"data_seed": 1}, {"num_classes": 40}, {"has_depth_on_labelled": True})
    assert all(source(folder, **one).identity() != mine for one in changes)


def write_pairs(folder, *keys):
    for key in keys:
        for name in ("rgb", "mask"):
            (folder / name / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(folder / f"rgb/{key}.png")


def test_folders_of_ones_own_have_labels_where_there_are_class_maps(tmp_path):
    write_pairs(tmp_path, "labelled/a", "unlabeled/b", "unlabeled/c")
    for key in ("labelled/a", "unlabeled/c"):
        Image.fromarray(np.ones((6, 8), np.uint8)).save(tmp_path / f"mask/{key}.png")
    files = {"rgb": "rgb/{key}.png", "mask": "mask/{key}.png"}
    keys = {"label_kind": "dense", "mapping": [255, 0]}
    pairs = PairsSource(str(tmp_path), files, ["x", "y"], **keys)
    rows = list(pairs.rows())
    assert [(row.key, row.labels) for row in rows] == [
        ("labelled/a", ()),
        ("unlabeled/b", None),
        ("unlabeled/c", ()),
    ]
    reader = pairs.reader({name: SPEC[name] for name in files})
    assert (reader.read(manifest_row(rows[0])).arrays["mask"] == 0).all()
    assert reader.read(manifest_row(rows[1])).missing == {"mask": "missing_file"}
    (tmp_path / "mask/labelled/a.png").unlink()
    with pytest.raises(ConfigError, match=r"labelled/a: .*needs a label"):
        list(pairs.rows())
    with pytest.raises(ConfigError, match=r"source\.files\.mask.*label_kind=dense"):
        PairsSource(str(tmp_path), files, ["x", "y"])


def test_a_class_map_that_cannot_be_read_makes_a_labelled_sample_bad(tmp_path):
    write_pairs(tmp_path, "labelled/a", "unlabeled/b")
    for key in ("labelled/a", "unlabeled/b"):
        (tmp_path / f"mask/{key}.png").write_bytes(b"none")
    files = {"rgb": "rgb/{key}.png", "mask": "mask/{key}.png"}
    pairs = PairsSource(str(tmp_path), files, ["x", "y"], label_kind="dense")
    labelled, unlabeled = (manifest_row(row) for row in pairs.rows())
    reader = pairs.reader({name: SPEC[name] for name in files})
    with pytest.raises(MediaError, match="true classes"):
        reader.read(labelled)
    assert reader.read(unlabeled).missing == {"mask": "unsupported"}


def test_a_root_that_is_not_set_says_what_it_has_to_be():
    with pytest.raises(ConfigError, match=r"source\.root is not set; it has to be a folder of NYU"):
        NyuDepthSource(None)
