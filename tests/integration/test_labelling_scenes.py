"""Folders of RGB, depth and class maps: listed, labelled pixel by pixel, and fed to training."""

from collections import Counter

import numpy as np
import pytest
import torch
from dense_world import DECODE, HEIGHT, NUM_CLASSES, WIDTH, make_plan, teacher_spec, write_folders

from mke_ray.data.codec import decode_modality
from mke_ray.data.scene_view import SceneView
from mke_ray.errors import ConfigError, StoreError
from mke_ray.labels.dense import DenseForm
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.probe import ProbeDivision
from mke_ray.labels.scrub import scrub_units
from mke_ray.labels.verify import verify
from mke_ray.schema import DENSE_LABELS_SCHEMA, decode_spec_from_dict
from mke_ray.storage import open_root
from mke_ray.train.blocks import TargetSpec, UnitReader
from mke_ray.train.feed import Feed
from mke_ray.train.fits import RowSelection
from mke_ray.train.loop import apply_views
from mke_ray.train.plan import RowPlan
from mke_ray.train.usable import usable_entries

SPEC = decode_spec_from_dict(DECODE)
PSEUDO = RowSelection("unlabeled")
TRUE = RowSelection("labelled", targets="true", modalities=("rgb",))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyu")
    write_folders(folder)
    plan = make_plan(open_root(str(folder / "run")), folder)
    report = run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return folder, plan, report


def feed_of(plan, *rows, label_kind="hard", batch=7):
    reader = UnitReader(
        plan.samples,
        labels=plan.teachers[0].labels,
        manifest=plan.manifest,
        decode={name: SPEC[name] for name in ("rgb", "depth")},
        targets=TargetSpec(plan.label_space, label_kind),
    )
    entries = usable_entries(reader, rows, ProbeDivision())
    return Feed(reader, RowPlan(entries, global_batch=batch, window_units=2), selections=rows)


def stored(plan, modality):
    found = {}
    for ref in plan.manifest.unit_refs():
        table = plan.samples.read(ref.unit)
        for row in range(table.num_rows):
            pieces = table.column(modality)[row].as_py()
            if pieces is not None:
                found[table.column("sample_id")[row].as_py()] = decode_modality(
                    pieces, SPEC[modality]
                )
    return found


def test_every_sample_is_stored_and_only_the_labelled_ones_lack_their_depth(world):
    _, plan, report = world
    assert (report.counts.ok, report.counts.partial, report.counts.bad) == (14, 4, 0)
    assert report.counts.partial_reasons == {"withheld": 4}
    rows = [row for ref in plan.manifest.unit_refs() for row in plan.manifest.read_unit(ref)]
    splits = Counter(row.split for row in rows)
    assert splits == {"labelled": 4, "probe": 3, "unlabeled": 7, "test": 4}
    assert all(row.labels == () for row in rows)
    assert len(stored(plan, "mask")) == 18 and len(stored(plan, "depth")) == 14


def test_the_label_store_holds_the_likeliest_classes_of_every_pixel(world):
    _, plan, _ = world
    labels = plan.teachers[0].labels
    assert labels.schema.equals(DENSE_LABELS_SCHEMA)
    assert labels.spec["dense"]["top_k"] == 3 and "equally" in labels.spec["dense"]["tail"]
    form = DenseForm.of_spec(labels.spec)
    pictures = stored(plan, "rgb")
    for ref in plan.manifest.unit_refs():
        for row in labels.read(ref.unit).to_pylist():
            red_HW = pictures[row["sample_id"]][..., 0] / 32.0
            expected_HW = np.ceil(np.minimum(red_HW, 12) - 0.5)
            assert np.array_equal(form.hard(row["classes"]), expected_HW)
    assert verify(labels, plan.manifest, samples=plan.samples).ok
    assert verify(plan.samples, plan.manifest).ok


def test_labelling_again_gives_the_same_bytes(world, tmp_path):
    folder, plan, _ = world
    again = make_plan(open_root(str(tmp_path / "again")), folder)
    run_pass(again, again.manifest.unit_refs(), LocalRunner())
    for ref in plan.manifest.unit_refs():
        one, two = (some.teachers[0].labels.record(ref.unit) for some in (plan, again))
        assert one["digest"] == two["digest"]


