"""Tests of picture files that hold distances and class ids."""

import io

import numpy as np
import pytest
from PIL import Image

from mke_ray.data.pairs import PairsSource
from mke_ray.data.scene_files import DepthFiles, MaskFiles
from mke_ray.errors import ConfigError, MediaError
from mke_ray.schema import DepthSpec, LabelKind, LabelSpace, MaskSpec

SPACE = LabelSpace(("bed", "wall"), LabelKind.DENSE, 255)


def saved(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def reason_of(read, *given):
    with pytest.raises(MediaError) as error:
        read(*given)
    return error.value


@pytest.mark.parametrize(("dtype", "step"), [(np.uint8, 0.04), (np.uint16, 0.001)])
def test_depth_is_read_in_metres_of_either_number_of_bits(dtype, step):
    steps = np.full((8, 8), 200, dtype)
    steps[:, 4:] = 100
    depth = DepthFiles(step).read(saved(steps), DepthSpec(8, 8))
    assert depth.shape == (8, 8, 1)
    assert np.allclose(depth[:, :4], 200 * step) and np.allclose(depth[:, 4:], 100 * step)


def test_unknown_pixels_do_not_count_where_depth_is_shrunk():
    steps = np.full((8, 8), 100, np.uint8)
    steps[0, 0] = 0
    steps[4:, 4:] = 0
    depth = DepthFiles(0.01).read(saved(steps), DepthSpec(2, 2))[:, :, 0]
    assert np.allclose(depth, [[1, 1], [1, 0]], atol=1e-5)


def test_class_ids_are_mapped_and_255_counts_for_nothing():
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    for mapping in ([1, 0, 255], {0: 1, 1: 0, 2: 255}):
        mask = MaskFiles.of(SPACE, mapping).read(saved(ids), MaskSpec(2, 2))
        assert mask.dtype == np.uint8
        assert mask.tolist() == [[1, 0], [255, 255]]


def test_class_maps_are_resized_by_the_nearest_pixel():
    ids = np.repeat(np.repeat(np.array([[0, 1], [255, 0]], np.uint8), 4, 0), 4, 1)
    files = MaskFiles.of(SPACE, None)
    assert files.read(saved(ids), MaskSpec(2, 2)).tolist() == [[0, 1], [255, 0]]
    assert np.array_equal(files.read(saved(ids[::4, ::4]), MaskSpec(8, 8)), ids)
    assert set(np.unique(files.read(saved(ids), MaskSpec(3, 5)))) <= {0, 1, 255}


def test_a_pixel_value_of_no_class_is_no_class_map():
    ids = np.array([[0, 7]], np.uint8)
    error = reason_of(MaskFiles.of(SPACE, None).read, saved(ids), MaskSpec(1, 2))
    assert error.reason == "unknown_class" and "[7]" in str(error)
    assert (
        reason_of(
            MaskFiles.of(SPACE, None).read, saved(np.array([[0, 300]], np.uint16)), MaskSpec(1, 2)
        ).reason
        == "unknown_class"
    )


def test_pictures_in_colour_and_files_that_are_none_are_refused():
    colour = saved(np.zeros((4, 4, 3), np.uint8))
    for read, spec in (
        (DepthFiles().read, DepthSpec(4, 4)),
        (MaskFiles.of(SPACE, None).read, MaskSpec(4, 4)),
    ):
        assert reason_of(read, colour, spec).reason == "unsupported"
        assert reason_of(read, b"", spec).reason == "empty"
        assert reason_of(read, saved(np.zeros((4, 4), np.uint8))[:40], spec).reason == "truncated"


@pytest.mark.parametrize("mapping", [[0, 1, 2], {300: 0}, {0: -1}])
def test_a_mapping_to_no_class_is_refused(mapping):
    with pytest.raises(ConfigError, match=r"source\.mapping"):
        MaskFiles.of(SPACE, mapping)


def test_numbers_of_depth_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="metres_per_step=0"):
        DepthFiles(0)
    with pytest.raises(ConfigError, match="view_deg=180"):
        DepthFiles(0.001, 180)


@pytest.mark.parametrize("value", [-1.0, 0.5, 256.0])
def test_a_pixel_value_that_is_no_id_is_refused(value):
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.float32)).save(file, format="TIFF")
    with pytest.raises(MediaError, match="unknown_class"):
        MaskFiles.of(SPACE, None).read(file.getvalue(), MaskSpec(4, 4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"withheld": {"labeled": ["depth"]}}, r"source\.withheld\.labeled is no split"),
        ({"withheld": {"labelled": ["dpeth"]}}, r"'dpeth' is no modality of source\.files"),
        ({"withheld": {"labelled": ["mask"]}}, r"'mask' is no modality of source\.files"),
        ({"depth": {"metre_per_step": 0.01}}, r"source\.depth=.*metres_per_step"),
    ],
)
def test_what_a_source_of_scenes_misspells_is_named(given, message):
    files = {"rgb": "rgb/{key}.jpg", "depth": "depth/{key}.png", "mask": "label/{key}.png"}
    with pytest.raises(ConfigError, match=message):
        PairsSource(
            root="/nowhere", files=files, classes=["bed", "wall"], label_kind="dense", **given
        )
