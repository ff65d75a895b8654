"""Tests of dense targets that are made for the rows that are wanted."""

import numpy as np

from mke_ray.labels.dense import DenseForm
from mke_ray.train.dense_targets import OneHotRows, SoftRows

FORM = DenseForm(3, 2, 2, 2)


def test_probabilities_of_rows_come_in_the_order_asked_for_with_zeros_for_none():
    logits = np.random.default_rng(0).normal(0, 2, (2, 3, 2, 2)).astype(np.float32)
    packed = [FORM.pack(logits[0]), None, FORM.pack(logits[1])]
    rows = SoftRows(packed, FORM, temperature=2.0)
    found = rows[np.array([2, 1, 0])]
    assert found.shape == (3, 3, 2, 2) and found.dtype == np.float32
    assert np.array_equal(found[0], FORM.soft(packed[2], temperature=2.0))
    assert (found[1] == 0).all()
    assert rows.nbytes == 2 * FORM.num_bytes


def test_class_maps_become_one_hot_and_255_becomes_zero():
    masks = np.array([[[0, 2], [255, 1]], [[1, 1], [1, 1]]], np.uint8)
    found = OneHotRows(masks, 3)[np.array([0])]
    assert found[0, :, 0, 1].tolist() == [0, 0, 1]
    assert found[0, :, 1, 0].tolist() == [0, 0, 0]
    assert found.sum() == 3
