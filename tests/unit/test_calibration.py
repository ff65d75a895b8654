"""How far confidence is from accuracy, of answers that stream by and of every pixel."""

import json

import numpy as np
import pytest
from dense_world import DECODE, make_plan, write_folders
from listed_rows import source_row
from test_evaluation import plan_of
from torchmetrics.functional.classification import multiclass_calibration_error

from mke_ray.data.codec import decode_modality
from mke_ray.evaluation import TEACHER, EvaluationPlan
from mke_ray.evaluation.calibration import (
    Calibration,
    ConfidenceBins,
    student_calibration,
    teacher_calibration,
)
from mke_ray.evaluation.results import ConfidenceBin
from mke_ray.labels.dense import DenseForm, packed_rows
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.sample_reader import sample_reader
from mke_ray.schema import IGNORE, decode_spec_from_dict
from mke_ray.storage import open_root


def test_the_error_is_the_mean_gap_between_confidence_and_accuracy():
    bins = ConfidenceBins(num_bins=2)
    bins.add(np.array([0.3, 0.4]), np.array([True, False]))
    bins.add(np.array([0.9, 1.0]), np.array([True, False]))
    assert bins.error() == pytest.approx(0.5 * abs(0.35 - 0.5) + 0.5 * abs(0.95 - 0.5))
    assert ConfidenceBins().error() is None
    assert bins.bins() == (
        ConfidenceBin(0.0, 0.5, 2, pytest.approx(0.35), 0.5),
        ConfidenceBin(0.5, 1.0, 2, pytest.approx(0.95), 0.5),
    )


def test_a_student_and_its_teacher_are_asked_on_the_test_split_alone(tmp_path):
    rows = [source_row("test", n, (n % 2,)) for n in range(10)]
    rows += [source_row("probe", n, (0,)) for n in range(4)]
    say = {
        TEACHER: lambda row: [4.0, 0.0, 0.0],  # right in half, and sure
        "f": lambda row: [4.0 * float(row.labels[0] == one) for one in range(3)],
    }
    plan = plan_of(open_root(str(tmp_path)), rows, say)
    sure = np.exp(4.0) / (np.exp(4.0) + 2)
    teacher = teacher_calibration(plan, 2.0)
    assert teacher.before == pytest.approx(sure - 0.5, abs=1e-5)
    (only,) = teacher.bins_before
    assert (only.num, only.accuracy) == (10, 0.5) and only.confidence == pytest.approx(sure)
    assert teacher.bins_after[0].confidence == pytest.approx(np.exp(2) / (np.exp(2) + 2))
    student = student_calibration(plan, "f", 1.0)
    assert student.before == student.after == pytest.approx(1 - sure, abs=1e-5)
    assert Calibration.from_dict(json.loads(json.dumps(teacher.to_dict()))) == teacher


def test_the_error_of_pixels_is_that_of_a_library_over_all_of_them(tmp_path):
    write_folders(tmp_path / "nyu")
    root = open_root(str(tmp_path / "run"))
    labelling = make_plan(root, tmp_path / "nyu", top_k=13)
    run_pass(labelling, labelling.manifest.unit_refs(), LocalRunner())
    labels, samples = labelling.teachers[0].labels, labelling.samples
    plan = EvaluationPlan(
        labelling.manifest,
        labels,
        labels,
        [],
        "mke",
        samples=sample_reader(samples, root, None),
        decode=DECODE,
    )
    found = teacher_calibration(plan, 3.0)
    form, said, truth = DenseForm.of_spec(labels.spec), {1.0: [], 3.0: []}, []
    spec = decode_spec_from_dict(DECODE)["mask"]
    for ref in labelling.manifest.unit_refs(["test"]):
        masks = samples.read(ref.unit, columns=["sample_id", "mask"]).column("mask").to_pylist()
        truth += [decode_modality(one, spec).ravel() for one in masks]
        for packed in packed_rows(labels.read(ref.unit)):
            for one, kept in said.items():
                kept.append(form.soft(packed, temperature=one).reshape(13, -1).T)
    known_N = np.concatenate(truth) != IGNORE
    wanted = {
        one: float(
            multiclass_calibration_error(
                _tensor(np.concatenate(kept)[known_N]),
                _tensor(np.concatenate(truth)[known_N].astype(np.int64)),
                13,
                n_bins=15,
            )
        )
        for one, kept in said.items()
    }
    assert (found.before, found.after) == pytest.approx((wanted[1.0], wanted[3.0]), abs=1e-4)
    assert found.temperature == 3.0
    assert sum(one.num for one in found.bins_before) == known_N.sum()


def _tensor(array):
    import torch

    return torch.from_numpy(array)
