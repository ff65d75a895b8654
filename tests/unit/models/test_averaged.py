"""Answers averaged over views, against values computed by hand."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from mke_ray.config import build
from mke_ray.errors import ConfigError, StoreError
from mke_ray.models.averaged import ViewAveragedTeacher
from mke_ray.models.computing import Computing
from mke_ray.models.teachers import Teacher, check_needs
from mke_ray.schema import decode_spec_from_dict


class Seeing:
    """Answers with chosen numbers of the array, and remembers what it saw."""

    def __init__(self, kind: str = "image", pick=lambda x: x[:, 0, :2, 0], **needs) -> None:
        self.modality = "seen"
        self.needs = {"kind": kind, **needs}
        self.seen: list[tuple[int, ...]] = []
        self._pick = pick

    def predict(self, arrays_BX):
        assert not isinstance(arrays_BX, np.ndarray) or arrays_BX.flags.c_contiguous
        self.seen.append(tuple(arrays_BX.shape))
        return np.asarray(self._pick(arrays_BX), np.float32)

    def fingerprint(self) -> str:
        return f"seeing {self.needs['kind']}"


PICTURE = np.arange(1 * 2 * 4 * 1, dtype=np.float32).reshape(1, 2, 4, 1)  # first row 0 1 2 3


def test_the_mean_over_a_picture_and_its_mirror_by_hand():
    found = ViewAveragedTeacher(Seeing(), ["identity", "flip"]).predict(PICTURE)
    np.testing.assert_array_equal(found, [[(0 + 3) / 2, (1 + 2) / 2]])
    assert found.dtype == np.float32


def test_it_is_the_mean_of_log_probabilities():
    scores = {0.0: [2.0, 0.0, -1.0], 3.0: [0.0, 1.0, 5.0]}
    teacher = Seeing(pick=lambda x: np.array([scores[float(x[0, 0, 0, 0])]]))
    found = ViewAveragedTeacher(teacher, ["identity", "flip"]).predict(PICTURE)
    by_hand = np.mean([log_softmax(one) for one in scores.values()], axis=0)
    np.testing.assert_allclose(softmax(found[0]), softmax(by_hand), rtol=1e-6)


def test_a_view_that_is_not_named_does_not_count():
    found = ViewAveragedTeacher(Seeing(), ["flip"]).predict(PICTURE)
    np.testing.assert_array_equal(found, [[3, 2]])


def test_a_clip_is_mirrored_from_left_to_right_and_not_in_time():
    clip = np.zeros((1, 3, 2, 4, 3), np.uint8)
    clip[0, 1, 1, 0, 2] = 200
    teacher = Seeing("video", pick=lambda x: x[:, 1, 1, ::3, 2])
    found = ViewAveragedTeacher(teacher, ["flip"]).predict(clip)
    np.testing.assert_array_equal(found, [[0, 200]])


def test_the_sign_of_a_mirrored_angle_changes():
    depth = np.ones((1, 2, 2, 6), np.float32)
    teacher = Seeing("depth", pick=lambda x: x[:, 0, 0], channels="hha")
    found = ViewAveragedTeacher(teacher, ["flip"]).predict(depth)
    np.testing.assert_array_equal(found, [[1, 1, 1, 1, -1, 1]])
    np.testing.assert_array_equal(depth, 1)  # what is stored stays


def test_class_maps_are_mirrored_back():
    teacher = Seeing(pick=lambda x: np.stack([x[..., 0], -x[..., 0]], axis=1))
    found = ViewAveragedTeacher(teacher, ["identity", "flip"]).predict(PICTURE)
    np.testing.assert_array_equal(found[0, 0], PICTURE[0, ..., 0])
    crop = {"type": "spatial_crops", "num": 1, "share": 0.5}
    with pytest.raises(ConfigError, match=r"do not lie on the stored picture.*flip"):
        ViewAveragedTeacher(teacher, [crop]).predict(PICTURE)


def test_crops_in_time_begin_evenly_spaced():
    sound = np.arange(10, dtype=np.float32)[None]
    starts: list[float] = []

    def pick(x):
        starts.append(float(x[0, 0]))
        return x[:, :2]

    teacher = Seeing("audio", pick=pick)
    crops = {"type": "temporal_crops", "num": 3, "share": 0.6}
    found = ViewAveragedTeacher(teacher, [crops]).predict(sound)
    assert starts == [0.0, 2.0, 4.0] and teacher.seen == [(1, 6)] * 3
    np.testing.assert_array_equal(found, [[2.0, 3.0]])
    starts.clear()
    ViewAveragedTeacher(teacher, [{**crops, "num": 1}]).predict(sound)
    assert starts == [2.0]


def test_crops_of_a_picture_are_the_centre_and_the_corners():
    picture = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    corners: list[float] = []

    def pick(x):
        corners.append(float(x[0, 0, 0, 0]))
        return x[:, 0, :, 0]

    crops = {"type": "spatial_crops", "num": 5, "share": 0.5}
    found = ViewAveragedTeacher(Seeing(pick=pick), [crops]).predict(picture)
    assert corners == [5.0, 0.0, 2.0, 8.0, 10.0]
    np.testing.assert_array_equal(found, [[5.0, 6.0]])


def test_tensors_are_taken_like_arrays():
    crops = {"type": "spatial_crops", "num": 2, "share": 0.5}
    args = (Seeing(), ["identity", "flip", crops])
    found = [ViewAveragedTeacher(*args).predict(one) for one in (PICTURE, torch.tensor(PICTURE))]
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize(
    ("kind", "views", "said"),
    [
        ("features", ["flip"], "flip is no view of features"),
        ("audio", ["flip"], "flip is no view of audio"),
        ("image", [{"type": "temporal_crops", "num": 2, "share": 0.5}], "no view of image"),
        ("audio", [{"type": "spatial_crops", "num": 2, "share": 0.5}], "no view of audio"),
        ("image", ["mirror"], "'mirror' is unknown; choose identity, flip"),
        ("image", [], "give 1 to 32 views"),
        ("audio", [{"type": "temporal_crops", "num": 33, "share": 0.5}], "give 1 to 32 views"),
        ("image", [{"type": "flip", "num": 2}], "is unknown"),
        ("image", [{"type": "spatial_crops", "num": 5}], "is unknown"),
        ("image", [{"type": "spatial_crops", "num": 6, "share": 0.5}], "at most 5"),
        ("image", [{"type": "spatial_crops", "num": 0, "share": 0.5}], "give num from 1"),
        ("image", [{"type": "spatial_crops", "num": 2, "share": 1.5}], "share above 0"),
    ],
)
def test_a_view_that_does_not_fit_is_refused(kind, views, said):
    with pytest.raises(ConfigError, match=said):
        ViewAveragedTeacher(Seeing(kind), views)


def test_what_is_stored_has_to_hold_what_the_teacher_needs_of_a_crop():
    crops = {"type": "temporal_crops", "num": 2, "share": 0.75}
    one = ViewAveragedTeacher(Seeing("video", num_frames=8, height=16), ["identity", crops])
    assert one.needs == {"kind": "video", "num_frames": 11, "height": 16}
    assert ViewAveragedTeacher(Seeing("audio", seconds=1.5), [crops]).needs["seconds"] == 2.0
    decode = {"kind": "video", "num_frames": 8, "height": 16, "width": 16}
    with pytest.raises(StoreError, match=r"at least num_frames=11.*decode\.seen\.num_frames is 8"):
        check_needs(one, decode_spec_from_dict({"seen": decode}))
    enough = decode_spec_from_dict({"seen": {**decode, "num_frames": 11}})
    check_needs(one, enough)
    clip = np.zeros((1, 11, 16, 16, 3), np.uint8)
    inner = Seeing("video", pick=lambda x: x[:, 0, 0, 0, :2], num_frames=8)
    ViewAveragedTeacher(inner, [crops]).predict(clip)
    assert {shape[1] for shape in inner.seen} == {9}


def test_its_fingerprint_is_of_teacher_and_views():
    def of(kind="image", views=("identity", "flip")):
        return ViewAveragedTeacher(Seeing(kind), list(views)).fingerprint()

    assert of() == of() and len({of(), of("video"), of(views=["flip"])}) == 3
    assert of() != Seeing().fingerprint()


def test_it_is_a_teacher_that_shows_what_the_other_one_shows():
    inner = Seeing()
    found = ViewAveragedTeacher(inner, ["flip"])
    assert isinstance(found, Teacher) and found.modality == "seen"
    assert not hasattr(found, "network") and not hasattr(found, "label_space")
    with pytest.raises(ConfigError, match="has none"):
        Computing(compile=True).check(found, key="teacher.network")
    inner.network = torch.nn.Linear(1, 1)
    assert found.network is inner.network
    Computing(compile=True).check(found, key="teacher.network")


def test_it_is_built_from_a_configuration():
    inner = {"_target_": "label_fakes.FakeTeacher", "modality": "x", "kind": "image"}
    target = "mke_ray.models.averaged.ViewAveragedTeacher"
    found = build({"_target_": target, "teacher": inner, "views": ["identity", "flip"]}, Teacher)
    np.testing.assert_array_equal(found.predict(PICTURE), [[1.5, 1.0, 2.0]])
