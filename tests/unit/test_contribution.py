"""What a modality is worth: the student on the test split with some of them hidden."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from dense_world import DECODE as DENSE_DECODE
from dense_world import make_plan, write_folders
from listed_rows import DECODE, SPACE, ListSource, source_row
from test_evaluation import plan_of

from mke_ray.data.codec import encode_modality
from mke_ray.data.manifest import write_manifest
from mke_ray.evaluation import (
    TEACHER,
    EvaluationPlan,
    FitColumn,
    PredictionPlan,
    evaluate,
    refs_with_truth,
    run_predictions,
)
from mke_ray.evaluation.contribution import (
    contribution_plan,
    measure_contribution,
    parts_of_all,
)
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.labels.store import UnitStore
from mke_ray.models.student import build_student
from mke_ray.models.weights import save_student
from mke_ray.schema import LABELS_SCHEMA, LabelSpace, decode_spec_to_dict, samples_schema
from mke_ray.storage import open_root

SPEC = {
    "encoders": {
        "a": {"type": "features", "num_inputs": 3, "normalise": False},
        "b": {"type": "features", "num_inputs": 2, "normalise": False},
    },
    "fusion": {"type": "concat"},
    "head_hidden": [],
}


def test_all_but_each_and_each_alone_none_twice():
    assert parts_of_all(["b", "a"]) == [("b",), ("a",)]
    assert parts_of_all("abc") == [("b", "c"), ("a", "c"), ("a", "b"), ("a",), ("b",), ("c",)]


def _adding_student():
    """A student whose logits are a, plus b on the first two classes."""
    student = build_student(SPEC, 3)
    with torch.no_grad():
        student.output.bias.zero_()
        student.output.weight.copy_(
            torch.cat([torch.eye(3), torch.tensor([[1.0, 0], [0, 1], [0, 0]])], dim=1)
        )
    return student


# Per sample: the true class, a (None where it is missing) and b.
ROWS = [
    (0, [1.0, 0.0, 0.0], [1.0, 0.0]),  # either is enough
    (1, [1.0, 0.0, 0.0], [0.0, 3.0]),  # b corrects a
    (2, [0.0, 0.0, 2.0], [1.0, 0.0]),  # a corrects b
    (1, None, [0.0, 1.0]),  # a is missing
]


def _world(root, space=SPACE):
    listed = [source_row("test", n, (row[0],)) for n, row in enumerate(ROWS)]
    listed += [source_row("unlabeled", n, None) for n in range(3)]
    manifest = write_manifest(root.child("manifest"), ListSource(listed, space), unit_size=2)
    samples = UnitStore.open_or_create(
        root.child("samples", "s"),
        spec={"decode": decode_spec_to_dict(DECODE)},
        schema=samples_schema(DECODE),
    )
    labels = UnitStore.open_or_create(root.child("labels", "t"), spec={}, schema=LABELS_SCHEMA)
    for ref in manifest.unit_refs():
        rows = manifest.read_unit(ref)
        samples.commit(ref.unit, _samples_of(rows, samples.schema))
        zeros = [
            {"sample_id": row.sample_id, "status": "ok", "logits": [1.0, 0, 0]} for row in rows
        ]
        labels.commit(ref.unit, _table(zeros, LABELS_SCHEMA))
    for store in (samples, labels):
        store.write_index(store.committed())
    folder = root.child("fits", "f")
    save_student(folder, _adding_student(), spec=SPEC, label_space=space)
    return manifest, labels, folder


def _samples_of(rows, schema):
    made = []
    for row in rows:
        number = int(row.key.split("/")[1])
        _, a, b = ROWS[number] if row.split == "test" else (0, [0.0] * 3, [0.0] * 2)
        made.append({"sample_id": row.sample_id, "status": "ok" if a else "partial", "error": None})
        for name, value in (("a", a), ("b", b)):
            stored = None
            if value is not None:
                stored = encode_modality(np.asarray(value, np.float32), DECODE[name])
            made[-1] |= {name: stored, f"{name}_status": "ok" if value else "missing"}
            made[-1][f"{name}_signature"] = None
    return _table(made, schema)


def _table(rows, schema):
    return pa.Table.from_pylist(rows, schema=schema)


def _contribution(root, space=SPACE, noise_levels=()):
    manifest, labels, folder = _world(root, space)
    predicting = PredictionPlan(root, "s", decode_spec_to_dict(DECODE), {"f": folder})
    arms = run_predictions(predicting, refs_with_truth(manifest))
    compared = EvaluationPlan(manifest, labels, arms, [FitColumn("mke", 0, "f")], "mke")
    both = ["a", "b"]
    more = {"noise_levels": noise_levels}
    plan = contribution_plan(predicting, fit="f", folder=folder, modalities=both, **more)
    store = run_predictions(plan, manifest.unit_refs(["test"]))
    more = {"knows_gaps": True, "noise": plan.noise}
    found = measure_contribution(compared, store, fit="f", modalities=both, **more)
    return found, compared, plan, store


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path))


def test_a_modality_is_worth_what_is_lost_without_it(root):
    found, compared, _, _ = _contribution(root)
    assert found.whole.value == evaluate(compared).arms["mke"].value == 1.0
    assert found.without("b").value == found.alone("a").value == 0.5  # 0, 2; no a at 3
    assert found.without("a").value == found.alone("b").value == 0.75  # 0, 1, 3
    assert found.without("b").change == -0.5 and found.without("a").change == -0.25
    assert found.arm == "mke" and found.modalities == ("a", "b")
    low, high = found.without("b").change_ci95
    assert -1.0 <= low < -0.5 < high <= 0.0


def test_a_hidden_modality_is_as_if_it_was_missing(root):
    _, compared, _, store = _contribution(root)
    refs = list(compared.manifest.unit_refs(["test"]))
    rows = [row for ref in refs for row in store.read(ref.unit).to_pylist()]
    by_key = {row["sample_id"]: row for row in rows}
    listed = [row for ref in refs for row in compared.manifest.read_unit(ref)]
    second = next(by_key[row.sample_id] for row in listed if row.key.startswith("test/1/"))
    assert second["f/a"] == [1.0, 0.0, 0.0] and second["f/b"] == [0.0, 3.0, 0.0]
    assert second["f/a,b"] == [1.0, 3.0, 0.0]
    last = next(by_key[row.sample_id] for row in listed if row.key.startswith("test/3/"))
    assert last["f/a"] is None and last["f/b"] == [0.0, 1.0, 0.0]


def test_only_the_test_split_is_predicted_and_one_network_is_loaded(root):
    _, compared, plan, store = _contribution(root)
    assert store.committed() == {one.unit for one in compared.manifest.unit_refs(["test"])}
    students = plan.worker()._students
    assert list(students) == ["f/a", "f/a,b", "f/b"]
    assert len({id(one) for one in students.values()}) == 1


def test_noise_on_a_modality_changes_that_one_alone_and_comes_by_rising_level(root):
    found, compared, plan, store = _contribution(root, noise_levels=(100.0, 0.001))
    assert [(one.modality, one.level) for one in found.noisy] == [
        ("a", 0.001), ("a", 100.0), ("b", 0.001), ("b", 100.0)
    ]  # fmt: skip
    least, most = found.noisy[0].result, found.noisy[1].result
    assert least.value == found.whole.value == 1.0 and least.change == 0.0
    assert most.value < 1.0 and most.change == most.value - 1.0
    refs = list(compared.manifest.unit_refs(["test"]))
    rows = [row for ref in refs for row in store.read(ref.unit).to_pylist()]
    third = [row["f/b+100"][2] - row["f/a,b"][2] for row in rows]
    assert third == [0.0] * len(rows)  # b says nothing of the third class
    assert any(row["f/b+100"][0] != row["f/a,b"][0] for row in rows)
    assert plan.spec["noise"]["f/a+100"] == ["a", 100.0]


def test_predictions_of_all_modalities_keep_the_name_of_their_store(root):
    plan = PredictionPlan(root, "s", {}, {"f": root})
    assert plan.spec == {"samples": "s", "fits": ["f"]}
    hidden = contribution_plan(plan, fit="f", folder=root, modalities=["a", "b"])
    assert hidden.name != plan.name and hidden.spec["seen"]["f/a"] == ["a"]


def test_many_classes_are_measured_by_mean_average_precision(root):
    space = LabelSpace(SPACE.classes, kind="multi")
    found, compared, _, _ = _contribution(root, space)
    assert found.whole.value == pytest.approx(evaluate(compared).arms["mke"].value)
    assert found.without("b").value < found.whole.value
    assert found.without("b").change == pytest.approx(found.without("b").value - found.whole.value)


def test_gains_are_measured_against_the_reference(root):
    rows = [source_row("test", n, (n % 3,)) for n in range(6)]
    say = {
        TEACHER: lambda row: [1.0, 0.0, 0.0],
        "f": lambda row: [0.0, 0.0, 1.0],
        "g": lambda row: [float(row.labels[0] == one) for one in range(3)],
    }
    found = evaluate(replace(plan_of(root, rows, say), reference="g")).arms
    assert found["mke"].gain == pytest.approx((2 / 6 + 1.0) / 2 - 1.0)


def test_class_maps_are_measured_by_mean_iou(tmp_path):
    write_folders(tmp_path / "nyu")
    root = open_root(str(tmp_path / "run"))
    labelling = make_plan(root, tmp_path / "nyu")
    run_pass(labelling, labelling.manifest.unit_refs(), LocalRunner())
    pyramid = {"type": "pyramid", "channels": [4, 4]}
    spec = {
        "encoders": {"rgb": pyramid, "depth": {**pyramid, "reads": "hha"}},
        "fusion": {"type": "add"},
        "decoder": {"channels": [4]},
    }
    torch.manual_seed(1)
    folder = root.child("fits", "g")
    space = labelling.manifest.label_space
    student = build_student(spec, 13)
    student.output.bias.data[:] = -1e4
    student.output.bias.data[[4, 11]] = 0.0  # so that it names the two classes that occur
    save_student(folder, student, spec=spec, label_space=space)
    samples = labelling.samples.root.uri.rsplit("/", 1)[-1]
    predicting = PredictionPlan(root, samples, DENSE_DECODE, {"g": folder}, is_dense=True)
    compared = EvaluationPlan(
        labelling.manifest,
        labelling.teachers[0].labels,
        run_predictions(predicting, refs_with_truth(labelling.manifest)),
        [FitColumn("mke", 0, "g")],
        "mke",
        samples=sample_reader(labelling.samples, root, None),
        decode=DENSE_DECODE,
    )
    modalities = ["rgb", "depth"]
    plan = contribution_plan(predicting, fit="g", folder=folder, modalities=modalities)
    store = run_predictions(plan, labelling.manifest.unit_refs(["test"]))
    found = measure_contribution(compared, store, fit="g", modalities=modalities, knows_gaps=False)
    assert found.whole.value == pytest.approx(evaluate(compared).arms["mke"].value)
    assert found.modalities == ("depth", "rgb")
    assert found.without("rgb").value != found.whole.value
    assert found.without("rgb").change == pytest.approx(
        found.without("rgb").value - found.whole.value
    )
