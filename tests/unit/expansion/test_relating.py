"""How unlabeled samples differ from labelled pairs, found by reading two stores unit by unit."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from training_stores import CLASSES, LABELS, logits_of, make_run

from mke_ray.data.manifest import Manifest
from mke_ray.expansion import relating
from mke_ray.labels.derivations import Refinement
from mke_ray.labels.folds import even_folds
from mke_ray.labels.openset import fit_tilt, open_set_scores
from mke_ray.labels.posterior import Posterior
from mke_ray.labels.store import UnitStore
from mke_ray.schema import Split
from mke_ray.storage import Root, open_root

FOLDS = even_folds(3)
POSTERIOR = Posterior(1.0, 1.0, (1.0,), (1 / 3,) * 3)
SCHEMA = pa.schema([pa.field("sample_id", pa.int64()), pa.field("w", pa.list_(pa.float32()))])


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(str(tmp_path))


@pytest.fixture
def manifest(root: Root) -> Manifest:
    return make_run(root, {"unlabeled": 60, "probe": 20})


def said_of(row) -> np.ndarray:
    """What the networks of three folds say of a sample, flattened."""
    rng = np.random.default_rng(abs(row.sample_id))
    return rng.normal(size=3 * len(CLASSES)).astype(np.float32)


def said_store(root: Root, manifest: Manifest) -> UnitStore:
    store = UnitStore.open_or_create(root.child("said"), spec={}, schema=SCHEMA)
    for ref in manifest.unit_refs():
        rows = manifest.read_unit(ref)
        columns = {"sample_id": [row.sample_id for row in rows], "w": [*map(said_of, rows)]}
        store.commit(ref.unit, pa.table(columns, schema=SCHEMA), {"split": ref.split})
    store.write_index(store.committed())
    return store


def scores_by_hand(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for ref in manifest.unit_refs([Split.UNLABELED]) for row in manifest.read_unit(ref)]
    rows = sorted(
        (row for row in rows if logits_of(row) is not None), key=lambda one: one.sample_id
    )
    teacher = np.stack([logits_of(row) for row in rows])
    own = [said_of(row).reshape(3, -1)[FOLDS.fold_of(row.group)] for row in rows]
    return teacher, open_set_scores(POSTERIOR, teacher, np.stack(own)[None])


def found(root: Root, manifest: Manifest, pairs: np.ndarray):
    return relating.find_tilt(
        manifest,
        [UnitStore.open(root.child("labels", LABELS))],
        said_store(root, manifest),
        Refinement("w", FOLDS, POSTERIOR),
        teacher_KC=pairs,
        expert_FMKC=np.stack([pairs, 2 * pairs])[:, None],
        num_groups=9,
    )


PAIRS = np.random.default_rng(4).normal(3.0, 1.0, (12, 3))


def test_every_unlabeled_sample_is_scored_by_its_own_fold(root, manifest):
    _, unlabeled = scores_by_hand(manifest)
    pairs = [open_set_scores(POSTERIOR, PAIRS, scale * PAIRS[None]) for scale in (1, 2)]
    wanted = fit_tilt(np.concatenate(pairs), unlabeled, num_groups=9)
    tilt = found(root, manifest, PAIRS)
    assert tilt.slopes[1] > 0
    assert tilt.slopes == pytest.approx(wanted.slopes, rel=1e-4)
    assert tilt.mean == pytest.approx(wanted.mean) and tilt.share == pytest.approx(wanted.share)
    assert tilt.likelihood_ratio == pytest.approx(wanted.likelihood_ratio, rel=1e-4)


def test_of_many_samples_a_fixed_part_is_enough(root, manifest, monkeypatch):
    monkeypatch.setattr(relating, "_MOST_SAMPLES", 10)
    monkeypatch.setattr(relating, "_UNITS_PER_ROUND", 2)
    _, unlabeled = scores_by_hand(manifest)
    labelled = {row.sample_id for row in _rows(manifest) if logits_of(row) is None}
    smallest = sorted(row.sample_id for row in _rows(manifest))[:10]
    num = sum(one not in labelled for one in smallest)
    assert found(root, manifest, PAIRS).mean == pytest.approx(unlabeled[:num].mean(axis=0))


def _rows(manifest: Manifest):
    return [row for ref in manifest.unit_refs([Split.UNLABELED]) for row in manifest.read_unit(ref)]
