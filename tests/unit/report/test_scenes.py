"""Figures of dense labels: a row per scene, a colour per class, the gain of every class."""

import io

import numpy as np
from PIL import Image

from mke_ray.evaluation import TEACHER, ArmResult, DenseExample
from mke_ray.report.scenes import Scene, class_gain_picture, coloured, scenes_picture

CLASSES = ("bed", "wall", "floor")


def _scene(kind="corrected", depth=True):
    generator = np.random.default_rng(0)
    example = DenseExample(kind, "u", 0, 1, "0042", corrected=0.31, corrupted=0.05)
    picture = generator.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    maps = {name: generator.integers(0, 3, (6, 8)) for name in ("Truth", "Teacher", "MKE")}
    return Scene(example, {"rgb": picture, "depth": picture if depth else None}, maps)


def _arm(arm, ious):
    return ArmResult(arm, 0.5, None, 4, 4, class_ious=ious)


def test_the_figure_says_in_words_what_it_shows():
    picture = scenes_picture([_scene(), _scene("corrupted", depth=False)], CLASSES)
    assert "RGB, Depth, Truth, Teacher, MKE" in picture.alt
    assert "most corrected 0042: 31% corrected, 5% corrupted" in picture.alt
    assert Image.open(io.BytesIO(picture.png)).width > 1000


def test_without_scenes_there_is_no_figure():
    assert scenes_picture([], CLASSES) is None


def test_classes_have_colours_of_their_own_and_ignored_pixels_another():
    shown = coloured(np.array([[*range(13), 255]]), 13)[0]
    assert len({tuple(one) for one in shown.tolist()}) == 14


def test_classes_are_drawn_in_the_order_of_their_gain():
    arms = {TEACHER: _arm(TEACHER, (0.5, 0.2, 0.4)), "mke": _arm("mke", (0.45, 0.5, 0.5))}
    picture = class_gain_picture(arms, shipped="mke", classes=CLASSES)
    places = [picture.alt.index(name) for name in ("wall", "floor", "bed")]
    assert places == sorted(places)
    assert "wall 20.0% to 50.0%" in picture.alt


def test_a_class_that_never_occurs_has_no_number():
    arms = {TEACHER: _arm(TEACHER, (0.5, float("nan"))), "mke": _arm("mke", (0.5, float("nan")))}
    assert "wall none to none" in class_gain_picture(arms, shipped="mke", classes=CLASSES[:2]).alt


def test_labels_that_are_not_dense_have_no_figure_of_classes():
    arms = {TEACHER: _arm(TEACHER, ()), "mke": _arm("mke", ())}
    assert class_gain_picture(arms, shipped="mke", classes=CLASSES) is None
