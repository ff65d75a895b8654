import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_stores import (
    DECODE,
    LABELS,
    SAMPLES,
    arrays_of,
    fit_spec,
    logits_of,
    make_run,
    number_of,
    status_of,
    weigh_labels,
    weight_of,
)

from mke_ray.data.manifest import Mark
from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels.folds import FoldDivision, even_folds
from mke_ray.labels.probe import ProbeDivision, probe_part
from mke_ray.labels.store import UnitStore
from mke_ray.schema import LABELS_SCHEMA, LabelKind, LabelSpace, Status
from mke_ray.storage import open_root
from mke_ray.train.assemble import open_reader
from mke_ray.train.blocks import TargetSpec
from mke_ray.train.feed import Feed
from mke_ray.train.fits import RowSelection
from mke_ray.train.mean_weight import mean_label_weight
from mke_ray.train.plan import RowPlan
from mke_ray.train.usable import usable_entries

COUNTS = {"labelled": 20, "unlabeled": 90, "probe": 30, "test": 9}
PSEUDO = (RowSelection("unlabeled", "pseudo"),)
MIXED = (*PSEUDO, RowSelection("labelled", "true", modalities=("a",), weight=0.25))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = open_root(str(tmp_path_factory.mktemp("run")))
    manifest = make_run(root, COUNTS)
    weigh_labels(root, manifest)
    rows = [row for ref in manifest.unit_refs() for row in manifest.read_unit(ref)]
    return root, {row.sample_id: row for row in rows}


def make_feed(
    root, rows=PSEUDO, *, cache_bytes=1 << 20, rank=0, world_size=1, folds=None, **changes
):
    spec = fit_spec(**{"rows": rows, **changes})
    reader = open_reader(spec, root, cache_bytes=cache_bytes)
    plan = RowPlan(
        usable_entries(reader, rows, ProbeDivision()),
        global_batch=spec.global_batch,
        window_units=spec.window_units,
        seed=spec.seed,
    )
    division = None if folds is None else FoldDivision.from_dict(folds)
    return Feed(reader, plan, selections=rows, rank=rank, world_size=world_size, folds=division)


def same(one, other):
    return all(
        torch.equal(one.arrays[m], other.arrays[m])
        and torch.equal(one.present[m], other.present[m])
        for m in DECODE
    ) and all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("sample_id_B", "target_BC", "weight_B")
    )


def test_a_batch_holds_what_was_stored_for_each_of_its_samples(run):
    root, rows = run
    for item in make_feed(root, seed=5).batches(0, 6):
        batch = item.batch
        for number, sample_id in enumerate(batch.sample_id_B.tolist()):
            stored = arrays_of(rows[sample_id])
            for name in DECODE:
                assert bool(batch.present[name][number]) == (name in stored)
                expected = stored.get(name, np.zeros(DECODE[name].num_features, np.float32))
                assert np.array_equal(batch.arrays[name][number].numpy(), expected)
            label = int(logits_of(rows[sample_id]).argmax())
            assert batch.target_BC[number].tolist() == np.eye(3)[label].tolist()


def test_an_epoch_is_every_usable_row_once_and_no_unusable_one(run):
    root, rows = run
    feed = make_feed(root)
    seen = [i for item in feed.batches(0, feed.batches_per_epoch) for i in item.batch.sample_id_B]
    wanted = {i for i, r in rows.items() if r.split == "unlabeled" and status_of(r) != Status.BAD}
    assert len(seen) == len(wanted) and {int(i) for i in seen} == wanted


@settings(deadline=None, max_examples=12)
@given(cursor=st.integers(0, 14), seed=st.integers(0, 2), small_cache=st.booleans())
def test_a_feed_that_starts_at_a_cursor_goes_on_as_the_one_before(run, cursor, seed, small_cache):
    root, _ = run
    cache_bytes = 1 if small_cache else 1 << 20
    whole = list(make_feed(root, MIXED, seed=seed).batches(0, 17))
    late = make_feed(root, MIXED, seed=seed, cache_bytes=cache_bytes)
    resumed = list(late.batches(cursor, 17))
    assert [item.cursor for item in resumed] == list(range(cursor, 17))
    assert all(same(a.batch, b.batch) for a, b in zip(whole[cursor:], resumed, strict=True))


