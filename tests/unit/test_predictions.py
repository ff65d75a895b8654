"""What students say of stored samples, unit by unit, and when it is said anew."""

import contextlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from listed_rows import DECODE, SPACE, STATUSES, ListSource, kind_of, source_row

from mke_ray.data.codec import encode_modality
from mke_ray.data.manifest import write_manifest
from mke_ray.errors import ConfigError
from mke_ray.evaluation import (
    EvaluateWorker,
    PredictionPlan,
    refs_with_truth,
    run_predictions,
)
from mke_ray.evaluation.predictions import predict
from mke_ray.labels.labelling import LocalRunner
from mke_ray.labels.store import UnitStore
from mke_ray.models.student import build_student
from mke_ray.models.weights import load_student, save_student
from mke_ray.schema import (
    decode_spec_to_dict,
    samples_schema,
)
from mke_ray.storage import open_root


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path))


def students_of(root, rows):
    """Write samples and two fits: one reads both modalities, one only b."""
    manifest = write_manifest(root.child("manifest"), ListSource(rows), unit_size=4)
    plain = decode_spec_to_dict(DECODE)
    samples = UnitStore.open_or_create(
        root.child("samples", "s"), spec={"decode": plain}, schema=samples_schema(DECODE)
    )
    for ref in manifest.unit_refs():
        unit = manifest.read_unit(ref)
        samples.commit(ref.unit, samples_table(unit), {"split": ref.split})
    for fit, modalities in (("both", "ab"), ("only_b", "b")):
        torch.manual_seed(len(fit))
        encoders = {
            name: {"type": "features", "num_inputs": DECODE[name].num_features, "hidden": [4]}
            for name in modalities
        }
        spec = {"encoders": encoders, "fusion": {"type": "concat"}, "head_hidden": [4]}
        student = build_student(spec, 3)
        save_student(root.child("students", fit), student, spec=spec, label_space=SPACE)
    students = {fit: root.child("students", fit) for fit in ("only_b", "both")}
    return manifest, PredictionPlan(root, "s", plain, students)


def arrays_of(row):
    rng = np.random.default_rng(abs(row.sample_id))
    arrays = {name: rng.normal(size=one.num_features).astype("f4") for name, one in DECODE.items()}
    missing = {"partial": "b", "bad": "ab"}.get(kind_of(row), "")
    return {name: array for name, array in arrays.items() if name not in missing}


def samples_table(rows):
    columns = {
        "sample_id": [row.sample_id for row in rows],
        "status": [STATUSES.get(kind_of(row), "ok") for row in rows],
        "error": [None] * len(rows),
    }
    for name, spec in DECODE.items():
        found = [arrays_of(row).get(name) for row in rows]
        columns[name] = [None if x is None else encode_modality(x, spec) for x in found]
        columns[f"{name}_status"] = ["gone" if x is None else "ok" for x in found]
        columns[f"{name}_signature"] = [None] * len(rows)
    return pa.table(columns, schema=samples_schema(DECODE))


def test_predictions_are_what_each_student_says_of_the_whole_stored_sample(root):
    kinds = ["ok", "partial", "bad", "ok"]
    rows = [source_row("test", n, (0,), kind=kind) for n, kind in enumerate(kinds)]
    manifest, plan = students_of(root, rows)
    store = run_predictions(plan, refs_with_truth(manifest))
    (ref,) = manifest.unit_refs()
    table = store.read(ref.unit)
    for fit, folder in plan.students.items():
        student = load_student(folder).student
        for row, said in zip(manifest.read_unit(ref), table.column(fit).to_pylist(), strict=True):
            arrays = arrays_of(row)
            seen = {name: torch.tensor(arrays[name])[None] for name in arrays}
            if not set(seen) & set(student.modalities):
                assert said is None
                continue
            present = {name: torch.ones(1, dtype=torch.bool) for name in seen}
            expected = student(seen, present).detach().numpy()[0]
            np.testing.assert_allclose(said, expected, atol=1e-5)
    assert table.column("status").to_pylist() == kinds


