"""Weights and targets of labels on their way: from the fit to the batch, the loss and the ranks."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import softmax
from torch.nn import functional
from training_stores import DECODE, LABELS, fit_spec, logits_of, make_run

from mke_ray.data.manifest import Manifest
from mke_ray.data.scene_view import SceneView
from mke_ray.errors import ConfigError
from mke_ray.labels.dense import DenseForm, dense_columns
from mke_ray.labels.label_pass import statistics_of
from mke_ray.labels.label_rule import LabelRule
from mke_ray.labels.label_statistics import LabelStatistics
from mke_ray.labels.label_weights import FixedThreshold, FreeMatch
from mke_ray.labels.probe import ProbeDivision
from mke_ray.labels.store import UnitStore
from mke_ray.objectives.losses import consistency, label_mass, pseudo_label_loss
from mke_ray.schema import DENSE_LABELS_SCHEMA, Batch, LabelKind, LabelSpace
from mke_ray.storage import open_root
from mke_ray.train import loop
from mke_ray.train.assemble import Workplace, assemble, label_rule_of, open_reader
from mke_ray.train.batches import FeedItem
from mke_ray.train.blocks import TargetSpec, UnitBlock
from mke_ray.train.feed import Feed
from mke_ray.train.fits import FitSpec, RowSelection
from mke_ray.train.loop import FitState, apply_views, fit, share_of
from mke_ray.train.mean_weight import mean_label_weight
from mke_ray.train.plan import PlanEntry, RowPlan
from mke_ray.train.run import FitWatch
from mke_ray.train.usable import usable_entries
from mke_ray.train.waiting import FeedTimes

FIXED = {"weight": {"_target_": "mke_ray.labels.label_weights.FixedThreshold", "threshold": 0.8}}
MIXED = (
    RowSelection("unlabeled", "pseudo"),
    RowSelection("labelled", "true", modalities=("a",), weight=0.25),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    manifest = make_run(root, {"labelled": 20, "unlabeled": 90, "probe": 12, "test": 9})
    rows = [row for ref in manifest.unit_refs() for row in manifest.read_unit(ref)]
    return root, {row.sample_id: row for row in rows}


def feed_of(root, spec, *, rank=0, world_size=1):
    reader = open_reader(spec, root, cache_bytes=1 << 20)
    plan = RowPlan(
        usable_entries(reader, spec.rows, ProbeDivision()), global_batch=16, window_units=3
    )
    return Feed(reader, plan, selections=spec.rows, rank=rank, world_size=world_size)


def test_a_fit_without_a_rule_keeps_its_name_and_with_one_has_another():
    assert fit_spec(label_rule={}).fingerprint() == fit_spec().fingerprint() == "eab9810e35260e68"
    fitted = {**FIXED, "fitted": {"threshold": [[0.5]]}}
    others = [fit_spec(label_rule=one).fingerprint() for one in ({}, FIXED, fitted)]
    assert len(set(others)) == 3
    spec = fit_spec(label_rule=fitted, label_kind="sharpened")
    assert FitSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_rule_is_built_from_plain_data():
    assert label_rule_of(fit_spec()) is None
    rule = label_rule_of(fit_spec(label_rule={**FIXED, "ratio": [[2.0, 1.0]], "sharpening": 0.5}))
    assert rule is not None and rule.weight == FixedThreshold(0.8) and rule.sharpening == 0.5
    assert rule.ratio_KL is not None and rule.ratio_KL.tolist() == [[2.0, 1.0]]
    with pytest.raises(ConfigError, match="is not a LabelWeight"):
        label_rule_of(fit_spec(label_rule={"weight": {"_target_": "torch.nn.ReLU"}}))


def test_the_weight_of_a_pseudo_label_is_a_factor_of_that_of_its_sample(run):
    root, rows = run
    seen = set()
    feed = feed_of(root, fit_spec(rows=MIXED, label_rule=FIXED))
    for item in feed.batches(0, feed.batches_per_epoch):
        assert item.batch.label_weight is None and item.weighs_labels
        pairs = zip(item.batch.sample_id_B.tolist(), item.batch.weight_B.tolist(), strict=True)
        for sample_id, weight in pairs:
            row = rows[sample_id]
            logits = logits_of(row)
            is_sure = logits is not None and softmax(logits).max() >= 0.8
            assert weight == (float(is_sure) if row.split == "unlabeled" else 0.25)
            seen.add((row.split, weight))
    assert seen == {("unlabeled", 0.0), ("unlabeled", 1.0), ("labelled", 0.25)}


def test_a_share_is_of_the_labels_that_the_rule_lets_count(run):
    root, rows = run
    shared = (MIXED[0], RowSelection("labelled", "true", modalities=("a",), share=0.25))
    feed = feed_of(root, fit_spec(rows=shared, label_rule=FIXED))
    sums = {"unlabeled": 0.0, "labelled": 0.0}
    for item in feed.batches(0, feed.batches_per_epoch):
        pairs = zip(item.batch.sample_id_B.tolist(), item.batch.weight_B.tolist(), strict=True)
        for sample_id, weight in pairs:
            sums[rows[sample_id].split] += weight
    logits = [logits_of(one) for one in rows.values() if one.split == "unlabeled"]
    num_sure = sum(softmax(one).max() >= 0.8 for one in logits if one is not None)
    assert 0 < num_sure < len(logits) / 2
    assert sums["unlabeled"] == num_sure
    assert sums["labelled"] == pytest.approx(0.25 * num_sure, rel=1e-5)


@pytest.mark.parametrize(("kind", "mean"), [("multi", 1 / 3), ("dense", 0.375)])
def test_of_classes_and_pixels_the_mean_of_a_sample_counts(kind, mean):
    weigher = LabelRule("hard", weight=FixedThreshold(0.9))
    if kind == "dense":
        maps = np.array([[[3.0, 0.0], [0, 0]], [[0, 0.2], [4, 0]], [[0, 0], [0, 0.1]]])
        surer = np.array([[[9.0, 0.0], [0, 0]], [[0, 0.2], [0, 0]], [[0, 0], [0, 0.1]]])
        table, space, spec = dense_table([maps, surer]), DENSE, DENSE_SPEC
    else:
        table = pa.table({"logits": [[5.0, 0.1, 0.0], [-5.0, 0.2, 0.1]]})
        space, spec = LabelSpace(("x", "y", "z"), LabelKind.MULTI), {}
    reader = SimpleNamespace(
        targets=TargetSpec(space, rule=weigher),
        has_sample_weights=False,
        sample_weights=lambda unit: np.ones(2),
        labels=SimpleNamespace(spec=spec, read=lambda unit, **_: table),
        label_index=SimpleNamespace(location=lambda unit: None),
    )
    plan = RowPlan([PlanEntry("u", 0, np.ones(2, bool))], global_batch=2)
    assert mean_label_weight(reader, plan, selection=0) == pytest.approx(mean)


def test_sharpened_targets_reach_the_batch(run):
    root, rows = run
    spec = fit_spec(label_kind="sharpened", label_rule={"sharpening": 0.5})
    batch = next(feed_of(root, spec).batches(0, 1)).batch
    for sample_id, target in zip(batch.sample_id_B.tolist(), batch.target_BC, strict=True):
        expected = softmax(logits_of(rows[sample_id]).astype(np.float64) / 0.5)
        assert target.numpy() == pytest.approx(expected, abs=1e-5)


def test_a_fit_of_another_rule_reads_its_own_targets(run):
    workplace = Workplace(run[0], {"type": "torch"})
    plain = workplace.reader(fit_spec())
    assert workplace.reader(fit_spec(seed=3)) is plain
    assert workplace.reader(fit_spec(label_rule=FIXED)) is not plain


def test_the_loss_of_a_batch_is_that_of_its_parts_by_their_shares(run, monkeypatch):
    root, _ = run
    spec = fit_spec(rows=MIXED, label_rule=FIXED)
    (whole,) = feed_of(root, spec).batches(0, 1)
    parts = [next(feed_of(root, spec, rank=r, world_size=3).batches(0, 1)) for r in range(3)]
    torch.manual_seed(0)
    logits = torch.randn(16, 3)

    def loss_of(item, some):
        args = (logits[some], item.batch.target_BC)
        return float(pseudo_label_loss(*args, weight_B=item.batch.weight_B))

    masses = [label_mass(one.batch.weight_B, None).sum() for one in parts]
    assert len({float(one) for one in masses}) > 1
    monkeypatch.setattr(loop, "world_size", lambda: 3)
    monkeypatch.setattr(loop.dist, "all_reduce", lambda one: one.copy_(sum(masses)))
    starts = np.cumsum([0, *(one.batch.num_samples for one in parts)]).tolist()
    found = [
        loss_of(one, slice(start, start + one.batch.num_samples)) * share_of(one, one.batch)
        for one, start in zip(parts, starts, strict=False)
    ]
    assert sum(found) / 3 == pytest.approx(loss_of(whole, slice(None)), rel=1e-5)


def test_a_rank_whose_labels_all_weigh_nothing_has_no_share(monkeypatch):
    batch = Batch(torch.arange(2), {}, {}, torch.zeros(2, 3), torch.zeros(2))
    item = FeedItem(batch, 0, 0.7, 4, weighs_labels=True)
    assert share_of(item, batch) == 0.7  # alone nothing is exchanged
    monkeypatch.setattr(loop, "world_size", lambda: 2)
    monkeypatch.setattr(loop.dist, "all_reduce", lambda one: None)
    assert share_of(item, batch) == 0.0
    assert share_of(replace(item, weighs_labels=False), batch) == 0.7


def test_the_loop_steps_by_the_share_that_the_labels_give(run, monkeypatch):
    spec, shares = fit_spec(num_steps=2), []
    parts = assemble(spec, Workplace(run[0], {"type": "torch"}))
    backward = parts.engine.backward

    def noted(loss, *, share):
        shares.append(share)
        backward(loss, share=share)

    monkeypatch.setattr(parts.engine, "backward", noted)
    monkeypatch.setattr(loop, "share_of", lambda item, batch: 0.25)
    watch = FitWatch(spec, None, None, log_every_steps=5, checkpoint_every_steps=0)
    fit(spec, parts, state=FitState(), watch=watch)
    assert shares == [0.25, 0.25]


def test_the_weight_of_each_class_weighs_its_loss_by_hand():
    logits, target = torch.randn(2, 3), torch.rand(2, 3)
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]])
    of_sample = torch.tensor([2.0, 1.0])
    expected = (each * weight * of_sample[:, None]).sum() / (weight * of_sample[:, None]).sum()
    found = pseudo_label_loss(logits, target, weight_B=of_sample, kind="multi", label_weight=weight)
    assert found == pytest.approx(float(expected))
    assert label_mass(of_sample, weight).tolist() == pytest.approx([1.0, 1 / 3])


@pytest.mark.parametrize("is_soft", [False, True])
def test_the_weight_of_each_pixel_weighs_its_loss_by_hand(is_soft):
    logits, hard = torch.randn(2, 3, 2, 2), torch.randint(0, 3, (2, 2, 2))
    target = functional.one_hot(hard, 3).movedim(3, 1).float() if is_soft else hard.byte()
    weight = torch.rand(2, 2, 2)
    each = functional.cross_entropy(logits, hard, reduction="none")
    found = pseudo_label_loss(
        logits, target, weight_B=torch.ones(2), kind="dense", label_weight=weight
    )
    assert found == pytest.approx(float((each * weight).sum() / weight.sum()), rel=1e-5)


@pytest.mark.parametrize(("kind", "shape"), [("multi", (2, 3)), ("dense", (2, 3, 2, 2))])
def test_labels_that_all_weigh_alike_give_the_loss_without_weights(kind, shape):
    logits, clean, weight_B = torch.randn(shape), torch.randn(shape), torch.tensor([1.0, 3.0])
    target = torch.softmax(torch.randn(shape), dim=1)
    alike = torch.full(shape if kind == "multi" else (2, 2, 2), 0.5)
    for weighed in (
        lambda one: pseudo_label_loss(
            logits, target, weight_B=weight_B, kind=kind, label_weight=one
        ),
        lambda one: consistency(logits, clean, weight_B=weight_B, kind=kind, label_weight=one),
    ):
        assert torch.allclose(weighed(alike), weighed(None), rtol=1e-5)


def test_labels_of_no_weight_give_a_loss_of_zero_with_a_gradient_of_zero():
    logits = torch.randn(2, 3, requires_grad=True)
    args = {"weight_B": torch.ones(2), "kind": "multi", "label_weight": torch.zeros(2, 3)}
    loss = pseudo_label_loss(logits, torch.ones(2, 3), **args)
    loss.backward()
    assert float(loss.detach()) == 0.0 and logits.grad is not None and (logits.grad == 0).all()


class Blocks:
    """A reader of two units, one with pseudo-labels and one with true ones."""

    has_sample_weights = False  # the label store says nothing of samples

    def __init__(self, targets, target_RX, weights):
        self.decode, self.targets, self.times = DECODE, targets, FeedTimes()
        self._target_RX, self._weights = target_RX, weights

    def rows(self, unit, row_N, *, targets):
        num = len(self._target_RX)
        arrays = {name: np.zeros((num, one.num_features)) for name, one in DECODE.items()}
        present = {name: np.ones(num, bool) for name in DECODE}
        held = {targets: self._target_RX}  # the weights may be those of an earlier look
        return UnitBlock(np.arange(num), present, {}, arrays, held, weights=self._weights)


@pytest.mark.parametrize(
    ("kind", "shape", "weight_shape"),
    [
        ("multi", (3, 2), (3, 2)),
        ("dense", (3, 2, 2), (3, 2, 2)),
        ("dense", (3, 4, 2, 2), (3, 2, 2)),
    ],
)
def test_weights_of_classes_and_pixels_stand_beside_the_sample_weights(kind, shape, weight_shape):
    weights = np.random.default_rng(0).random(weight_shape).astype(np.float32)
    space = LabelSpace(("x", "y"), LabelKind(kind), 255 if kind == "dense" else None)
    targets = TargetSpec(space, rule=LabelRule(weight=FixedThreshold()))
    entries = [PlanEntry(unit, number, np.ones(3, bool)) for number, unit in enumerate("uv")]
    reader = Blocks(targets, np.zeros(shape, np.float32), weights)
    plan = RowPlan(entries, global_batch=0, window_units=2)
    batch = Feed(reader, plan, selections=MIXED).item(0).batch
    assert batch.weight_B.tolist() == [1.0] * 3 + [0.25] * 3
    assert batch.label_weight is not None
    assert np.array_equal(batch.label_weight[:3].numpy(), weights)
    assert (batch.label_weight[3:] == 1).all() and batch.label_weight.shape[1:] == weight_shape[1:]


FORM = DenseForm(3, 2, 2, 2)
DENSE = LabelSpace(("x", "y", "z"), LabelKind.DENSE, 255)
DENSE_SPEC = {"dense": FORM.to_dict(), "label_space": {"classes": DENSE.classes}}


def dense_table(logits_RCHW):
    packed = [None if one is None else FORM.pack(one) for one in logits_RCHW]
    ids, status = list(range(len(packed))), ["ok"] * len(packed)
    columns = {"sample_id": ids, "status": status, **dense_columns(packed)}
    return pa.table(columns, schema=DENSE_LABELS_SCHEMA)


def test_pixels_get_their_weights_and_rows_without_a_label_none():
    logits = np.array([[[3.0, 0.0], [0, 0]], [[0, 0.2], [4, 0]], [[0, 0], [0, 0.1]]])
    table = dense_table([logits, None])
    targets = TargetSpec(DENSE, "hard", rule=LabelRule("hard", weight=FixedThreshold(0.9)))
    assert targets.weighs
    weight_NHW = targets.dense_weights(table, FORM)[np.array([1, 0])]
    assert weight_NHW.tolist() == [[[0, 0], [0, 0]], [[1, 0], [1, 0]]]
    hard_RHW = targets.from_dense(table, FORM)
    assert isinstance(hard_RHW, np.ndarray) and hard_RHW[1].tolist() == [[255, 255], [255, 255]]
    assert targets.equal_weights(hard_RHW).shape == (2, 2, 2)


def test_pixels_are_aligned_before_they_are_hard_and_sharpened_when_they_are_wanted():
    logits = np.array([[[3.0, 0.0], [0, 0]], [[0, 0.2], [4, 0]], [[0, 0], [0, 0.1]]])
    rule = LabelRule("hard", ratio_KL=np.array([[1.0, 1.0, 1.4]]))
    hard_RHW = TargetSpec(DENSE, "hard", rule=rule).from_dense(dense_table([logits, None]), FORM)
    assert isinstance(hard_RHW, np.ndarray)
    assert hard_RHW.tolist() == [[[0, 2], [1, 2]], [[255, 255], [255, 255]]]
    sharp = LabelRule("sharpened", sharpening=0.5)
    rows = TargetSpec(DENSE, "sharpened", rule=sharp).from_dense(dense_table([logits]), FORM)
    expected = FORM.soft(FORM.pack(logits)) ** 2
    assert rows[np.array([0])][0] == pytest.approx(expected / expected.sum(axis=0), abs=1e-6)


def test_the_weights_of_pixels_move_with_their_class_map():
    view = SceneView(2, 3, of="mask", flip=True)
    target = torch.arange(6, dtype=torch.uint8).reshape(1, 2, 3).repeat(8, 1, 1)
    batch = Batch(torch.arange(8), {}, {}, target, torch.ones(8), label_weight=target.float() / 10)
    seen = apply_views(batch, {"mask": view})
    assert seen.label_weight is not None
    assert torch.allclose(seen.label_weight, seen.target_BC.float() / 10)
    assert not torch.equal(seen.target_BC, target)


def test_weights_of_classes_go_to_the_device_with_their_batch():
    batch = Batch(torch.arange(1), {}, {}, torch.zeros(1, 2), torch.ones(1))
    assert batch.to("cpu").label_weight is None
    moved = replace(batch, label_weight=torch.ones(1, 2)).to("meta")
    assert moved.label_weight is not None and moved.label_weight.device.type == "meta"


def test_the_pass_counts_every_unlabeled_label_once_whatever_its_units_are(run, monkeypatch):
    root, rows = run
    manifest, store = (
        Manifest.open(root.child("manifest")),
        UnitStore.open(root.child("labels", LABELS)),
    )
    logits = [logits_of(row) for row in rows.values() if row.split == "unlabeled"]
    known = np.stack([one for one in logits if one is not None]).astype(np.float64)
    expected = LabelStatistics.of(softmax(known / 2.0, axis=1)[:, None])
    monkeypatch.setattr("mke_ray.labels.label_pass._UNITS_AT_ONCE", 5)
    found = statistics_of(manifest, store, temperature=2.0)
    assert found.num == len(known) < 90
    assert found.mean_KL == pytest.approx(expected.mean_KL)
    assert found.variance == pytest.approx(expected.variance)
    assert found.count_KLB.sum() == expected.num
    moved = statistics_of(manifest, store, temperature=2.0, ratio_KL=np.array([[1.0, 1.0, 9.0]]))
    assert moved.mean_KL[0, 2] > found.mean_KL[0, 2]


def test_a_fit_with_weights_trains_and_ends_elsewhere(run):
    root, _ = run
    manifest = Manifest.open(root.child("manifest"))
    store = UnitStore.open(root.child("labels", LABELS))
    fitted = FreeMatch().fit(statistics_of(manifest, store, temperature=1.0))
    rule = {"weight": {"_target_": "mke_ray.labels.label_weights.FreeMatch"}, "fitted": fitted}
    ends = []
    for spec in (fit_spec(), fit_spec(label_rule=rule)):
        parts = assemble(spec, Workplace(root, {"type": "torch"}))
        watch = FitWatch(spec, None, None, log_every_steps=5, checkpoint_every_steps=0)
        state = fit(spec, parts, state=FitState(), watch=watch)
        ends.append(state.history[-1]["loss"])
    assert all(np.isfinite(ends)) and ends[0] != ends[1]
