"""How far confidence is from accuracy, of answers that stream by and of every pixel."""

import numpy as np
import pytest
from dense_world import DECODE, make_plan, write_folders
from torchmetrics.functional.classification import multiclass_calibration_error

from mke_ray.data.codec import decode_modality
from mke_ray.evaluation import EvaluationPlan
from mke_ray.evaluation.calibration import ConfidenceBins, teacher_calibration
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


def _tensor(array):
    import torch

    return torch.from_numpy(array)