@settings(deadline=None, max_examples=12)
@given(cursor=st.integers(0, 14), global_batch=st.sampled_from([0, 1, 2, 16, 33]))
def test_the_ranks_together_see_the_batch_of_one(run, cursor, global_batch):
    root, _ = run
    whole = make_feed(root, MIXED, global_batch=global_batch).item(cursor).batch
    for world_size in (2, 3):
        feeds = [
            make_feed(root, MIXED, global_batch=global_batch, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        parts = [feed.item(cursor).batch for feed in feeds]
        joined = [i for part in parts for i in part.sample_id_B[part.weight_B > 0].tolist()]
        assert joined == whole.sample_id_B.tolist()


@pytest.mark.parametrize("labels", [LABELS, "weighed"])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("global_batch", [1, 16, 7])
def test_shares_make_the_mean_over_ranks_the_weighted_mean(run, labels, world_size, global_batch):
    root, _ = run
    value = {i: float(n) for n, i in enumerate(run[1])}
    for cursor in range(8):
        mean, total, weights = 0.0, 0.0, 0.0
        for rank in range(world_size):
            feed = make_feed(
                root,
                MIXED,
                global_batch=global_batch,
                rank=rank,
                world_size=world_size,
                labels=labels,
            )
            item = feed.item(cursor)
            weight_B = item.batch.weight_B.double()
            value_B = torch.tensor([value[i] for i in item.batch.sample_id_B.tolist()]).double()
            loss = (value_B * weight_B).sum() / weight_B.sum().clamp(min=1e-30)
            mean += float(loss) * item.share / world_size
            total += float((value_B * weight_B).sum())
            weights += float(weight_B.sum())
        assert mean == pytest.approx(total / weights)


def test_selections_are_mixed_in_one_stream_with_their_weights_and_modalities(run):
    root, rows = run
    feed = make_feed(root, MIXED)
    splits = set()
    for item in feed.batches(0, feed.batches_per_epoch):
        batch = item.batch
        for number, sample_id in enumerate(batch.sample_id_B.tolist()):
            row = rows[sample_id]
            splits.add(row.split)
            assert batch.weight_B[number] == (1.0 if row.split == "unlabeled" else 0.25)
            if row.split == "labelled":
                assert not batch.present["b"][number] and not batch.arrays["b"][number].any()
                assert batch.target_BC[number].argmax() == row.labels[0]
    assert splits == {"unlabeled", "labelled"}


def test_a_pseudo_label_counts_as_its_store_says_and_a_true_one_as_its_selection(run):
    root, rows = run
    feed = make_feed(root, MIXED, labels="weighed", cache_bytes=1)
    seen = set()
    for item in feed.batches(0, 2 * feed.batches_per_epoch):
        ids, weights = item.batch.sample_id_B.tolist(), item.batch.weight_B.tolist()
        for one, weight in zip(ids, weights, strict=True):
            is_pseudo = rows[one].split == "unlabeled"
            assert weight == (weight_of(rows[one]) if is_pseudo else 0.25)
            seen.add(weight)
    assert seen == {0.125, 0.25, 0.375, 0.5}


def test_weights_are_read_once_for_each_unit_and_not_kept_for_ever(run, monkeypatch):
    root, _ = run
    reader = open_reader(fit_spec(labels="weighed"), root, cache_bytes=1)
    units = reader.sample_index.units("unlabeled")
    first = reader.sample_weights(units[0])
    assert reader.sample_weights(units[0]) is first
    monkeypatch.setattr(reader._sample_weights, "most", 2)
    for unit in units[:4]:
        reader.sample_weights(unit)
    assert [unit in reader._sample_weights for unit in units[:5]] == [False] * 2 + [True] * 2 + [
        False
    ]


def test_a_store_without_weights_counts_all_alike(run):
    root, _ = run
    reader = open_reader(fit_spec(), root, cache_bytes=1)
    unit = reader.sample_index.units("unlabeled")[0]
    assert not reader.has_sample_weights and reader.sample_weights(unit).tolist() == [1.0] * 8


def test_only_the_part_of_the_probe_that_was_asked_for_is_read(run):
    root, rows = run
    feed = make_feed(root, (RowSelection("probe", "true", part="select"),), labels=None)
    seen = feed.plan.num_rows
    ids = (
        make_feed(
            root, (RowSelection("probe", "true", part="select"),), labels=None, global_batch=0
        )
        .item(0)
        .batch.sample_id_B.tolist()
    )
    assert {probe_part(rows[i].group) for i in ids} == {"select"}
    assert 0 < seen == len(ids) < 28


def test_true_labels_of_the_unlabeled_split_come_only_when_asked_for(run):
    root, rows = run
    batch = make_feed(root, (RowSelection("unlabeled", "true"),), labels=None).item(0).batch
    assert [rows[i].labels[0] for i in batch.sample_id_B.tolist()] == batch.target_BC.argmax(
        1
    ).tolist()
    none = make_feed(root, (RowSelection("unlabeled", "none"),), labels=None).item(0).batch
    assert not none.target_BC.any()


def test_rows_without_a_visible_modality_are_left_out(run):
    root, rows = run
    feed = make_feed(root, (RowSelection("unlabeled", "pseudo", modalities=("b",)),))
    wanted = [r for r in rows.values() if r.split == "unlabeled" and status_of(r) == Status.OK]
    assert feed.plan.num_rows == len(wanted)


def test_rows_without_the_teachers_modality_have_no_pseudo_label(run):
    root, rows = run
    reader = open_reader(fit_spec(), root, cache_bytes=1)
    reader.teacher_modality = "b"
    usable = sum(e.usable.sum() for e in usable_entries(reader, PSEUDO, ProbeDivision()))
    assert usable == sum(
        r.split == "unlabeled" and status_of(r) == Status.OK for r in rows.values()
    )


def test_the_whole_set_in_one_batch_is_gathered_once_and_only_its_epoch_changes(run):
    root, _ = run
    items = list(make_feed(root, global_batch=0).batches(3, 6))
    assert [item.batch.epoch for item in items] == [3, 4, 5]
    pointers = {item.batch.arrays["a"].data_ptr() for item in items}
    assert len(pointers) == 1


def test_memory_for_units_stays_within_bounds(run):
    root, _ = run
    feed = make_feed(root, cache_bytes=1500)
    kept, held = feed.maker.reader._blocks, []
    for cursor in range(12):
        feed.item(cursor)
        held.append(sum(block.num_bytes for block in kept.values()))
        assert held[-1] == kept.size
    assert 0 < max(held) <= 1500


def test_every_row_is_decoded_once_while_memory_lasts(run, monkeypatch):
    root, _ = run
    calls = []
    from mke_ray.train import unit_block

    decode = unit_block.decode_modality
    monkeypatch.setattr(unit_block, "decode_modality", lambda *a: calls.append(1) or decode(*a))
    feed = make_feed(root)
    for _ in feed.batches(0, feed.batches_per_epoch * 3):
        pass
    present = sum(
        int(item.batch.present[m].sum())
        for item in feed.batches(0, feed.batches_per_epoch)
        for m in DECODE
    )
    assert len(calls) == present


def test_an_error_of_the_reading_thread_reaches_the_loop(run, monkeypatch):
    root, _ = run
    feed = make_feed(root)
    monkeypatch.setattr(feed.maker.reader, "rows", _fail)
    with pytest.raises(StoreError, match="damaged"):
        next(iter(feed.batches(0, 3)))


def _fail(*_args, **_kwargs):
    raise StoreError("damaged")


def test_a_feed_that_is_left_early_stops_its_thread(run):
    import threading

    root, _ = run
    batches = make_feed(root).batches(0, 1000)
    list(itertools.islice(batches, 3))
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("feed")]


def test_no_usable_row_at_all_is_an_error_that_names_the_split(run):
    root, _ = run
    with pytest.raises(ConfigError, match="test"):
        make_feed(root, (RowSelection("test", "true", part="select", modalities=("c",)),))


def test_labels_of_other_samples_are_refused(run, tmp_path):
    root, _ = run
    reader = open_reader(fit_spec(), root, cache_bytes=1 << 20)
    labels = UnitStore.open_or_create(open_root(str(tmp_path)), spec={}, schema=LABELS_SCHEMA)
    for unit in reader.sample_index.units("unlabeled"):
        table = reader.labels.read(unit)
        wrong = table.set_column(
            0, LABELS_SCHEMA.field("sample_id"), [table.column("sample_id").to_numpy() + 1]
        )
        labels.commit(unit, wrong, {"split": "unlabeled"})
    reader.labels, reader.label_index = labels, labels.index()
    plan = RowPlan(usable_entries(reader, PSEUDO, ProbeDivision()), global_batch=4)
    with pytest.raises(StoreError, match="another manifest"):
        Feed(reader, plan, selections=PSEUDO).item(0)


def test_soft_targets_are_the_teachers_probabilities_at_the_temperature():
    space = LabelSpace(("x", "y"))
    target = TargetSpec(space, "soft", temperature=2.0).from_logits(np.array([[2.0, 0.0]]))
    assert target == pytest.approx(torch.softmax(torch.tensor([[1.0, 0.0]]), 1).numpy())


def test_targets_of_many_classes_are_independent():
    space = LabelSpace(("x", "y"), LabelKind.MULTI)
    logits = np.array([[3.0, -1.0], [2.0, 1.0]])
    assert TargetSpec(space, "hard").from_logits(logits).tolist() == [[1, 0], [1, 1]]
    soft = TargetSpec(space, "soft").from_logits(logits)
    assert soft == pytest.approx(torch.sigmoid(torch.from_numpy(logits)).numpy())


def test_none_of_the_classes_is_a_label_only_where_a_sample_may_have_many(run):
    row = dataclasses.replace(next(iter(run[1].values())), labels=())
    assert number_of(row) == 0
    assert TargetSpec(LabelSpace(("x", "y"), LabelKind.MULTI)).is_known(row)
    assert not TargetSpec(LabelSpace(("x", "y"))).is_known(row)


def test_a_dense_label_is_known_where_there_is_a_class_map(run):
    row = dataclasses.replace(next(iter(run[1].values())), labels=())
    targets = TargetSpec(LabelSpace(("x", "y"), LabelKind.DENSE, 255))
    assert targets.is_known(row)
    assert not targets.is_known(dataclasses.replace(row, labels=None))


def test_the_stores_are_named_by_the_fit(run):
    root, _ = run
    reader = open_reader(fit_spec(), root, cache_bytes=1)
    assert reader.samples.root.uri.endswith(SAMPLES)
    assert reader.labels.root.uri.endswith(LABELS)


def test_a_marked_row_is_in_no_batch_and_not_in_the_statistics(tmp_path):
    root = open_root(str(tmp_path))
    manifest = make_run(root, COUNTS)
    ref = list(manifest.unit_refs(["unlabeled"]))[2]
    rows = manifest.read_unit(ref)
    marked = {rows[1].sample_id, rows[4].sample_id}
    manifest.add_marks(
        [
            Mark(rows[1].sample_id, ref.unit, 1, "copy_of_test"),
            Mark(rows[4].sample_id, ref.unit, 4, "deleted"),
        ]
    )
    whole = {n for item in make_feed(root).batches(0, 6) for n in item.batch.sample_id_B.tolist()}
    assert marked.isdisjoint(whole)
    assert {rows[0].sample_id, rows[2].sample_id} <= whole
    first = make_feed(root).first_batches(64)
    assert marked.isdisjoint(n for batch in first for n in batch.sample_id_B.tolist())


def test_a_fit_that_was_planned_on_other_rows_is_refused(tmp_path):
    root = open_root(str(tmp_path))
    manifest = make_run(root, COUNTS)
    digest = manifest.digest(["unlabeled"])
    make_feed(root, data=digest)
    ref = next(manifest.unit_refs(["unlabeled"]))
    row = manifest.read_unit(ref)[0]
    manifest.add_marks([Mark(row.sample_id, ref.unit, 0, "double")])
    with pytest.raises(StoreError, match="start the job again"):
        make_feed(root, data=digest)


def test_a_share_is_of_the_weight_of_the_first_rows(run):
    root, rows = run
    shared = (
        *PSEUDO,
        RowSelection("labelled", "true", modalities=("a",), share=0.25),
        RowSelection("probe", "true", part="select", weight=3.0),
    )
    weights = {"unlabeled": 0.0, "labelled": 0.0, "probe": 0.0}
    feed = make_feed(root, shared, global_batch=7)
    for item in feed.batches(0, feed.batches_per_epoch):
        for one, weight in zip(item.batch.sample_id_B.tolist(), item.batch.weight_B, strict=True):
            weights[rows[one].split] += float(weight)
    assert weights["labelled"] == pytest.approx(0.25 * weights["unlabeled"])


def test_a_share_is_of_what_the_first_rows_weigh_and_not_of_their_number(run):
    root, rows = run
    shared = (*PSEUDO, RowSelection("labelled", "true", modalities=("a",), share=0.5))
    feed = make_feed(root, shared, labels="weighed", global_batch=7)
    weights = {"unlabeled": 0.0, "labelled": 0.0}
    for item in feed.batches(0, feed.batches_per_epoch):
        for one, weight in zip(item.batch.sample_id_B.tolist(), item.batch.weight_B, strict=True):
            weights[rows[one].split] += float(weight)
    unlabeled = [one for one in rows.values() if one.split == "unlabeled"]
    by_hand = sum(weight_of(one) for one in unlabeled if status_of(one) != Status.BAD)
    assert weights["unlabeled"] == pytest.approx(by_hand)
    assert weights["labelled"] == pytest.approx(0.5 * by_hand, rel=1e-5)


def test_of_many_rows_some_units_say_what_labels_weigh(run, monkeypatch):
    root, _ = run
    reader = open_reader(fit_spec(labels="weighed"), root, cache_bytes=1)
    plan = RowPlan(usable_entries(reader, PSEUDO, ProbeDivision()), global_batch=7, window_units=3)
    monkeypatch.setattr("mke_ray.train.mean_weight._MAX_ROWS", 40)
    read = []
    found = reader.sample_weights
    monkeypatch.setattr(reader, "sample_weights", lambda unit: read.append(unit) or found(unit))
    assert mean_label_weight(reader, plan, selection=0) == pytest.approx(0.3125, abs=0.02)
    assert read == reader.sample_index.units("unlabeled")[::2]


def test_batches_tell_the_fold_of_every_sample_by_its_group(run):
    root, rows = run
    folds = even_folds(3)
    feed = make_feed(root, folds=folds.to_dict())
    item = feed.item(1)
    assert item.batch.fold_B is not None and len(set(item.batch.fold_B.tolist())) > 1
    groups = [rows[one].group for one in item.batch.sample_id_B.tolist()]
    assert item.batch.fold_B.tolist() == [folds.fold_of(group) for group in groups]
    assert make_feed(root).item(1).batch.fold_B is None


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="share=0"):
        RowSelection("labelled", share=0.0)


def test_settings_that_fits_of_old_did_not_have_leave_their_names_alone():
    plain = fit_spec().to_dict()
    assert plain["folds"] == {} and plain["rows"][0]["share"] is None
    assert fit_spec().fingerprint() == "eab9810e35260e68"
    assert fit_spec(folds=even_folds(3).to_dict()).fingerprint() != "eab9810e35260e68"
