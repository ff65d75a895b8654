"""What is special about fits of dense labels: class weights, the decoder, the select part."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_stores import fit_spec

from mke_ray.errors import ConfigError
from mke_ray.models import build_student
from mke_ray.models.weights import student_files
from mke_ray.pixel_metrics import PixelCounts
from mke_ray.schema import Batch, LabelKind, LabelSpace
from mke_ray.storage import open_root
from mke_ray.train.class_weights import class_weights, objective_spec
from mke_ray.train.fits import FitStore
from mke_ray.train.starting import start_from
from mke_ray.train.validation import Validation

SPACE = LabelSpace(("wall", "floor", "bed"), LabelKind.DENSE, 255)
DENSE = {"_target_": "mke_ray.objectives.MKEObjective", "kind": "dense", "alpha": 0.0}
ENCODERS = {
    "rgb": {"type": "pyramid", "channels": [4, 4]},
    "depth": {"type": "pyramid", "channels": [4, 4], "reads": "metres"},
}


def student_spec(*modalities, decoder=4):
    return {
        "encoders": {name: ENCODERS[name] for name in modalities},
        "fusion": {"type": "add"},
        "decoder": {"channels": [decoder]},
    }


def batch_of(target, weight=None):
    target = torch.as_tensor(target)
    num, height, width = len(target), *target.shape[-2:]
    return Batch(
        torch.arange(num),
        {"rgb": torch.randint(0, 255, (num, height, width, 3), dtype=torch.uint8)},
        {"rgb": torch.ones(num, dtype=torch.bool)},
        target,
        torch.ones(num) if weight is None else torch.tensor(weight),
    )


class Batches:
    """A feed of batches that a test writes down."""

    def __init__(self, *batches):
        self._batches = batches
        self.batches_per_epoch = len(batches)

    def first_batches(self, batch_size):
        yield from self._batches

    def batches(self, start, stop):
        yield from (SimpleNamespace(batch=one) for one in self._batches[start:stop])


HARD = np.array([[[0, 0, 0, 0, 1, 255]], [[0, 0, 0, 0, 1, 255]]], np.uint8)


def test_class_weights_are_shares_to_the_power_with_a_mean_of_one_over_pixels_by_hand():
    spec = fit_spec(class_balance=0.5, objective=DENSE)
    weights = class_weights(spec, Batches(batch_of(HARD)), num_classes=3)
    # Shares 8/10 and 2/10: 1.118 and 2.236, over pixels 1.342; what never occurs weighs 0.
    assert weights == pytest.approx([5 / 6, 5 / 3, 0.0])


def test_soft_targets_are_counted_by_their_probabilities():
    soft = torch.zeros(1, 3, 1, 2)
    soft[0, 0, 0, 0], soft[0, 1, 0, 0] = 0.8, 0.2
    spec = fit_spec(class_balance=0.5, objective=DENSE)
    weights = class_weights(spec, Batches(batch_of(soft)), num_classes=3)
    assert weights == pytest.approx([5 / 6, 5 / 3, 0.0])


def test_an_objective_is_left_alone_without_a_balance():
    spec = fit_spec(objective=DENSE)
    assert objective_spec(spec, Batches(batch_of(HARD)), num_classes=3) == DENSE


def test_a_balance_of_labels_that_are_not_dense_is_refused():
    spec = fit_spec(class_balance=0.5)
    with pytest.raises(ConfigError, match="needs an objective of mke_ray for dense labels"):
        objective_spec(spec, Batches(batch_of(HARD)), num_classes=3)


def test_a_fit_without_a_balance_keeps_the_fingerprint_of_before():
    spec = fit_spec()
    assert replace(spec, class_balance=0.0).fingerprint() == spec.fingerprint()
    assert replace(spec, class_balance=0.5).fingerprint() != spec.fingerprint()
    assert "class_balance" in spec.to_dict()


def stored_teacher(root, spec):
    torch.manual_seed(7)
    teacher = build_student(spec, 3)
    files = student_files(teacher, spec=spec, label_space=SPACE)
    FitStore(root).save("teacher", {**files, "fit.json": b"{}", "history.json": b"[]"})
    return teacher


def test_a_student_starts_with_the_encoder_and_the_decoder_of_its_teacher(tmp_path):
    root = open_root(str(tmp_path))
    teacher = stored_teacher(root, student_spec("rgb"))
    student = build_student(student_spec("rgb", "depth"), 3)
    before = {name: one.clone() for name, one in student.state_dict().items()}
    start_from(student, fit_spec(init_from="teacher"), root)
    after, theirs = student.state_dict(), teacher.state_dict()
    for name, one in after.items():
        is_copied = name.startswith(("encoders.rgb.", "decoder.", "output."))
        assert torch.equal(one, theirs[name] if is_copied else before[name]), name


def test_a_decoder_of_another_shape_than_the_teachers_is_named(tmp_path):
    root = open_root(str(tmp_path))
    stored_teacher(root, student_spec("rgb"))
    student = build_student(student_spec("rgb", "depth", decoder=6), 3)
    with pytest.raises(ConfigError, match=r"student\.decoder differs"):
        start_from(student, fit_spec(init_from="teacher"), root)


def test_validation_of_dense_labels_is_the_mean_iou_of_the_rows_that_count():
    student = build_student(student_spec("rgb"), 3).eval()
    generator = torch.Generator().manual_seed(0)
    first = batch_of(torch.randint(0, 3, (2, 4, 6), generator=generator).to(torch.uint8))
    second = batch_of(
        torch.randint(0, 3, (2, 4, 6), generator=generator).to(torch.uint8), weight=[1.0, 0.0]
    )
    said = [student(one.arrays, one.present).argmax(1).numpy() for one in (first, second)]
    named = np.concatenate([said[0], said[1][:1]])
    truth = np.concatenate([first.target_BC.numpy(), second.target_BC.numpy()[:1]])
    validate = Validation(Batches(first, second), device=torch.device("cpu"), label_space=SPACE)
    expected = PixelCounts.of_maps(named, truth, 3).miou()
    assert validate(student) == {"select_miou": pytest.approx(expected)}


def test_validation_reads_one_hot_class_maps_like_hard_ones():
    student = build_student(student_spec("rgb"), 3).eval()
    hard = batch_of(np.where(HARD == 255, 255, HARD))
    one_hot = torch.nn.functional.one_hot(hard.target_BC.long().clamp(max=3), 4)[..., :3]
    soft = replace(hard, target_BC=one_hot.permute(0, 3, 1, 2).float())
    found = [
        Validation(Batches(one), device=torch.device("cpu"), label_space=SPACE)(student)
        for one in (hard, soft)
    ]
    assert found[0] == found[1]
