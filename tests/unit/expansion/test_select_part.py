"""What temperature and exponents are chosen by: the select part alone, each row by its own fold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from training_stores import CLASSES, LABELS, logits_of, make_run, number_of

from mke_ray.data.manifest import Manifest
from mke_ray.expansion.before_witnesses import folds_of, prior_of
from mke_ray.expansion.select_part import select_part
from mke_ray.labels.folds import even_folds
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LABELS_SCHEMA, Split
from mke_ray.storage import Root, open_root

NUM_FOLDS = 3
FOLDS = even_folds(NUM_FOLDS)
SCHEMA = pa.schema([pa.field("sample_id", pa.int64()), pa.field("w", pa.list_(pa.float32()))])


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(str(tmp_path))


@pytest.fixture
def manifest(root: Root) -> Manifest:
    return make_run(root, {"unlabeled": 60, "probe": 80})


def labels(root: Root) -> UnitStore:
    return UnitStore.open(root.child("labels", LABELS))


def rows_of(manifest: Manifest, split: str):
    return [row for ref in manifest.unit_refs([split]) for row in manifest.read_unit(ref)]


def said_store(root: Root, manifest: Manifest) -> UnitStore:
    """The net of fold k says class k."""
    store = UnitStore.open_or_create(root.child("said"), spec={}, schema=SCHEMA)
    said = np.eye(len(CLASSES)).reshape(-1).tolist()
    for ref in manifest.unit_refs([Split.PROBE]):
        ids = [row.sample_id for row in manifest.read_unit(ref)]
        table = pa.table({"sample_id": ids, "w": [said] * len(ids)}, schema=SCHEMA)
        store.commit(ref.unit, table, {"split": ref.split})
    return store


def test_only_labelled_rows_of_the_select_part_count(root, manifest):
    found = select_part(manifest, labels(root), fraction=0.5)
    wanted = [
        row
        for row in rows_of(manifest, Split.PROBE)
        if probe_part(row.group) == SELECT and number_of(row) % 11 != 10
    ]
    assert 0 < len(found) == len(wanted) < 80
    assert found.groups == [row.group for row in wanted]
    assert found.truth_NC.argmax(axis=1).tolist() == [row.labels[0] for row in wanted]
    np.testing.assert_allclose(found.teacher_NC, [logits_of(row) for row in wanted], rtol=1e-6)


def test_what_all_folds_say_is_there_for_each(root, manifest):
    found = select_part(manifest, labels(root), fraction=0.5)
    said = found.said(said_store(root, manifest), "w", FOLDS, num_witnesses=1, is_own=False)
    assert said.shape == (NUM_FOLDS, 1, len(found), len(CLASSES))
    assert [one.argmax() for one in said[:, 0, 0]] == [0, 1, 2]


def test_of_rows_that_witnesses_learnt_only_their_own_fold_counts(root, manifest):
    found = select_part(manifest, labels(root), fraction=0.5)
    said = found.said(said_store(root, manifest), "w", FOLDS, num_witnesses=1, is_own=True)
    assert said.shape == (1, 1, len(found), len(CLASSES))
    wanted = [FOLDS.fold_of(group) for group in found.groups]
    assert said[0, 0].argmax(axis=1).tolist() == wanted and len(set(wanted)) > 1


def test_without_a_probe_nothing_is_there(root):
    manifest = make_run(root, {"unlabeled": 20})
    found = select_part(manifest, labels(root), fraction=0.5)
    assert len(found) == 0 and found.teacher_NC.shape == (0, len(CLASSES))


def test_the_prior_is_the_mean_of_the_teachers_probabilities(root, manifest):
    rows = [row for row in rows_of(manifest, Split.UNLABELED) if logits_of(row) is not None]
    logits_NC = np.asarray([logits_of(row) for row in rows], np.float64) / 2.0
    by_hand = np.exp(logits_NC) / np.exp(logits_NC).sum(axis=1, keepdims=True)
    found = prior_of(manifest, labels(root), temperature=2.0)
    np.testing.assert_allclose(found, by_hand.mean(axis=0), rtol=1e-5)


def test_folds_hold_about_equally_many_unlabeled_rows(manifest):
    folds = folds_of(manifest, NUM_FOLDS, seed=0)
    found = [folds.fold_of(row.group) for row in rows_of(manifest, Split.UNLABELED)]
    assert all(16 <= found.count(fold) <= 24 for fold in range(NUM_FOLDS))


def test_of_very_many_groups_the_hash_alone_makes_folds(manifest, monkeypatch):
    monkeypatch.setattr("mke_ray.expansion.before_witnesses._MOST_GROUPS", 5)
    assert folds_of(manifest, NUM_FOLDS, seed=4) == even_folds(NUM_FOLDS, seed=4)


def test_what_further_teachers_say_lies_beside_it(root, manifest):
    store = UnitStore.open_or_create(root.child("labels", "t2"), spec={}, schema=LABELS_SCHEMA)
    for ref in manifest.unit_refs([Split.PROBE]):
        ids = [row.sample_id for row in manifest.read_unit(ref)]
        logits = [None if one % 2 else [float(one % 1000), 0.0, 1.0] for one in ids]
        columns = {"sample_id": ids, "status": ["ok"] * len(ids), "logits": logits}
        store.commit(ref.unit, pa.table(columns, schema=LABELS_SCHEMA), {"split": ref.split})
    found = select_part(manifest, labels(root), fraction=0.5, more=[store])
    wanted = [
        row.sample_id
        for row in rows_of(manifest, Split.PROBE)
        if probe_part(row.group) == SELECT and number_of(row) % 11 != 10
    ]
    assert found.further_KNC.shape == (1, len(wanted), 3)
    first = [np.nan if one % 2 else one % 1000 for one in wanted]
    np.testing.assert_array_equal(found.further_KNC[0, :, 0], first)
    alone = select_part(manifest, labels(root), fraction=0.5)
    assert alone.further_KNC.shape == (0, len(wanted), 3)