def test_another_number_of_classes_kept_makes_another_store(world, tmp_path):
    folder, plan, _ = world
    other = make_plan(open_root(str(tmp_path / "other")), folder, top_k=2)
    assert other.teachers[0].labels.root.uri[-16:] != plan.teachers[0].labels.root.uri[-16:]
    with pytest.raises(ConfigError, match=r"labelling\.top_k=14.*13 classes"):
        make_plan(open_root(str(tmp_path / "more")), folder, top_k=14)


@pytest.mark.parametrize(
    ("bad", "message"), [("nan", "not finite.*nan"), ("size", r"\(4, 13, 11, 16\).*stored pixel")]
)
def test_a_teacher_of_other_pixels_or_without_numbers_is_refused(world, tmp_path, bad, message):
    folder, _, _ = world
    teachers = [teacher_spec(bad=bad)]
    plan = make_plan(open_root(str(tmp_path / "run")), folder, teachers=teachers)
    with pytest.raises(StoreError, match=message):
        run_pass(plan, plan.manifest.unit_refs(), LocalRunner())


def test_a_batch_has_hard_targets_of_teacher_and_truth_side_by_side(world):
    _, plan, _ = world
    item = feed_of(plan, PSEUDO, TRUE, batch=11).item(0)
    batch, masks = item.batch, stored(plan, "mask")
    assert batch.target_BC.shape == (11, HEIGHT, WIDTH)
    assert batch.target_BC.dtype == torch.uint8
    labelled = {
        row.sample_id
        for ref in plan.manifest.unit_refs(["labelled"])
        for row in plan.manifest.read_unit(ref)
    }
    for place, sample_id in enumerate(batch.sample_id_B.tolist()):
        is_true = np.array_equal(batch.target_BC[place].numpy(), masks[sample_id])
        assert is_true == (sample_id in labelled)
        assert bool(batch.present["depth"][place]) == (sample_id not in labelled)


def test_soft_targets_are_probabilities_and_zero_where_a_pixel_has_none(world):
    _, plan, _ = world
    batch = feed_of(plan, PSEUDO, TRUE, label_kind="soft", batch=11).item(0).batch
    assert batch.target_BC.shape == (11, NUM_CLASSES, HEIGHT, WIDTH)
    sums = batch.target_BC.sum(dim=1)
    assert ((sums - 1).abs().lt(1e-5) | sums.eq(0)).all()
    assert sums.eq(0).any() and sums.gt(0).any()


def test_views_of_one_stream_move_picture_depth_and_target_alike(world):
    _, plan, _ = world
    batch = feed_of(plan, TRUE, batch=4).item(0).batch
    # The picture shows its own class map, so that the views can be compared.
    batch.arrays["rgb"] = batch.target_BC[..., None].expand(-1, -1, -1, 3).contiguous()
    size = {"height": HEIGHT, "width": WIDTH, "flip": True, "scale": (1.0, 1.0)}
    views = {"rgb": SceneView(**size), "mask": SceneView(**size, of="mask")}
    flipped = 0
    for epoch in range(6):
        batch.epoch = epoch
        viewed = apply_views(batch, views)
        assert torch.equal(viewed.arrays["rgb"][..., 0], viewed.target_BC)
        flipped += not torch.equal(viewed.target_BC, batch.target_BC)
    assert flipped
    with pytest.raises(ConfigError, match=r"views\.mask is missing"):
        apply_views(batch, {"rgb": views["rgb"]})


def test_a_forgotten_sample_leaves_neither_picture_nor_class_map_nor_labels(world, tmp_path):
    folder, _, _ = world
    plan = make_plan(open_root(str(tmp_path / "run")), folder)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    ref = next(iter(plan.manifest.unit_refs(["probe"])))
    gone = {ref.unit: [1]}
    for store in plan.stores:
        scrub_units(store, gone)
    samples, labels = (store.read(ref.unit).to_pylist() for store in plan.stores)
    assert samples[1]["mask"] is samples[1]["depth"] is None
    assert labels[1]["classes"] is labels[1]["rest"] is None and labels[1]["status"] == "bad"
    assert labels[0]["classes"] is not None
