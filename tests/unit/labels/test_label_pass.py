"""The pass over a label store of many classes, and of dense labels."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit
from training_stores import ToySource

from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.errors import ConfigError
from mke_ray.labels.decisions import decisions_of_pixels
from mke_ray.labels.dense import DenseForm, dense_columns, labels_schema
from mke_ray.labels.label_pass import statistics_of
from mke_ray.labels.label_statistics import LabelStatistics
from mke_ray.labels.label_weights import FreeMatch
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LABELS_SCHEMA, LabelKind, LabelSpace
from mke_ray.storage import Root, open_root

MANY = LabelSpace(("x", "y", "z"), LabelKind.MULTI)
PIXELS = LabelSpace(("x", "y", "z"), LabelKind.DENSE, 255)
FORM = DenseForm(3, 2, 2, 2)
NUM = 9


@pytest.fixture
def root(tmp_path) -> Root:
    return open_root(str(tmp_path))


def stored(root: Root, space: LabelSpace, logits: list[Any]) -> tuple[Manifest, UnitStore]:
    """Write labels of the unlabeled samples in units of four; a sample of None has no label."""
    source = ToySource({"labelled": 4, "unlabeled": NUM}, space)
    manifest = write_manifest(root.child("manifest"), source, unit_size=4)
    form = FORM if space.kind == LabelKind.DENSE else None
    spec: dict[str, Any] = {"label_space": space.to_dict()}
    spec |= {} if form is None else {"dense": form.to_dict()}
    schema = labels_schema(form, LABELS_SCHEMA)
    store = UnitStore.open_or_create(root.child("labels", "t"), spec=spec, schema=schema)
    for ref in manifest.unit_refs():
        rows = manifest.read_unit(ref)
        said = [logits[int(row.key.split("/")[1])] for row in rows]
        columns: dict[str, Any] = {"logits": said}
        if form is not None:
            columns = dense_columns([None if one is None else form.pack(one) for one in said])
        ids = {"sample_id": [row.sample_id for row in rows], "status": ["ok"] * len(rows)}
        store.commit(ref.unit, pa.table({**ids, **columns}, schema=schema), {"split": ref.split})
    store.write_index(store.committed())
    return manifest, store


def test_of_many_classes_each_has_statistics_of_its_own(root):
    logits_NC = np.random.default_rng(0).normal(0, 2, (NUM, 3)).astype(np.float32)
    manifest, store = stored(root, MANY, [*logits_NC[:-1], None])
    found = statistics_of(manifest, store, temperature=1.0)
    p_NC = expit(logits_NC[:-1].astype(np.float64))
    assert found.num == NUM - 1
    assert found.mean_KL[:, 1] == pytest.approx(p_NC.mean(axis=0))
    assert found.confidence_K == pytest.approx(np.maximum(p_NC, 1 - p_NC).mean(axis=0))
    assert found.count_KLB[:, 1].sum(axis=1).tolist() == (p_NC > 0.5).sum(axis=0).tolist()
    thresholds = FreeMatch().fit(found)["threshold"]
    assert np.shape(thresholds) == (3, 2)


def test_of_dense_labels_every_pixel_counts(root):
    logits = np.random.default_rng(0).normal(0, 2, (NUM, 3, 2, 2))
    manifest, store = stored(root, PIXELS, [*logits[:-1], None])
    found = statistics_of(manifest, store, temperature=2.0)
    pixels = [
        decisions_of_pixels(FORM.soft(FORM.pack(one), temperature=2.0)) for one in logits[:-1]
    ]
    expected = LabelStatistics.of(np.concatenate(pixels))
    assert found.num == expected.num == (NUM - 1) * 4
    assert found.mean_KL == pytest.approx(expected.mean_KL)
    assert found.variance == pytest.approx(expected.variance)
    assert np.array_equal(found.count_KLB, expected.count_KLB)


def test_without_any_label_there_is_nothing_to_go_by(root):
    manifest, store = stored(root, MANY, [None] * NUM)
    with pytest.raises(ConfigError, match=r"labels\.weight and labels\.alignment"):
        statistics_of(manifest, store, temperature=1.0)
