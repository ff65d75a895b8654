"""The pieces of benchmarks/real_teacher.py that compute; its run takes minutes."""

import sys
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from composed import REPOSITORY

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
sys.path.append(str(REPOSITORY / "benchmarks"))

import ocr_symbols
from real_teacher import LOOKALIKES, REST, teacher_of

from mke_ray.models.class_tables import by_teacher_class

SHARES = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 5))  # [B, T, V]


def spelled(path):
    """Return the text of a path: repeats are one symbol, blanks are none."""
    return [one for before, one in zip((None, *path), path, strict=False) if one not in (before, 0)]


def test_the_share_of_one_symbol_is_that_of_all_its_paths():
    found = ocr_symbols.just_one(SHARES, [1, 3])
    for sample, (column, symbol) in product(range(2), enumerate([1, 3])):
        by_hand = sum(
            np.prod([SHARES[sample, step, one] for step, one in enumerate(path)])
            for path in product(range(4), repeat=5)
            if spelled(path) == [symbol]
        )
        assert found[sample, column] == pytest.approx(by_hand, rel=1e-9)


class Session:
    """A network that is sure of the symbol in place ``int(mean)``."""

    def run(self, _, inputs):
        self.seen = inputs["x"]
        share = np.full((len(self.seen), 5, 4), 0.01, np.float32)
        share[:, :, 0], share[:, 2, 0], share[:, 2, 2] = 0.97, 0.01, 0.97
        return [share]


def test_a_picture_is_read_as_a_symbol_or_as_anything_else(monkeypatch):
    session = Session()
    monkeypatch.setattr(ocr_symbols, "_session", lambda _: (session, ["a", "b", "c"]))
    pictures = np.full((70, 28, 28, 3), 255, np.uint8)
    found = ocr_symbols.read_one(pictures, model="x", symbols=["c", "b"])
    assert session.seen.shape == (6, 3, 48, 48) and session.seen.max() == 1.0
    assert found.shape == (70, 3) and found[0].argmax() == 1
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-5)


def test_the_table_has_every_digit_and_no_symbol_twice():
    spec = teacher_of("x.onnx")
    table = by_teacher_class(spec["table"])
    symbols = spec["teacher"]["classes"]
    assert sorted(set(table.values())) == list("0123456789") == sorted(LOOKALIKES)
    assert set(symbols) - set(table) == {REST} and len(symbols) == len(set(symbols))
    assert SimpleNamespace(**spec["teacher"]["settings"]).symbols == symbols[:-1]