def test_predictions_that_are_there_are_not_made_again(root):
    manifest, plan = students_of(root, [source_row("test", n, (0,)) for n in range(8)])
    asked, told = [], []

    def runner(plan, refs):
        asked.append(len(refs))
        yield from LocalRunner().run(plan, refs)

    refs = list(refs_with_truth(manifest))
    run_predictions(plan, refs[:1], runner=runner)
    store = run_predictions(plan, refs, runner=runner, progress=lambda *done: told.append(done))
    run_predictions(plan, refs, runner=runner)
    assert asked == [1, 1]
    assert told == [(8, 8)]
    assert len(store.index()) == 2


def test_predictions_of_samples_that_were_read_again_are_made_anew(root):
    manifest, plan = students_of(root, [source_row("test", n, (0,)) for n in range(8)])
    asked = []

    def runner(plan, refs):
        asked.append([ref.unit for ref in refs])
        yield from LocalRunner().run(plan, refs)

    refs = list(refs_with_truth(manifest))
    run_predictions(plan, refs, runner=runner)
    samples, again = plan.sample_store(), refs[1].unit
    other = samples.read(refs[0].unit).set_column(
        0, samples.schema.field(0), samples.read(again).column(0)
    )
    samples.supersede(again, other, {"revision": 1}, of=samples.record(again))
    samples.write_index([ref.unit for ref in refs])
    store = run_predictions(plan, refs, runner=runner)
    assert asked[1:] == [[again]]
    assert store.read(again).column("both").equals(store.read(refs[0].unit).column("both"))
    run_predictions(plan, refs, runner=runner)
    assert len(asked) == 2


def test_another_set_of_fits_is_another_store(root):
    _, plan = students_of(root, [source_row("test", n, (0,)) for n in range(4)])
    both, elsewhere = plan.students["both"], root.child("elsewhere")
    turned = {"both": elsewhere, "only_b": elsewhere}
    assert replace(plan, students=turned).name == plan.name
    assert replace(plan, students={"both": both}).name != plan.name
    assert replace(plan, samples="other").name != plan.name


@pytest.mark.parametrize("device", ["meta", "nonsense", "cuda:99"])
def test_a_device_that_cannot_compute_is_refused_before_anything_is_written(root, device):
    manifest, plan = students_of(root, [source_row("test", n, (0,)) for n in range(4)])
    (ref,) = manifest.unit_refs()
    with pytest.raises(
        ConfigError, match=rf"device={device} cannot compute.*labelling\.num_gpus=0"
    ):
        EvaluateWorker(replace(plan, device=device)).run(ref)
    assert plan.store().committed() == set()


def test_students_and_batch_are_put_on_the_device_of_the_plan(root, monkeypatch):
    # "meta" takes part in computations like any device, but has no numbers to bring back.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr("mke_ray.evaluation.predictions.checked_device", torch.device)
    manifest, plan = students_of(root, [source_row("test", n, (0,)) for n in range(4)])
    worker = EvaluateWorker(replace(plan, device="meta"))
    with pytest.raises(NotImplementedError, match="meta"):
        worker.run(next(manifest.unit_refs()))
    assert {one.output.weight.device.type for one in worker._students.values()} == {"meta"}


def test_answers_come_back_on_the_cpu_in_single_precision():
    spec = {"encoders": {"a": {"type": "features", "num_inputs": 3}}, "fusion": {"type": "concat"}}
    student = build_student(spec, 3).double().eval()
    arrays, present = {"a": torch.ones(2, 3).double()}, {"a": torch.ones(2, dtype=torch.bool)}
    logits_BC, seen_B = predict(student, arrays, present, device=torch.device("cpu"))
    assert logits_BC.dtype == np.float32 and seen_B.all()
