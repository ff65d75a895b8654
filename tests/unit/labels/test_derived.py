"""Derived labels: own folds, the same rows as the manifest, and nothing done twice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import log_softmax
from training_stores import CLASSES, LABELS, make_run, number_of

from mke_ray.data.manifest import Manifest
from mke_ray.errors import StoreError
from mke_ray.labels.derivations import Combination, Ensemble, Refinement
from mke_ray.labels.derived import DerivedPlan, derive, logits_of
from mke_ray.labels.folds import balanced_folds
from mke_ray.labels.openset import LEAST_WEIGHT, Tilt
from mke_ray.labels.posterior import FurtherTeacher, Posterior
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LABELS_SCHEMA, WEIGHT, Split
from mke_ray.storage import Root, open_root

NUM_FOLDS = 3
GROUPS = [f"unlabeled-{number}" for number in range(10)]
FOLDS = balanced_folds(GROUPS, [4] * 10, NUM_FOLDS)
POSTERIOR = Posterior(1.0, 0.0, (1.0,), (1 / 3,) * 3)  # the witness alone decides
TILT = Tilt((0.0, 0.0), (1.0, 1.0), (1.0, 0.0), 0.5, 0.25, 9.0)
SAID_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("w", pa.list_(pa.float32())),
        pa.field("m", pa.list_(pa.float32())),
    ]
)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(str(tmp_path))


@pytest.fixture
def manifest(root: Root) -> Manifest:
    return make_run(root, {"unlabeled": 40, "probe": 8})


def votes(num: int, *, lacking: frozenset[int] = frozenset()) -> list[list[float] | None]:
    """The net of fold k is sure of class k."""
    sure = (10.0 * np.eye(len(CLASSES))).reshape(-1).tolist()
    return [None if number in lacking else sure for number in range(num)]


def said_store(root: Root, manifest: Manifest, lacking: frozenset[int] = frozenset()) -> UnitStore:
    store = UnitStore.open_or_create(
        root.child("predictions", "p"), spec={"fits": ["w", "m"]}, schema=SAID_SCHEMA
    )
    for ref in manifest.unit_refs():
        ids = [row.sample_id for row in manifest.read_unit(ref)]
        columns = {
            "sample_id": ids,
            "status": ["ok"] * len(ids),
            "w": votes(len(ids), lacking=lacking),
            "m": [[1.0, 2.0, 3.0]] * len(ids),
        }
        store.commit(ref.unit, pa.table(columns, schema=SAID_SCHEMA), {"split": ref.split})
    store.write_index(store.committed())
    return store


def plan_of(root: Root, manifest: Manifest, **changes) -> DerivedPlan:
    teacher = UnitStore.open(root.child("labels", LABELS))
    teacher.spec.update({"samples": "s", "label_space": manifest.label_space.to_dict()})
    plain = {"derivation": Refinement("w", FOLDS, POSTERIOR), **changes}
    said = plain.pop("said", None) or said_store(root, manifest)
    return DerivedPlan(root, manifest, teacher, said, **plain)


def rows_of(store: UnitStore, manifest: Manifest, split: str):
    for ref in manifest.unit_refs([split]):
        table = store.read(ref.unit)
        yield from zip(manifest.read_unit(ref), table.column("logits").to_pylist(), strict=True)


def test_every_unlabeled_sample_is_judged_by_the_network_of_its_own_fold(root, manifest):
    store = derive(plan_of(root, manifest), manifest.unit_refs())
    for row, logits in rows_of(store, manifest, Split.UNLABELED):
        if logits is not None:
            assert int(np.argmax(logits)) == FOLDS.fold_of(row.group)


def test_other_samples_are_judged_by_all_folds(root, manifest):
    store = derive(plan_of(root, manifest), manifest.unit_refs())
    for _, logits in rows_of(store, manifest, Split.PROBE):
        np.testing.assert_allclose(logits, [np.log(1 / 3)] * 3, atol=1e-6)


def test_what_the_teacher_did_not_label_stays_without_a_label(root, manifest):
    store = derive(plan_of(root, manifest), manifest.unit_refs())
    for row, logits in rows_of(store, manifest, Split.UNLABELED):
        assert (logits is None) == (number_of(row) % 11 == 10)


def test_a_unit_of_which_no_witness_saw_anything_keeps_the_labels_of_the_teacher(root, manifest):
    refinement = Refinement("w", FOLDS, Posterior(1.0, 1.0, (1.0,), (1 / 3,) * 3))
    said = said_store(root, manifest, lacking=frozenset(range(8)))
    plan = plan_of(root, manifest, derivation=refinement, said=said)
    store = derive(plan, manifest.unit_refs())
    for ref in manifest.unit_refs([Split.UNLABELED]):
        mine, teacher = store.read(ref.unit), plan.teacher.read(ref.unit)
        refined, given = (logits_of(one, "logits", 3) for one in (mine, teacher))
        wanted = given - np.log(np.exp(given).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(refined, wanted, rtol=1e-5)


def test_an_ensemble_is_the_mean_of_log_probabilities(root, manifest):
    plan = plan_of(root, manifest)
    rows = manifest.read_unit(next(iter(manifest.unit_refs([Split.UNLABELED]))))
    said = {name: np.full((8, 3), value) for name, value in (("m", 0.0), ("n", 0.0))}
    said["n"] = np.tile([np.log(0.5), np.log(0.25), np.log(0.25)], (8, 1))
    teacher = np.zeros((8, 3))
    teacher[2] = np.nan
    found = Ensemble(("m", "n")).labels(rows, teacher, said)
    np.testing.assert_allclose(found[0], 0.5 * (np.log([1 / 3] * 3) + said["n"][0]))
    assert np.isnan(found[2]).all() and np.isfinite(found[3:]).all()
    assert plan.spec["derivation"]["type"] == "refinement"


def test_what_is_there_is_not_done_again(root, manifest):
    plan = plan_of(root, manifest)
    store = derive(plan, manifest.unit_refs())
    again = derive(plan, manifest.unit_refs(), runner=_Never())
    assert again.index().table == store.index().table


def test_samples_that_were_read_again_are_refined_again(root, manifest):
    plan = plan_of(root, manifest)
    store = derive(plan, manifest.unit_refs())
    ref = next(iter(manifest.unit_refs([Split.UNLABELED])))
    record, table = plan.teacher.record(ref.unit), plan.teacher.read(ref.unit)
    plan.teacher.supersede(ref.unit, table, {"split": ref.split, "of_revision": 1}, of=record)
    plan.teacher.write_index(plan.teacher.committed())
    derive(plan, manifest.unit_refs())
    assert store.record(ref.unit)["of_revision"] == 1


def test_stores_of_other_samples_are_refused(root, manifest, tmp_path):
    other_root = open_root(str(tmp_path / "other"))
    other = make_run(other_root, {"unlabeled": 40, "probe": 8}, seed=3, unit_size=7)
    plan = plan_of(root, manifest, said=said_store(other_root, other))
    with pytest.raises(StoreError):
        derive(plan, manifest.unit_refs())


def test_another_posterior_is_another_store(root, manifest):
    one, other = (
        plan_of(root, manifest, derivation=Refinement("w", FOLDS, posterior))
        for posterior in (POSTERIOR, Posterior(1.0, 1.0, (1.0,), (1 / 3,) * 3))
    )
    assert one.name != other.name


def weights_of(store: UnitStore, ref) -> list[float]:
    return store.read(ref.unit).column(WEIGHT).to_pylist()


def test_an_unlabeled_sample_counts_by_the_scores_of_its_own_fold(root, manifest):
    posterior = Posterior(1.0, 1.0, (1.0,), (1 / 3,) * 3)
    plan = plan_of(root, manifest, derivation=Refinement("w", FOLDS, posterior, TILT))
    store = derive(plan, manifest.unit_refs())
    for ref in manifest.unit_refs([Split.UNLABELED]):
        teacher = logits_of(plan.teacher.read(ref.unit), "logits", 3)
        rows = zip(manifest.read_unit(ref), teacher, weights_of(store, ref), strict=True)
        for row, logits, weight in rows:
            if np.isnan(logits).any():
                assert weight == 1.0
                continue
            p_a = np.exp(logits - np.log(np.exp(logits).sum()))
            sure = np.exp(10.0) / (np.exp(10.0) + 2)
            p_b = np.full(3, (1 - sure) / 2)
            p_b[FOLDS.fold_of(row.group)] = sure
            ratio = (p_a * p_b).sum() * 3
            wanted = np.clip(0.75 * ratio * np.exp(-0.5), LEAST_WEIGHT, 1.0)
            assert weight == pytest.approx(wanted, rel=1e-4)


def test_samples_of_other_splits_count_alike(root, manifest):
    plan = plan_of(root, manifest, derivation=Refinement("w", FOLDS, POSTERIOR, TILT))
    store = derive(plan, manifest.unit_refs())
    (ref,) = manifest.unit_refs([Split.PROBE])
    assert set(weights_of(store, ref)) == {1.0}


def test_a_mean_of_networks_takes_over_the_weights_of_refined_labels(root, manifest):
    refs = list(manifest.unit_refs([Split.UNLABELED]))
    posterior = Posterior(1.0, 1.0, (1.0,), (1 / 3,) * 3)
    plan = plan_of(root, manifest, derivation=Refinement("w", FOLDS, posterior, TILT))
    weighed = derive(plan, refs)
    of_none = plan_of(root, manifest, derivation=Ensemble(("m",)), said=plan.said)
    mean = plan_of(root, manifest, derivation=Ensemble(("m",)), said=plan.said, weighed=weighed)
    assert mean.name != of_none.name and WEIGHT not in of_none.store().schema.names
    assert mean.spec["weighed"] == plan.name
    store = derive(mean, refs)
    assert all(weights_of(store, ref) == weights_of(weighed, ref) for ref in refs)
    assert len({one for ref in refs for one in weights_of(store, ref)}) > 2


def test_without_a_tilt_labels_are_stored_as_before(root, manifest):
    plan = plan_of(root, manifest)
    assert "tilt" not in plan.spec["derivation"] and "weighed" not in plan.spec
    assert WEIGHT not in plan.store().schema.names


class _Never:
    def run(self, plan, refs):
        raise AssertionError("there is nothing to do")


def further_store(root: Root, manifest: Manifest, name: str = "t2") -> UnitStore:
    """A further teacher that is sure of class 2, and lacks the first sample of every unit."""
    store = UnitStore.open_or_create(root.child("labels", name), spec={}, schema=LABELS_SCHEMA)
    for ref in manifest.unit_refs():
        ids = [row.sample_id for row in manifest.read_unit(ref)]
        logits = [None, *([[0.0, 0.0, 8.0]] * (len(ids) - 1))]
        columns = {"sample_id": ids, "status": ["ok"] * len(ids), "logits": logits}
        store.commit(ref.unit, pa.table(columns, schema=LABELS_SCHEMA), {"split": ref.split})
    store.write_index(store.committed())
    return store


def test_further_teachers_are_combined_before_there_is_any_witness(root, manifest):
    posterior = Posterior(1.0, 1.0, (), (1 / 3,) * 3, further=(FurtherTeacher(2.0, 0.5),))
    more = {"t2": further_store(root, manifest)}
    plain = plan_of(root, manifest)
    plan = DerivedPlan(
        root, manifest, plain.teacher, None, Combination(("t2",), posterior), more=more
    )
    assert "said" not in plan.spec
    store = derive(plan, manifest.unit_refs([Split.UNLABELED]))
    for ref in manifest.unit_refs([Split.UNLABELED]):
        found = logits_of(store.read(ref.unit), "logits", 3)
        given = log_softmax(logits_of(plan.teacher.read(ref.unit), "logits", 3), axis=1)
        by_hand = log_softmax(given + 0.5 * log_softmax([0.0, 0.0, 4.0]), axis=1)
        by_hand[0] = given[0]
        np.testing.assert_allclose(found, by_hand, rtol=1e-4)


@pytest.mark.parametrize("split", [Split.UNLABELED, Split.PROBE])
def test_a_further_teacher_stands_beside_the_witnesses(root, manifest, split):
    posterior = Posterior(1.0, 0.0, (1.0,), (1 / 3,) * 3, further=(FurtherTeacher(1.0, 4.0),))
    refinement = Refinement("w", FOLDS, posterior, None, ("t2",))
    more = {"t2": further_store(root, manifest)}
    plan = plan_of(root, manifest, derivation=refinement, more=more)
    assert plan.spec["derivation"]["teachers"] == ["t2"]
    store = derive(plan, manifest.unit_refs())
    for ref in manifest.unit_refs([split]):
        rows, found = manifest.read_unit(ref), store.read(ref.unit).column("logits").to_pylist()
        for number, (row, logits) in enumerate(zip(rows, found, strict=True)):
            if logits is None:
                continue
            if number:
                assert int(np.argmax(logits)) == 2  # 4 * 8 beats the 10 of the own fold
            elif split == Split.UNLABELED:
                assert int(np.argmax(logits)) == FOLDS.fold_of(row.group)


def test_names_of_stores_of_one_teacher_are_what_they_were(root, manifest):
    assert set(Refinement("w", FOLDS, POSTERIOR).to_dict()) == {"witness", "folds", "posterior"}
    assert set(plan_of(root, manifest).spec) == {
        *("samples", "modality", "label_space", "parent", "said", "derivation")
    }
    one = plan_of(root, manifest)
    other = replace(one, more={"t2": further_store(root, manifest)})
    assert one.name == other.name  # of a teacher that nothing reads


def test_labels_of_a_further_teacher_of_other_samples_are_refused(root, manifest, tmp_path):
    other_root = open_root(str(tmp_path / "other"))
    other = make_run(other_root, {"unlabeled": 40, "probe": 8}, seed=3, unit_size=7)
    posterior = Posterior(1.0, 1.0, (), (1 / 3,) * 3, further=(FurtherTeacher(),))
    plan = plan_of(root, manifest, derivation=Combination(("t2",), posterior))
    plan = replace(plan, said=None, more={"t2": further_store(other_root, other)})
    with pytest.raises(StoreError):
        derive(plan, manifest.unit_refs())
