"""Tests of dense labels as they are stored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels.dense import DenseForm, dense_form, dense_size
from mke_ray.schema import (
    AudioSpec,
    DepthSpec,
    ImageSpec,
    LabelKind,
    LabelSpace,
    MaskSpec,
)

SPACE = LabelSpace(("a", "b", "c", "d", "e"), LabelKind.DENSE, 255)


def softmax(logits_CHW, temperature=1.0):
    exp = np.exp((logits_CHW - logits_CHW.max(axis=0)) / temperature)
    return exp / exp.sum(axis=0)


def logits_of(seed, num_classes=5, scale=3.0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, scale, (num_classes, 4, 6)).astype(np.float32)


@given(st.integers(0, 99), st.integers(1, 5), st.floats(0.1, 100))
@settings(deadline=None, max_examples=30)
def test_what_is_kept_comes_back_and_the_rest_is_shared_equally(seed, top_k, scale):
    logits, form = logits_of(seed, scale=scale), DenseForm(5, 4, 6, top_k)
    packed = form.pack(logits)
    soft, expected = form.soft(packed), softmax(logits.astype(np.float64))
    assert soft.dtype == np.float32 and np.allclose(soft.sum(axis=0), 1, atol=1e-5)
    order = np.argsort(-logits, axis=0, kind="stable")
    kept = np.take_along_axis(soft, order[:top_k], axis=0)
    assert np.allclose(kept, np.take_along_axis(expected, order[:top_k], axis=0), atol=2e-3)
    others = np.take_along_axis(soft, order[top_k:], axis=0)
    assert np.allclose(others, others[:1] if len(others) else others, atol=1e-6)
    assert np.array_equal(form.hard(packed[0]), logits.argmax(axis=0))
    assert sum(map(len, packed)) == form.num_bytes


def test_a_temperature_divides_the_logits():
    logits, form = logits_of(0), DenseForm(5, 4, 6, 5)
    soft = form.soft(form.pack(logits), temperature=2.5)
    assert np.allclose(soft, softmax(logits, 2.5), atol=2e-3)


def test_of_equal_logits_the_first_class_counts():
    form = DenseForm(5, 4, 6, 2)
    packed = form.pack(np.zeros((5, 4, 6), np.float32))
    assert (form.hard(packed[0]) == 0).all()
    assert np.allclose(form.soft(packed), 0.2, atol=1e-3)


def test_certainty_beyond_sixteen_bits_is_no_error():
    logits = np.zeros((5, 4, 6), np.float32)
    logits[3] = 1e6
    form = DenseForm(5, 4, 6, 3)
    soft = form.soft(form.pack(logits))
    assert np.isfinite(soft).all() and (soft[3] == 1).all()


def test_pieces_of_another_form_are_refused():
    packed = DenseForm(5, 4, 6, 3).pack(logits_of(0))
    with pytest.raises(StoreError, match=r"72 bytes.*asks for 48"):
        DenseForm(5, 4, 6, 2).hard(packed[0])


def test_labels_lie_on_the_pixels_of_what_the_teacher_reads():
    decode = {"rgb": ImageSpec(4, 6), "mask": MaskSpec(4, 6), "other": DepthSpec(2, 3)}
    assert dense_size(decode, "rgb") == (4, 6)
    assert dense_form(decode, "rgb", label_space=SPACE, top_k=3) == DenseForm(5, 4, 6, 3)
    assert dense_form(decode, "rgb", label_space=LabelSpace(("a", "b")), top_k=99) is None
    with pytest.raises(ConfigError, match=r"decode\.mask is 4 high.*decode\.other is 2 high"):
        dense_size(decode, "other")
    with pytest.raises(ConfigError, match="no height and width"):
        dense_size({"sound": AudioSpec(8000, 1.0)}, "sound")
    with pytest.raises(ConfigError, match=r"labelling\.top_k=6.*5 classes"):
        dense_form(decode, "rgb", label_space=SPACE, top_k=6)
